"""A fast parameterised detector like Delphes, vectorised over events.

The chain is that of Delphes 3 with its CMS card and no pile-up (de Favereau et al.,
arXiv:1307.6346): propagation through the solenoid, tracking efficiency and resolution, an
electromagnetic and a hadronic tower grid with resolution and thresholds, and energy flow, where
each tower either yields a neutral candidate beside its tracks or corrects the energy of its tracks.

No parameter is fitted. The real R&D events decided between versions of the card: the lowest
energies of their candidates, 2.26 GeV below |eta| = 3 and 7.4 GeV above, are the HCAL thresholds at
one resolution; an ECAL threshold at one resolution would be visible at 4.4 GeV, and is not.
"""

from __future__ import annotations

import numpy as np

from hepllm.config import DetectorConfig
from hepllm.physics.calorimeter import Candidates, Hits, calorimeters, energy_flow
from hepllm.physics.events import Particles, positions_in_runs
from hepllm.physics.generated import NEUTRINOS, GeneratedParticles
from hepllm.physics.tracking import propagate, reconstruct_tracks


def detect(
    generated: GeneratedParticles, config: DetectorConfig, generator: np.random.Generator
) -> Particles:
    """Reconstructs massless candidates (tracks, photons, neutral hadrons) of generated events.

    The same state of the random generator gives the same events. With ``enabled: false`` the
    candidates are the visible particles.

    Returns:
        As many events, each in falling pT; an event may be empty.
    """
    if not config.enabled:
        return visible_particles(generated, config)
    entry_eta, entry_phi, reached = propagate(generated, config)
    generated = generated.select(reached)
    entry_eta, entry_phi = entry_eta[reached], entry_phi[reached]
    tracks = reconstruct_tracks(generated, entry_eta, entry_phi, generator)
    event = generated.event_of_particle()
    neutrals = []
    for calorimeter in calorimeters(config):
        energy = calorimeter.energy_fraction(generated.species) * generated.energy
        tower = calorimeter.grid.locate(entry_eta, entry_phi)
        absorbed = energy > 0
        hits = Hits(event[absorbed], tower[absorbed], energy[absorbed])
        tracks, towers = energy_flow(calorimeter, hits, tracks, generator)
        neutrals.append(towers)
    charged = Candidates(tracks.event, tracks.pt, tracks.eta, tracks.phi)
    return _collect([charged, *neutrals], len(generated), config)


def visible_particles(generated: GeneratedParticles, config: DetectorConfig) -> Particles:
    """All stable particles except neutrinos, as massless particles in falling pT."""
    generated = generated.select(~np.isin(generated.species, NEUTRINOS) & (generated.pt > 0))
    visible = Candidates(
        generated.event_of_particle(),
        generated.pt,
        np.arcsinh(generated.pz / generated.pt),
        np.arctan2(generated.py, generated.px),
    )
    return _collect([visible], len(generated), config)


def _collect(parts: list[Candidates], n_events: int, config: DetectorConfig) -> Particles:
    """Groups the hardest candidates within the acceptance by event, in falling pT."""
    event, pt, eta, phi = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("event", "pt", "eta", "phi")
    )
    accepted = (np.abs(eta) <= config.eta_max) & (pt >= config.pt_min)
    event, pt, eta, phi = event[accepted], pt[accepted], eta[accepted], phi[accepted]
    order = np.lexsort((-pt, event))
    counts = np.bincount(event, minlength=n_events)
    order = order[positions_in_runs(counts) < config.max_particles]
    kept = np.minimum(counts, config.max_particles).astype(np.int64)
    return Particles(pt[order], eta[order], phi[order], kept)
