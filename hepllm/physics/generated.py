"""Stable particles of an event generator, and the codes that the detector distinguishes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Floats, Ints

ELECTRON, MUON, PHOTON = 11, 13, 22
NEUTRINOS = (12, 14, 16)
K0_SHORT, LAMBDA = 310, 3122


@dataclass(frozen=True)
class GeneratedParticles:
    """Stable particles of N events from a generator, stored flat like ``Particles``.

    Attributes:
        px, py, pz, energy: four-momenta in GeV.
        pdg_id: Particle Data Group codes.
        charge: in units of the proton's charge.
        vertex: production points in mm, shape (particles, 3).
        counts: number of particles per event, shape (N,).
    """

    px: Floats
    py: Floats
    pz: Floats
    energy: Floats
    pdg_id: Ints
    charge: Floats
    vertex: Floats
    counts: Ints

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def pt(self) -> Floats:
        """Transverse momentum in GeV."""
        return np.hypot(self.px, self.py)

    @property
    def species(self) -> Ints:
        """Absolute Particle Data Group code."""
        return np.abs(self.pdg_id)

    def event_of_particle(self) -> Ints:
        """The event number of each particle."""
        return np.repeat(np.arange(len(self)), self.counts)

    def select(self, keep: Bools) -> GeneratedParticles:
        """The particles where the mask, shape (particles,), is true."""
        event = self.event_of_particle()[keep]
        px, py, pz, energy = np.stack([self.px, self.py, self.pz, self.energy])[:, keep]
        pdg_id, charge, vertex = self.pdg_id[keep], self.charge[keep], self.vertex[keep]
        counts = np.bincount(event, minlength=len(self))
        return GeneratedParticles(px, py, pz, energy, pdg_id, charge, vertex, counts)
