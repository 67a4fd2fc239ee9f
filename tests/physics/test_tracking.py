"""Tracks against the geometry of a circle and the numbers of the card."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepllm.config import DetectorConfig
from hepllm.physics.generated import ELECTRON, MUON, GeneratedParticles
from hepllm.physics.tracking import (
    log_normal,
    propagate,
    reconstruct_tracks,
    track_efficiency,
    track_resolution,
)

CONFIG = DetectorConfig()
PION = 211


def one_particle(
    pt: float, eta: float, phi: float, charge: float, vertex: tuple[float, float, float] = (0, 0, 0)
) -> GeneratedParticles:
    return GeneratedParticles(
        px=np.array([pt * np.cos(phi)]),
        py=np.array([pt * np.sin(phi)]),
        pz=np.array([pt * np.sinh(eta)]),
        energy=np.array([pt * np.cosh(eta)]),
        pdg_id=np.array([PION if charge else 22]),
        charge=np.array([charge]),
        vertex=np.array([vertex], dtype=np.float64),
        counts=np.array([1]),
    )


angles = st.floats(-3.1, 3.1)


@given(eta=st.floats(-4.9, 4.9), phi=angles, pt=st.floats(0.2, 1000.0))
def test_a_neutral_particle_from_the_origin_keeps_its_direction(
    eta: float, phi: float, pt: float
) -> None:
    entry_eta, entry_phi, reached = propagate(one_particle(pt, eta, phi, 0.0), CONFIG)
    assert reached.all()
    assert entry_eta[0] == pytest.approx(eta, abs=1e-9)
    assert entry_phi[0] == pytest.approx(phi, abs=1e-9)


@given(pt=st.floats(1.0, 500.0), phi=st.floats(-1.0, 1.0), charge=st.sampled_from([-1.0, 1.0]))
def test_a_charged_particle_enters_where_its_circle_meets_the_cylinder(
    pt: float, phi: float, charge: float
) -> None:
    # A chord of length R on a circle of radius r makes the angle asin(R / 2r) with the tangent,
    # and stands for an arc of 2 r asin(R / 2r). Positive charges turn clockwise in a field along z.
    eta = 0.5
    radius = pt / (0.299792458 * CONFIG.magnetic_field)
    angle = np.arcsin(CONFIG.radius / (2 * radius))
    z = 2 * radius * angle * np.sinh(eta)
    entry_eta, entry_phi, reached = propagate(one_particle(pt, eta, phi, charge), CONFIG)
    assert reached.all()
    assert z < CONFIG.half_length
    assert entry_phi[0] == pytest.approx(phi - charge * angle, abs=1e-6)
    assert entry_eta[0] == pytest.approx(np.arcsinh(z / CONFIG.radius), abs=1e-6)


def test_a_particle_of_low_pt_loops_to_the_end_cap() -> None:
    pt, eta = 0.3, 1.0
    radius = pt / (0.299792458 * CONFIG.magnetic_field)
    assert 2 * radius < CONFIG.radius
    turned = CONFIG.half_length / np.sinh(eta) / radius
    distance = 2 * radius * abs(np.sin(turned / 2))
    entry_eta, _, reached = propagate(one_particle(pt, eta, 0.3, -1.0), CONFIG)
    assert reached.all()
    assert entry_eta[0] == pytest.approx(np.arcsinh(CONFIG.half_length / distance), rel=1e-9)


def test_without_a_field_charges_do_not_matter() -> None:
    straight = DetectorConfig(magnetic_field=0.0)
    charged = propagate(one_particle(0.5, 1.0, 2.0, 1.0), straight)
    neutral = propagate(one_particle(0.5, 1.0, 2.0, 0.0), straight)
    assert charged[0] == neutral[0]
    assert charged[1] == neutral[1]


def test_a_displaced_particle_enters_elsewhere_and_an_outside_one_never() -> None:
    # From (0, 1 m) along x, the cylinder of 1.29 m is met at sin(phi) = 1 / 1.29.
    _, phi, reached = propagate(one_particle(10.0, 0.0, 0.0, 0.0, (0, 1000, 0)), CONFIG)
    assert reached.all()
    assert phi[0] == pytest.approx(np.arcsin(1 / 1.29))
    for vertex in ((1300.0, 0.0, 0.0), (0.0, 0.0, -3001.0)):
        *_, reached = propagate(one_particle(10.0, 0.0, 0.0, 0.0, vertex), CONFIG)
        assert not reached.any()


@pytest.mark.parametrize(
    ("species", "eta", "pt", "expected"),
    [
        (PION, 0.0, 0.05, 0.0),
        (PION, -1.2, 0.5, 0.70),
        (PION, 1.2, 5.0, 0.95),
        (PION, -2.0, 5.0, 0.85),
        (PION, 2.6, 5.0, 0.0),
        (ELECTRON, 0.3, 200.0, 0.99),
        (ELECTRON, 1.8, 0.5, 0.50),
        (MUON, 2.4, 30.0, 0.98),
    ],
)
def test_efficiency_is_that_of_the_card(
    species: int, eta: float, pt: float, expected: float
) -> None:
    found = track_efficiency(np.array([species]), np.array([eta]), np.array([pt]))
    assert found[0] == expected


def test_resolution_is_that_of_the_card() -> None:
    species = np.array([PION, PION, MUON, ELECTRON])
    found = track_resolution(species, np.array([0.2, -2.0, 1.0, 0.0]), np.full(4, 100.0))
    expected = [
        np.sqrt(0.06**2 + 0.13**2),
        np.sqrt(0.25**2 + 0.31**2),
        np.sqrt(0.015**2 + 0.015**2),
        np.sqrt(0.03**2 + 0.13**2),
    ]
    assert found == pytest.approx(expected)


def test_log_normal_has_the_mean_and_spread_asked_for() -> None:
    numbers = log_normal(np.full(200_000, 10.0), np.full(200_000, 3.0), np.random.default_rng(1))
    assert numbers.min() > 0
    assert numbers.mean() == pytest.approx(10.0, abs=0.05)
    assert numbers.std() == pytest.approx(3.0, rel=0.02)
    assert log_normal(np.zeros(3), np.ones(3), np.random.default_rng(1)).tolist() == [0, 0, 0]


def test_tracks_appear_at_the_efficiency_and_keep_their_direction() -> None:
    n = 20_000
    ones = np.ones(n)
    generated = GeneratedParticles(
        px=10 * ones,
        py=0 * ones,
        pz=10 * np.sinh(0.3) * ones,
        energy=10 * np.cosh(0.3) * ones,
        pdg_id=np.full(n, PION),
        charge=ones,
        vertex=np.zeros((n, 3)),
        counts=np.full(n, 1),
    )
    tracks = reconstruct_tracks(generated, 0.3 * ones, 0 * ones, np.random.default_rng(5))
    # 0.95 +- sqrt(0.95 0.05 / 20,000) = 0.0015; the mean pT of 19,000 is known to 0.004 GeV.
    assert len(tracks.pt) / n == pytest.approx(0.95, abs=0.006)
    assert tracks.pt.mean() == pytest.approx(10.0, abs=0.02)
    assert tracks.pt.std() == pytest.approx(10 * np.hypot(0.06, 0.013), rel=0.03)
    assert np.ptp(tracks.eta) == 0
    assert tracks.eta[0] == pytest.approx(0.3)
