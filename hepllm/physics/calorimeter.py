"""Simulates calorimeters and energy flow.

Towers, resolutions and thresholds are those of the CMS card of Delphes 3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hepllm.arrays import Bools, Floats, Ints
from hepllm.config import DetectorConfig
from hepllm.physics.generated import ELECTRON, K0_SHORT, LAMBDA, MUON, NEUTRINOS, PHOTON
from hepllm.physics.tracking import Tracks, log_normal

STRANGE_ECAL_FRACTION = 0.3
"""Mean share of the energy that a K0_S or Lambda that decays in flight leaves in the ECAL."""

ECAL_TERMS = (0.008, 0.11, 0.40)
"""Constant, sqrt(GeV) stochastic and GeV noise term for |eta| < 2.5 (arXiv:1502.02701)."""

ECAL_FORWARD_TERMS = (0.107, 2.08)
HCAL_TERMS = (0.050, 1.50)
HCAL_FORWARD_TERMS = (0.130, 2.70)


@dataclass(frozen=True)
class TowerGrid:
    """Calorimeter towers: slices in eta, each divided evenly in phi.

    Attributes:
        eta_edges: edges of the slices in rising order, shape (slices + 1,).
        n_phi: number of towers per slice, shape (slices,).
    """

    eta_edges: Floats
    n_phi: Ints

    def locate(self, eta: Floats, phi: Floats) -> Ints:
        """Number of the tower at this position; -1 outside the grid."""
        slices = np.searchsorted(self.eta_edges, eta, side="left") - 1
        inside = (slices >= 0) & (slices < len(self.n_phi))
        slices = np.clip(slices, 0, len(self.n_phi) - 1)
        n_phi = self.n_phi[slices]
        column = np.clip(((phi + np.pi) / (2 * np.pi) * n_phi).astype(np.int64), 0, n_phi - 1)
        return np.where(inside, self._offsets[slices] + column, -1)

    def place(self, tower: Ints, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        """Pseudorapidity and azimuth at the relative position (u, v) in [0, 1) within towers."""
        slices = np.searchsorted(self._offsets, tower, side="right") - 1
        low, high = self.eta_edges[slices], self.eta_edges[slices + 1]
        column = tower - self._offsets[slices]
        phi = (column + v) * (2 * np.pi / self.n_phi[slices]) - np.pi
        return low + u * (high - low), phi

    @property
    def size(self) -> int:
        """Number of towers."""
        return int(self.n_phi.sum())

    @property
    def _offsets(self) -> Ints:
        """Number of the first tower of each slice."""
        return np.concatenate([[0], np.cumsum(self.n_phi)[:-1]])


@dataclass(frozen=True)
class Calorimeter:
    """One calorimeter of the energy-flow chain.

    Attributes:
        grid: its towers.
        electromagnetic: whether photons and electrons leave their energy here; otherwise hadrons.
        energy_min: GeV; towers and neutral excesses below it are dropped.
        significance_min: the same threshold in units of the resolution.
    """

    grid: TowerGrid
    electromagnetic: bool
    energy_min: float
    significance_min: float

    def resolution(self, eta: Floats, energy: Floats) -> Floats:
        """Standard deviation of the measured energy in GeV."""
        resolution = ecal_resolution if self.electromagnetic else hcal_resolution
        return resolution(eta, energy)

    def energy_fraction(self, species: Ints) -> Floats:
        """Share of its energy that each particle leaves here, by absolute PDG code."""
        early = np.where(np.isin(species, (ELECTRON, PHOTON)), 1.0, 0.0)
        early[np.isin(species, (K0_SHORT, LAMBDA))] = STRANGE_ECAL_FRACTION
        early[np.isin(species, (MUON, *NEUTRINOS))] = np.nan
        return np.nan_to_num(early if self.electromagnetic else 1 - early, nan=0.0)


@dataclass(frozen=True)
class Candidates:
    """Massless candidates in any order; arrays of equal length."""

    event: Ints
    pt: Floats
    eta: Floats
    phi: Floats


def ecal_resolution(eta: Floats, energy: Floats) -> Floats:
    """Standard deviation in GeV of an electromagnetic tower (eta shape of arXiv:1306.2016)."""
    constant, stochastic, noise = ECAL_TERMS
    central = np.sqrt((constant * energy) ** 2 + stochastic**2 * energy + noise**2)
    forward_constant, forward_stochastic = ECAL_FORWARD_TERMS
    forward = np.sqrt((forward_constant * energy) ** 2 + forward_stochastic**2 * energy)
    eta = np.abs(eta)
    endcap = (2.16 + 5.6 * (eta - 2) ** 2) * central
    return np.where(
        eta <= 1.5, (1 + 0.64 * eta**2) * central, np.where(eta <= 2.5, endcap, forward)
    )


def hcal_resolution(eta: Floats, energy: Floats) -> Floats:
    """Standard deviation in GeV of a hadronic tower (Delphes CMS card)."""
    central = np.abs(eta)[:, np.newaxis] <= 3.0
    terms = np.where(central, np.array(HCAL_TERMS), np.array(HCAL_FORWARD_TERMS))
    resolution: Floats = np.sqrt((terms[:, 0] * energy) ** 2 + terms[:, 1] ** 2 * energy)
    return resolution


def calorimeters(config: DetectorConfig) -> tuple[Calorimeter, Calorimeter]:
    """The electromagnetic and the hadronic calorimeter, from inside to outside."""
    return (
        Calorimeter(ecal_grid(), True, config.ecal_energy_min, config.ecal_significance_min),
        Calorimeter(hcal_grid(), False, config.hcal_energy_min, config.hcal_significance_min),
    )


_FORWARD_EDGES = np.array([3.125, 3.3, 3.475, 3.65, 3.825, 4.0, 4.175, 4.35, 4.525, 4.7, 5.0])
"""|eta| edges of the forward calorimeter's slices."""


def ecal_grid() -> TowerGrid:
    """Towers of 0.0174 x 1 degree up to |eta| = 2.958, then those of the forward calorimeter."""
    central = np.arange(-170, 171) * 0.0174
    edges = np.concatenate([-_FORWARD_EDGES[::-1], central, _FORWARD_EDGES])
    return TowerGrid(edges, np.where(np.abs(edges[1:] + edges[:-1]) / 2 < 2.958, 360, 36))


def hcal_grid() -> TowerGrid:
    """Towers of 5, 10 and 20 degrees in the slices of the CMS hadron calorimeters."""
    barrel = np.arange(1, 19) * 0.087
    endcap = [1.653, 1.74, 1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 2.868, 2.95]
    positive = np.concatenate([barrel, endcap, _FORWARD_EDGES])
    edges = np.concatenate([-positive[::-1], [0.0], positive])
    middle = np.abs(edges[1:] + edges[:-1]) / 2
    return TowerGrid(edges, np.where(middle < 1.653, 72, np.where(middle < 4.525, 36, 18)))


@dataclass(frozen=True)
class Hits:
    """Energy that particles leave in a calorimeter; arrays of equal length, tower -1 for none."""

    event: Ints
    tower: Ints
    energy: Floats


@dataclass(frozen=True)
class _Cells:
    """Towers of all events with deposits or tracks, before measurement; arrays of equal length.

    Attributes:
        deposited: energy that particles leave in the tower, GeV.
        charged: energy of the tracks that point at the tower, GeV.
        charged_variance: variance of that energy, GeV^2.
    """

    event: Ints
    tower: Ints
    deposited: Floats
    charged: Floats
    charged_variance: Floats

    def __len__(self) -> int:
        return len(self.tower)


def energy_flow(
    calorimeter: Calorimeter, hits: Hits, tracks: Tracks, generator: np.random.Generator
) -> tuple[Tracks, Candidates]:
    """One pass of Delphes' energy flow (its module ``SimpleCalorimeter``).

    A tower whose energy significantly exceeds that of its tracks yields the excess as a neutral
    candidate; in other towers the tracks' energies are scaled to the best estimate from both.
    """
    cells, own, of_track = _fill_cells(calorimeter, hits, tracks)
    measured, sigma = _measure(calorimeter, cells, generator)
    excess = np.maximum(measured - cells.charged, 0.0)
    uncertainty = np.sqrt(cells.charged_variance + sigma**2)
    significant = excess > calorimeter.significance_min * uncertainty
    neutral = (excess > calorimeter.energy_min) & significant
    scale = np.where(neutral, 1.0, _best_scale(cells, measured, sigma))
    pt = tracks.pt.copy()
    pt[own] *= scale[of_track]
    # The position of a candidate within its tower is unknown; a uniform choice hides the grid.
    u, v = generator.random(len(cells)), generator.random(len(cells))
    eta, phi = calorimeter.grid.place(cells.tower, u, v)
    neutrals = Candidates(
        cells.event[neutral], (excess / np.cosh(eta))[neutral], eta[neutral], phi[neutral]
    )
    return replace(tracks, pt=pt), neutrals


def _fill_cells(calorimeter: Calorimeter, hits: Hits, tracks: Tracks) -> tuple[_Cells, Bools, Ints]:
    """Sums deposits and tracks by event and tower.

    Returns:
        The cells, the mask of tracks that enter this calorimeter, and the cell of each such track.
    """
    size = calorimeter.grid.size
    track_tower = calorimeter.grid.locate(tracks.entry_eta, tracks.entry_phi)
    own = (calorimeter.energy_fraction(tracks.species) > 0) & (track_tower >= 0)
    hit = hits.tower >= 0
    keys = [hits.event[hit] * size + hits.tower[hit], tracks.event[own] * size + track_tower[own]]
    numbers, index = np.unique(np.concatenate(keys), return_inverse=True)
    of_hit, of_track = np.split(index, [len(keys[0])])
    energy = tracks.energy[own]
    cells = _Cells(
        event=numbers // size,
        tower=numbers % size,
        deposited=_sums(of_hit, hits.energy[hit], len(numbers)),
        charged=_sums(of_track, energy, len(numbers)),
        charged_variance=_sums(of_track, (tracks.resolution[own] * energy) ** 2, len(numbers)),
    )
    return cells, own, of_track


def _measure(
    calorimeter: Calorimeter, cells: _Cells, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Measured energies, 0 below threshold, and their resolution, in GeV."""
    middle = np.full(len(cells), 0.5)
    eta, _ = calorimeter.grid.place(cells.tower, middle, middle)
    measured = log_normal(cells.deposited, calorimeter.resolution(eta, cells.deposited), generator)
    sigma = calorimeter.resolution(eta, measured)
    threshold = np.maximum(calorimeter.energy_min, calorimeter.significance_min * sigma)
    return np.where(measured >= threshold, measured, 0.0), sigma


def _best_scale(cells: _Cells, measured: Floats, sigma: Floats) -> Floats:
    """Factor on track energies that gives the variance-weighted mean of both measurements."""
    total = cells.charged_variance + sigma**2
    combined = cells.charged_variance * measured + sigma**2 * cells.charged
    usable = (cells.charged > 0) & (sigma > 0)
    return np.divide(combined, total * cells.charged, out=np.ones(len(cells)), where=usable)


def _sums(index: Ints, values: Floats, n_sums: int) -> Floats:
    """Sums of the values that share an index."""
    # bincount returns integers if there is nothing to add.
    return np.bincount(index, weights=values, minlength=n_sums).astype(np.float64)
