"""Jets against a clustering written out by hand, and N-subjettiness against closed forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import fastjet
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hepllm.config import JetsConfig, SoftDropConfig
from hepllm.physics.events import Particles
from hepllm.physics.jets import cluster, n_subjettiness, soft_drop_mass
from hepllm.physics.readers import open_event_file

Vectors = NDArray[np.float64]


def _particles(*events: list[tuple[float, float, float]]) -> Particles:
    flat = np.array([particle for event in events for particle in event]).reshape(-1, 3)
    counts = np.array([len(event) for event in events], dtype=np.int64)
    return Particles(*(np.ascontiguousarray(column) for column in flat.T), counts)


def _taus(particles: Particles, radius: float = 1.0) -> Vectors:
    """tau1, tau2, tau3 with beta = 1, shape (M, 3)."""
    return n_subjettiness(particles.momenta(), particles.counts, radius)[:, 0]


def _random_event(random: np.random.Generator, n: int) -> list[tuple[float, float, float]]:
    return list(
        zip(
            random.exponential(40, n) + 1,
            random.uniform(-2, 2, n),
            random.uniform(-np.pi, np.pi, n),
            strict=True,
        )
    )


def _rapidity_phi(vector: Vectors) -> tuple[float, float]:
    px, py, pz, energy = vector
    return 0.5 * np.log((energy + pz) / (energy - pz)), np.arctan2(py, px)


def _distance(first: Vectors, second: Vectors) -> float:
    (y1, phi1), (y2, phi2) = _rapidity_phi(first), _rapidity_phi(second)
    difference = abs(phi1 - phi2)
    return float((y1 - y2) ** 2 + min(difference, 2 * np.pi - difference) ** 2)


def _anti_kt(event: list[tuple[float, float, float]], radius: float) -> list[Vectors]:
    """The definition of arXiv:0802.1189, taken literally."""
    left = [
        np.array([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)])
        for pt, eta, phi in event
    ]
    jets = []
    while left:
        weights = [1 / (v[0] ** 2 + v[1] ** 2) for v in left]
        pairs = {
            (i, j): min(weights[i], weights[j]) * _distance(left[i], left[j]) / radius**2
            for i in range(len(left))
            for j in range(i)
        }
        pairs |= {(i, i): weights[i] for i in range(len(left))}
        i, j = min(pairs, key=lambda pair: pairs[pair])
        if i == j:
            jets.append(left.pop(i))
        else:
            merged = left[i] + left[j]
            left = [v for k, v in enumerate(left) if k not in (i, j)] + [merged]
    return sorted(jets, key=lambda v: -np.hypot(v[0], v[1]))


@pytest.mark.parametrize("radius", [0.5, 1.0])
def test_clustering_agrees_with_the_definition(radius: float) -> None:
    random = np.random.default_rng(11)
    events = [_random_event(random, n) for n in (1, 2, 5, 9, 14)]
    jets = cluster(_particles(*events), JetsConfig(radius=radius, pt_min=20))
    found = jets.momenta.stack().T
    expected = [
        jet for event in events for jet in _anti_kt(event, radius) if np.hypot(*jet[:2]) > 20
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_jets_fall_in_pt_within_each_event() -> None:
    random = np.random.default_rng(2)
    events = [_random_event(random, 60) for _ in range(20)]
    jets = cluster(_particles(*events), JetsConfig())
    assert jets.counts.min() >= 2
    pt = np.split(jets.momenta.pt, np.cumsum(jets.counts)[:-1])
    assert all((np.diff(of_event) <= 0).all() for of_event in pt)


def test_constituents_add_up_to_their_jet() -> None:
    random = np.random.default_rng(4)
    events = [_random_event(random, n) for n in (40, 0, 3, 80, 1, 25)]
    particles = _particles(*events)
    jets = cluster(particles, JetsConfig())
    event_of_particle = particles.event_of_particle()
    for rank in range(3):
        constituents = jets.constituents(rank)
        present = np.flatnonzero(jets.counts > rank)
        jet = np.repeat(np.arange(len(present)), constituents.counts)
        sums = [np.bincount(jet, c, len(present)) for c in constituents.momenta.stack()]
        leading = jets.leading(rank).stack()[:, present]
        np.testing.assert_allclose(sums, leading, rtol=1e-10, atol=1e-9)
        np.testing.assert_array_equal(event_of_particle[constituents.particle], present[jet])


def test_events_are_clustered_alone() -> None:
    random = np.random.default_rng(5)
    events = [_random_event(random, n) for n in (30, 0, 50, 2)]
    together = cluster(_particles(*events), JetsConfig())
    for index, event in enumerate(events):
        alone = cluster(_particles(event), JetsConfig())
        for rank in range(2):
            np.testing.assert_array_equal(
                alone.leading(rank).stack()[:, 0], together.leading(rank).stack()[:, index]
            )


def test_eta_max_cuts_jets_not_particles() -> None:
    # One jet at eta = 1.05 made of particles on both sides of eta = 1.1, one jet beyond.
    event = [(100.0, 0.9, 0.0), (100.0, 1.2, 0.0), (150.0, -2.0, 2.0)]
    everything = cluster(_particles(event), JetsConfig())
    central = cluster(_particles(event), JetsConfig(eta_max=1.1))
    assert everything.counts.tolist() == [2]
    assert central.counts.tolist() == [1]
    assert central.leading(0).pt[0] == pytest.approx(200.0)
    assert central.constituents(0).counts.tolist() == [2]


def test_pt_min_cuts_soft_jets() -> None:
    event = [(100.0, 0.0, 0.0), (30.0, 0.0, 3.0)]
    assert cluster(_particles(event), JetsConfig(pt_min=20)).counts.tolist() == [2]
    assert cluster(_particles(event), JetsConfig(pt_min=40)).counts.tolist() == [1]


def test_a_jet_across_the_edge_of_phi_is_one_jet() -> None:
    event = [(50.0, 0.0, np.pi - 0.1), (50.0, 0.0, -np.pi + 0.1)]
    jets = cluster(_particles(event), JetsConfig())
    assert jets.counts.tolist() == [1]
    assert abs(jets.leading(0).phi[0]) == pytest.approx(np.pi)


def test_no_particles_no_jets() -> None:
    jets = cluster(_particles([], []), JetsConfig())
    assert jets.counts.tolist() == [0, 0]
    assert np.isnan(jets.leading(0).stack()).all()
    assert len(jets.constituents(0).counts) == 0


def test_tau_of_one_particle_is_zero_and_higher_ones_are_missing() -> None:
    particles = _particles([(100.0, 0.3, 1.0)])
    taus = _taus(particles)
    assert taus[0, 0] == pytest.approx(0, abs=1e-6)
    assert np.isnan(taus[0, 1:]).all()


@pytest.mark.parametrize("radius", [0.5, 1.0])
def test_tau1_of_two_particles(radius: float) -> None:
    """The winner-takes-all axis is the harder one: tau1 = pT_soft dR / (sum pT R0)."""
    particles = _particles([(100.0, 0.1, 1.0), (40.0, 0.3, 1.2)])
    taus = _taus(particles, radius)
    expected = 40 * np.hypot(0.2, 0.2) / (140 * radius)
    assert taus[0, 0] == pytest.approx(expected, rel=1e-6)
    assert taus[0, 1] == pytest.approx(0, abs=1e-6)
    assert np.isnan(taus[0, 2])


def test_tau2_of_three_particles() -> None:
    """kt merges the soft particle into its near neighbour, and each prong's hardest is an axis."""
    particles = _particles([(100.0, 0.0, 0.0), (80.0, 0.5, 0.0), (10.0, 0.6, 0.0)])
    taus = _taus(particles)
    assert taus[0, 1] == pytest.approx(10 * 0.1 / 190, rel=1e-6)
    assert taus[0, 0] == pytest.approx((80 * 0.5 + 10 * 0.6) / 190, rel=1e-6)
    assert taus[0, 2] == pytest.approx(0, abs=1e-6)


def test_taus_of_jets_do_not_mix() -> None:
    first, second = [(100.0, 0.1, 1.0), (40.0, 0.3, 1.2)], [(50.0, 0.0, 0.0), (30.0, 0.4, 0.1)]
    both = _particles(first, [], second)
    taus = _taus(both)
    assert np.isnan(taus[1]).all()
    for row, event in ((0, first), (2, second)):
        alone = _particles(event)
        np.testing.assert_array_equal(taus[row], _taus(alone)[0])


def _contrib(particles: Particles, radius: float, n_max: int, beta: float) -> Vectors:
    """tau_1 to tau_n_max of fastjet-contrib, shape (M, n_max)."""
    fields = dict(zip(("px", "py", "pz", "E"), particles.momenta().stack(), strict=True))
    lists = ak.unflatten(ak.zip(fields, with_name="Momentum4D"), particles.counts)
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    taus = fastjet.ClusterSequence(lists, definition).njettiness(
        measure_definition="NormalizedMeasure",
        axes_definition="WTA_KT_Axes",
        njets=list(range(1, n_max + 1)),
        beta=beta,
        R0=radius,
    )
    return ak.to_numpy(taus)


def _assert_as_contrib(
    particles: Particles, radius: float, betas: tuple[float, ...], tolerance: float = 1e-10
) -> None:
    taus = n_subjettiness(particles.momenta(), particles.counts, radius, 9, betas)
    defined = particles.counts[:, np.newaxis] >= np.arange(1, 10)
    for b, beta in enumerate(betas):
        contrib = _contrib(particles, radius, 9, beta)
        np.testing.assert_allclose(taus[:, b][defined], contrib[defined], rtol=0, atol=tolerance)
        assert np.isnan(taus[:, b][~defined]).all()


@pytest.mark.parametrize("radius", [0.5, 1.0])
def test_taus_are_those_of_fastjet_contrib(radius: float) -> None:
    random = np.random.default_rng(3)
    events = [
        [
            (float(pt), float(eta), float(phi))
            for pt, eta, phi in zip(
                random.exponential(30, n) + 0.1,
                random.normal(0.5, 0.3, n),
                random.normal(np.pi, 0.3, n),  # across the seam of the azimuth
                strict=True,
            )
        ]
        for n in [*range(1, 12), *random.integers(1, 120, 80)]
    ]
    _assert_as_contrib(_particles(*events), radius, (0.5, 1.0, 2.0))


@given(
    seed=st.integers(0, 2**32 - 1),
    counts=st.lists(st.integers(1, 14), min_size=1, max_size=5),
    spread=st.floats(1e-3, 0.6),
    copied=st.floats(0, 1),
    beta=st.sampled_from([0.5, 1.0, 1.7, 2.0]),
)
@settings(max_examples=60)
def test_taus_of_any_jets_are_those_of_contrib(
    seed: int, counts: list[int], spread: float, copied: float, beta: float
) -> None:
    """Random directions, some of them twice. Equal pT or distances would leave a choice."""
    random = np.random.default_rng(seed)
    events = []
    for n in counts:
        eta, phi = random.normal(0, spread, n), random.normal(0, spread, n)
        twice = random.uniform(size=n) < copied
        eta[twice], phi[twice] = eta[0], phi[0]
        events.append(list(zip(random.exponential(50, n) + 0.1, eta, phi, strict=True)))
    # contrib takes the root of the rounding of 1e-16 between equal directions.
    tolerance = 1e-10 if beta >= 1 or copied == 0 else 1e-7
    _assert_as_contrib(_particles(*events), 1.0, (beta,), tolerance)


def test_taus_of_real_jets_are_those_of_contrib(tiny_rnd: Path) -> None:
    batch = open_event_file(tiny_rnd).read(0, 100)
    jets = cluster(batch.particles, JetsConfig())
    for rank in range(2):
        found = jets.constituents(rank)
        momenta = found.momenta
        jet = Particles(momenta.pt, momenta.eta, momenta.phi, found.counts)
        _assert_as_contrib(jet, 1.0, (0.5, 1.0, 2.0))


def test_taus_of_constituents_on_one_another() -> None:
    """Four pairs of equal directions: four axes leave nothing, for any exponent exactly 0."""
    directions = [(0.1, 0.2), (0.3, -0.1), (-0.4, 0.0), (0.0, 0.5)]
    jet = _particles([(pt, eta, phi) for eta, phi in directions for pt in (30.0, 70.0)])
    taus = n_subjettiness(jet.momenta(), jet.counts, 1.0, 9, (0.5, 2.0))
    assert (taus[0, :, :3] > 0).all()
    assert (taus[0, :, 3:8] == 0).all()
    assert np.isnan(taus[0, :, 8]).all()


def test_no_banner_on_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    cluster(_particles([(100.0, 0.1, 1.0)]), JetsConfig())
    assert capfd.readouterr().out == ""


def _declustered(event: list[tuple[float, float, float]]) -> list[Any]:
    """Cambridge/Aachen taken literally: the nearest two merge; a tree of [vector, branches]."""
    nodes: list[Any] = [
        [np.array([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)]), []]
        for pt, eta, phi in event
    ]
    while len(nodes) > 1:
        pairs = [(i, j) for i in range(len(nodes)) for j in range(i)]
        i, j = min(pairs, key=lambda pair: _distance(nodes[pair[0]][0], nodes[pair[1]][0]))
        merged = [nodes[i][0] + nodes[j][0], [nodes[i], nodes[j]]]
        nodes = [node for k, node in enumerate(nodes) if k not in (i, j)] + [merged]
    return nodes[0]  # type: ignore[no-any-return]


def _soft_drop(
    event: list[tuple[float, float, float]], radius: float, config: SoftDropConfig
) -> float:
    """Equation 1.1 of arXiv:1402.2657, taken literally."""
    vector, branches = _declustered(event)
    while branches:
        first, second = sorted(branches, key=lambda node: -np.hypot(*node[0][:2]))
        pt = [np.hypot(*node[0][:2]) for node in (first, second)]
        angle = np.sqrt(_distance(first[0], second[0])) / radius
        if pt[1] / sum(pt) > config.z_cut * angle**config.beta:
            break
        vector, branches = first
    return float(np.sqrt(max(vector[3] ** 2 - (vector[:3] ** 2).sum(), 0)))


def _jet_like(random: np.random.Generator, n: int) -> list[tuple[float, float, float]]:
    prong = random.integers(0, 2, n)
    pt = random.exponential(np.where(prong == 1, 25, 60)) + 0.1
    eta = 0.4 * prong + random.normal(0, 0.15, n)
    return list(zip(pt, eta, 3.0 + random.normal(0, 0.2, n), strict=True))


@pytest.mark.parametrize("radius", [0.5, 1.0])
@pytest.mark.parametrize(("z_cut", "beta"), [(0.1, 0.0), (0.2, 0.0), (0.1, 1.0), (0.05, 2.0)])
def test_soft_drop_agrees_with_the_definition(radius: float, z_cut: float, beta: float) -> None:
    random = np.random.default_rng(17)
    events = [_jet_like(random, n) for n in (1, 2, 3, 7, 15, 25, 30)]
    config = SoftDropConfig(z_cut=z_cut, beta=beta)
    jets = _particles(events[0], [], *events[1:])
    found = soft_drop_mass(jets.momenta(), jets.counts, radius, config)
    assert np.isnan(found[1])
    expected = [_soft_drop(event, radius, config) for event in events]
    np.testing.assert_allclose(np.delete(found, 1), expected, rtol=1e-6, atol=1e-3)


def test_soft_drop_of_two_particles() -> None:
    """min(pt) / sum = 0.2: kept for z_cut below, one massless particle left for z_cut above."""
    jet = _particles([(80.0, 0.0, 0.0), (20.0, 0.4, 0.3)])
    mass = np.sqrt(2 * 80 * 20 * (np.cosh(0.4) - np.cos(0.3)))
    for z_cut, expected in ((0.19, mass), (0.21, 0.0)):
        found = soft_drop_mass(jet.momenta(), jet.counts, 1.0, SoftDropConfig(z_cut=z_cut))
        assert found[0] == pytest.approx(expected, abs=1e-3)


def test_soft_drop_only_takes_away() -> None:
    random = np.random.default_rng(3)
    jets = _particles(*[_jet_like(random, 40) for _ in range(30)])
    groomed = soft_drop_mass(jets.momenta(), jets.counts, 1.0, SoftDropConfig())
    whole = soft_drop_mass(jets.momenta(), jets.counts, 1.0, SoftDropConfig(z_cut=0.0))
    sums = [np.add.reduceat(c, np.arange(0, 1200, 40)) for c in jets.momenta().stack()]
    mass = np.sqrt(sums[3] ** 2 - sums[0] ** 2 - sums[1] ** 2 - sums[2] ** 2)
    np.testing.assert_allclose(whole, mass)
    assert (groomed <= mass * (1 + 1e-9)).all()
    assert (groomed < 0.9 * mass).any()
