"""Propagates particles through the solenoid and reconstructs the tracks of charged particles.

Efficiency and resolution are those of the CMS card of Delphes 3 with 6 % resolution at low pT.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Floats, Ints
from hepllm.config import DetectorConfig
from hepllm.physics.generated import ELECTRON, MUON, GeneratedParticles

CURVATURE = 0.299792458
"""pT [GeV] of a unit charge on a circle of 1 m in 1 T."""

TRACK_PT_MIN = 0.1
"""GeV; below it the tracking efficiency of the CMS card is 0."""

TRACK_ETA_MAX = 2.5

EFFICIENCY_ETA_EDGES = np.array([1.5])
EFFICIENCY_PT_EDGES = np.array([1.0, 100.0])
TRACK_EFFICIENCY = {
    ELECTRON: np.array([[0.73, 0.95, 0.99], [0.50, 0.83, 0.90]]),
    MUON: np.array([[0.75, 0.99, 0.99], [0.70, 0.98, 0.98]]),
    0: np.array([[0.70, 0.95, 0.95], [0.60, 0.85, 0.85]]),
}
"""By species (0: hadrons), |eta| (up to 1.5, above) and pT (up to 1, up to 100 GeV, above)."""

RESOLUTION_ETA_EDGES = np.array([0.5, 1.5])
TRACK_RESOLUTION = {
    ELECTRON: np.array([[0.03, 1.3e-3], [0.05, 1.7e-3], [0.15, 3.1e-3]]),
    MUON: np.array([[0.01, 1.0e-4], [0.015, 1.5e-4], [0.025, 3.5e-4]]),
    0: np.array([[0.06, 1.3e-3], [0.10, 1.7e-3], [0.25, 3.1e-3]]),
}
"""sigma(pT)/pT = sqrt(a^2 + (b pT)^2), rows (a, b [1/GeV]) by |eta| (arXiv:1405.6569)."""


@dataclass(frozen=True)
class Tracks:
    """Tracks where they enter the calorimeters; arrays of equal length."""

    event: Ints
    species: Ints
    pt: Floats
    eta: Floats
    phi: Floats
    resolution: Floats
    entry_eta: Floats
    entry_phi: Floats

    @property
    def energy(self) -> Floats:
        """Energy in GeV of massless particles, as in Delphes."""
        return self.pt * np.cosh(self.eta)


def propagate(
    generated: GeneratedParticles, config: DetectorConfig
) -> tuple[Floats, Floats, Bools]:
    """Follows particles from their vertex to the cylinder of the calorimeters.

    A charged particle moves on a helix; at low pT it loops until it reaches an end cap.

    Returns:
        Pseudorapidity and azimuth of the entry point, and the mask of particles that have one.
    """
    x, y, z = (generated.vertex / 1000.0).T
    pt = generated.pt
    inside = (np.hypot(x, y) < config.radius) & (np.abs(z) < config.half_length) & (pt > 1e-5)
    bent = inside & (generated.charge != 0) & (config.magnetic_field > 0)
    entry = np.full((len(pt), 3), np.nan)
    for follow, chosen in ((_helix, bent), (_line, inside & ~bent)):
        entry[chosen] = follow(
            np.stack([x, y, z])[:, chosen],
            np.stack([generated.px, generated.py, generated.pz])[:, chosen],
            generated.charge[chosen],
            config,
        ).T
    distance = np.hypot(entry[:, 0], entry[:, 1])
    reached = np.isfinite(distance) & (distance > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        eta = np.arcsinh(entry[:, 2] / distance)
    return eta, np.arctan2(entry[:, 1], entry[:, 0]), reached


def _line(vertex: Floats, momentum: Floats, _: Floats, config: DetectorConfig) -> Floats:
    """Entry points in m, shape (3, particles), of straight lines."""
    (x, y, z), (px, py, pz) = vertex, momentum
    pt = np.hypot(px, py)
    along = (px * x + py * y) / pt
    across = (px * y - py * x) / pt
    path = np.sqrt(config.radius**2 - across**2) - along
    path = np.minimum(path, _path_to_end(z, pz / pt, config.half_length))
    entry: Floats = vertex + momentum / pt * path
    return entry


def _helix(vertex: Floats, momentum: Floats, charge: Floats, config: DetectorConfig) -> Floats:
    """Entry points in m, shape (3, particles), of helices around the beam axis.

    With the signed radius r, the centre (c cos(f), c sin(f)) and the turning angle a, the squared
    distance from the axis is c^2 + r^2 + 2 r c sin(a - phi + f); it is that of the cylinder where
    the sine is s, and never if |s| > 1.
    """
    (x, y, z), (px, py, pz) = vertex, momentum
    pt, phi = np.hypot(px, py), np.arctan2(py, px)
    radius = pt / (CURVATURE * charge * config.magnetic_field)
    centre_x, centre_y = x + radius * np.sin(phi), y - radius * np.cos(phi)
    distance, angle = np.hypot(centre_x, centre_y), np.arctan2(centre_y, centre_x)
    sine = (config.radius**2 - distance**2 - radius**2) / (2 * radius * distance)
    crosses = np.abs(sine) <= 1
    arc = np.arcsin(np.where(crosses, sine, 0.0))
    turn = np.sign(charge)
    to_sides = [phi - angle + arc, phi - angle + np.pi - arc]
    sides = np.min(np.mod(turn * to_sides, 2 * np.pi), axis=0)
    ends = _path_to_end(z, pz / pt, config.half_length) / np.abs(radius)
    turned = np.minimum(np.where(crosses, sides, np.inf), ends)
    turned = np.where(np.isfinite(turned), turned, np.nan)
    direction = turn * turned - phi
    entry_x, entry_y = centre_x + radius * np.sin(direction), centre_y + radius * np.cos(direction)
    return np.stack([entry_x, entry_y, z + pz / pt * np.abs(radius) * turned])


def _path_to_end(z: Floats, slope: Floats, half_length: float) -> Floats:
    """Transverse path in m to an end cap; infinite for a particle perpendicular to the beam."""
    remaining = np.where(slope > 0, half_length - z, half_length + z)
    path = np.full_like(z, np.inf)
    # Below this slope the end cap is a million kilometres away.
    return np.divide(remaining, np.abs(slope), out=path, where=np.abs(slope) > 1e-9)


def track_efficiency(species: Ints, eta: Floats, pt: Floats) -> Floats:
    """Probability that a charged particle leaves a track (Delphes CMS card)."""
    region = np.searchsorted(EFFICIENCY_ETA_EDGES, np.abs(eta), side="left")
    momentum = np.searchsorted(EFFICIENCY_PT_EDGES, pt, side="left")
    efficiency = TRACK_EFFICIENCY[0][region, momentum]
    for lepton in (ELECTRON, MUON):
        chosen = species == lepton
        efficiency[chosen] = TRACK_EFFICIENCY[lepton][region[chosen], momentum[chosen]]
    return np.where((np.abs(eta) <= TRACK_ETA_MAX) & (pt > TRACK_PT_MIN), efficiency, 0.0)


def track_resolution(species: Ints, eta: Floats, pt: Floats) -> Floats:
    """Relative standard deviation of a track's pT (Delphes CMS card)."""
    region = np.searchsorted(RESOLUTION_ETA_EDGES, np.abs(eta), side="left")
    terms = TRACK_RESOLUTION[0][region]
    for lepton in (ELECTRON, MUON):
        chosen = species == lepton
        terms[chosen] = TRACK_RESOLUTION[lepton][region[chosen]]
    resolution: Floats = np.hypot(terms[:, 0], terms[:, 1] * pt)
    return resolution


def reconstruct_tracks(
    generated: GeneratedParticles,
    entry_eta: Floats,
    entry_phi: Floats,
    generator: np.random.Generator,
) -> Tracks:
    """Draws which charged particles leave a track, and smears its momentum at the vertex."""
    pt = generated.pt
    efficiency = track_efficiency(generated.species, entry_eta, pt)
    found = (generator.random(len(pt)) < efficiency) & (generated.charge != 0)
    species, pt, entry_eta = generated.species[found], pt[found], entry_eta[found]
    resolution = track_resolution(species, entry_eta, pt)
    return Tracks(
        event=generated.event_of_particle()[found],
        species=species,
        pt=log_normal(pt, resolution * pt, generator),
        eta=np.arcsinh(generated.pz[found] / pt),
        phi=np.arctan2(generated.py[found], generated.px[found]),
        resolution=resolution,
        entry_eta=entry_eta,
        entry_phi=entry_phi[found],
    )


def log_normal(mean: Floats, sigma: Floats, generator: np.random.Generator) -> Floats:
    """Positive random numbers with this mean and standard deviation; 0 where the mean is 0."""
    noise = generator.standard_normal(len(mean))
    relative = np.divide(sigma, mean, out=np.zeros_like(mean), where=mean > 0)
    width = np.sqrt(np.log1p(relative**2))
    numbers: Floats = mean * np.exp(width * noise - width**2 / 2)
    return numbers
