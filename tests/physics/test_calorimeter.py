"""Towers, resolutions and energy flow against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepllm.config import DetectorConfig
from hepllm.physics.calorimeter import (
    Calorimeter,
    Hits,
    TowerGrid,
    calorimeters,
    ecal_grid,
    ecal_resolution,
    energy_flow,
    hcal_grid,
    hcal_resolution,
)
from hepllm.physics.tracking import Tracks

ECAL, HCAL = calorimeters(DetectorConfig())
PION, MUON, ELECTRON, PHOTON, KAON_LONG, KAON_SHORT = 211, 13, 11, 22, 130, 310


def tracks_of(energies: list[float], resolution: float, species: int = PION) -> Tracks:
    """Tracks at eta = phi = 0.01, one event each."""
    n = len(energies)
    place = np.full(n, 0.01)
    return Tracks(
        event=np.arange(n),
        species=np.full(n, species),
        pt=np.array(energies) / np.cosh(0.01),
        eta=place,
        phi=place,
        resolution=np.full(n, resolution),
        entry_eta=place,
        entry_phi=place,
    )


def hits_of(calorimeter: Calorimeter, energies: list[float]) -> Hits:
    place = np.full(len(energies), 0.01)
    tower = calorimeter.grid.locate(place, place)
    return Hits(np.arange(len(energies)), tower, np.array(energies))


@pytest.mark.parametrize("grid", [ecal_grid(), hcal_grid()])
def test_grid_covers_five_units_of_eta_without_gaps(grid: TowerGrid) -> None:
    assert (np.diff(grid.eta_edges) > 0).all()
    assert grid.eta_edges[[0, -1]].tolist() == [-5.0, 5.0]
    assert grid.eta_edges == pytest.approx(-grid.eta_edges[::-1])
    assert grid.size == grid.n_phi.sum()
    outside = grid.locate(np.array([-5.1, 5.1]), np.zeros(2))
    assert outside.tolist() == [-1, -1]


@given(
    eta=st.floats(-4.99, 4.99),
    phi=st.floats(-np.pi, np.pi),
    u=st.floats(0.01, 0.99),
    v=st.floats(0.01, 0.99),
)
def test_every_place_in_a_tower_belongs_to_it(eta: float, phi: float, u: float, v: float) -> None:
    for grid in (ECAL.grid, HCAL.grid):
        tower = grid.locate(np.array([eta]), np.array([phi]))
        assert 0 <= tower[0] < grid.size
        place = grid.place(tower, np.array([u]), np.array([v]))
        assert grid.locate(*place) == tower
        assert abs(place[0][0] - eta) < 0.35
        assert abs(place[1][0] - phi) < 2 * np.pi / 18


def test_tower_sizes_are_those_of_the_card() -> None:
    slices = {0.5: (0.0174, 360), 2.5: (0.0174, 360), 4.0: (0.175, 36)}
    for eta, (width, n_phi) in slices.items():
        index = np.searchsorted(ECAL.grid.eta_edges, eta + 0.001) - 1
        assert np.diff(ECAL.grid.eta_edges)[index] == pytest.approx(width)
        assert ECAL.grid.n_phi[index] == n_phi
    slices = {0.5: (0.087, 72), 1.6: (0.087, 72), 2.0: (0.113, 36), 4.8: (0.3, 18)}
    for eta, (width, n_phi) in slices.items():
        index = np.searchsorted(HCAL.grid.eta_edges, eta + 0.001) - 1
        assert np.diff(HCAL.grid.eta_edges)[index] == pytest.approx(width)
        assert HCAL.grid.n_phi[index] == n_phi


def test_resolutions_of_100_gev() -> None:
    energy = np.full(3, 100.0)
    found = ecal_resolution(np.array([0.0, -2.0, 3.0]), energy)
    central = np.sqrt(0.8**2 + 1.1**2 + 0.4**2)
    assert found == pytest.approx([central, 2.16 * central, np.hypot(10.7, 20.8)])
    found = hcal_resolution(np.array([0.0, -2.9, 4.0]), energy)
    assert found == pytest.approx([np.hypot(5, 15), np.hypot(5, 15), np.hypot(13, 27)])


def test_who_leaves_what_where() -> None:
    species = np.array([PHOTON, ELECTRON, PION, KAON_LONG, KAON_SHORT, MUON, 12, 14, 16])
    assert ECAL.energy_fraction(species) == pytest.approx([1, 1, 0, 0, 0.3, 0, 0, 0, 0])
    assert HCAL.energy_fraction(species) == pytest.approx([0, 0, 1, 1, 0.7, 0, 0, 0, 0])


def test_a_neutral_hadron_becomes_one_candidate_of_its_energy_on_average() -> None:
    energies = [100.0] * 5000
    _, found = energy_flow(
        HCAL, hits_of(HCAL, energies), tracks_of([], 0.1), np.random.default_rng(3)
    )
    assert found.event.tolist() == list(range(5000))
    measured = found.pt * np.cosh(found.eta)
    # The spread of 15.8 GeV leaves 0.22 GeV on the mean.
    assert measured.mean() == pytest.approx(100.0, abs=1.0)
    assert measured.std() == pytest.approx(np.hypot(5, 15), rel=0.05)
    assert ((found.eta > 0) & (found.eta < 0.087)).all()
    assert ((found.phi > 0) & (found.phi < np.pi / 36)).all()


def test_towers_below_the_threshold_leave_nothing() -> None:
    # E > sigma(E) with sigma^2 = (0.05 E)^2 + 1.5^2 E means E > 2.25 / (1 - 0.0025).
    threshold = 2.25 / (1 - 0.05**2)
    _, found = energy_flow(
        HCAL, hits_of(HCAL, [2.0] * 5000), tracks_of([], 0.1), np.random.default_rng(4)
    )
    measured = found.pt * np.cosh(found.eta)
    assert 0 < len(measured) < 5000
    assert measured.min() >= threshold
    assert measured.min() == pytest.approx(threshold, rel=0.01)


def test_a_precise_track_keeps_its_energy() -> None:
    energies = [100.0] * 4000
    corrected, _ = energy_flow(
        HCAL, hits_of(HCAL, energies), tracks_of(energies, 0.001), np.random.default_rng(6)
    )
    assert corrected.energy == pytest.approx(100.0, rel=1e-3)


def test_a_poor_track_and_its_tower_are_averaged_by_variance() -> None:
    energies = [100.0] * 4000
    corrected, neutral = energy_flow(
        HCAL, hits_of(HCAL, energies), tracks_of(energies, 0.6), np.random.default_rng(6)
    )
    assert len(neutral.event) < 10
    # Track 100 +- 60 GeV and tower 100 +- 15.8 GeV; only the tower's value fluctuates here.
    tower, track = 5**2 + 15**2, 60**2
    assert corrected.energy.mean() == pytest.approx(100.0, abs=1.5)
    assert corrected.energy.std() == pytest.approx(
        np.sqrt(tower) * track / (track + tower), rel=0.05
    )


def test_an_empty_tower_is_no_measurement() -> None:
    kept, neutral = energy_flow(
        HCAL, hits_of(HCAL, [0.0]), tracks_of([30.0], 0.1), np.random.default_rng(0)
    )
    assert kept.energy == pytest.approx([30.0])
    assert len(neutral.event) == 0


def test_an_undetected_neutral_beside_a_track_becomes_a_candidate() -> None:
    # 50 GeV of track and 200 GeV more in the same tower: no fluctuation hides that excess.
    n = 3000
    tracks = tracks_of([50.0] * n, 0.01)
    corrected, neutral = energy_flow(
        HCAL, hits_of(HCAL, [250.0] * n), tracks, np.random.default_rng(8)
    )
    assert len(neutral.event) == n
    assert corrected.energy == pytest.approx(50.0)
    assert (neutral.pt * np.cosh(neutral.eta)).mean() == pytest.approx(200.0, abs=2.5)


def test_tracks_that_leave_nothing_here_pass_unchanged() -> None:
    muon = tracks_of([30.0], 0.1, MUON)
    corrected, _ = energy_flow(HCAL, hits_of(HCAL, [80.0]), muon, np.random.default_rng(0))
    assert corrected.pt.tolist() == muon.pt.tolist()


def test_nothing_in_nothing_out() -> None:
    tracks, neutral = energy_flow(
        ECAL, hits_of(ECAL, []), tracks_of([], 0.1), np.random.default_rng(0)
    )
    assert len(tracks.pt) == len(neutral.pt) == 0
