"""Stable particles as a generator makes them, and the codes that the detector tells apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Floats, Ints

ELECTRON, MUON, PHOTON = 11, 13, 22
NEUTRINOS = (12, 14, 16)
K0_SHORT, LAMBDA = 310, 3122


@dataclass(frozen=True)
class GeneratedParticles:
    """Stable particles of N events as a generator makes them, stored flat like ``Particles``.

    Attributes:
        px: momentum in GeV, all events after one another; py and pz likewise.
        py: see px.
        pz: see px.
        energy: in GeV.
        pdg_id: Particle Data Group code.
        charge: in units of the proton's.
        vertex: production points in mm, shape (particles, 3).
        counts: number of particles of each event, shape (N,).
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
        return GeneratedParticles(
            self.px[keep],
            self.py[keep],
            self.pz[keep],
            self.energy[keep],
            self.pdg_id[keep],
            self.charge[keep],
            self.vertex[keep],
            np.bincount(event, minlength=len(self)).astype(np.int64),
        )
