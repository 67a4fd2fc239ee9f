"""The whole detector: what goes in, what comes out, and that energy is kept on average."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike

from hepllm.config import DetectorConfig
from hepllm.physics.detector import detect
from hepllm.physics.events import Particles
from hepllm.physics.generated import GeneratedParticles

CONFIG = DetectorConfig()


def events(
    pdg_id: ArrayLike, pt: ArrayLike, eta: ArrayLike, phi: ArrayLike, counts: ArrayLike
) -> GeneratedParticles:
    pdg_id = np.asarray(pdg_id, dtype=np.int64)
    pt, eta, phi = (np.asarray(values, dtype=np.float64) for values in (pt, eta, phi))
    charged = np.isin(np.abs(pdg_id), (11, 13, 211))
    return GeneratedParticles(
        px=pt * np.cos(phi),
        py=pt * np.sin(phi),
        pz=pt * np.sinh(eta),
        energy=pt * np.cosh(eta),
        pdg_id=pdg_id,
        charge=np.where(charged, np.sign(pdg_id), 0).astype(np.float64),
        vertex=np.zeros((len(pt), 3)),
        counts=np.asarray(counts, dtype=np.int64),
    )


def run(generated: GeneratedParticles, seed: int = 1, config: DetectorConfig = CONFIG) -> Particles:
    return detect(generated, config, np.random.default_rng(seed))


@pytest.mark.parametrize("enabled", [True, False])
def test_neutrinos_vanish_and_their_events_stay(enabled: bool) -> None:
    found = run(
        events([12, -14, 16], [500.0] * 3, [0.0] * 3, [0.0] * 3, [1, 0, 2]),
        config=DetectorConfig(enabled=enabled),
    )
    assert found.counts.tolist() == [0, 0, 0]
    assert len(found.pt) == 0


@pytest.mark.parametrize("enabled", [True, False])
def test_no_events_give_no_events(enabled: bool) -> None:
    assert len(run(events([], [], [], [], []), config=DetectorConfig(enabled=enabled))) == 0


@pytest.mark.parametrize("enabled", [True, False])
def test_particles_beyond_the_acceptance_are_not_seen(enabled: bool) -> None:
    found = run(
        events([22] * 4, [50.0] * 4, [5.2, -5.3, 6.0, 0.5], [0.0] * 4, [4]),
        config=DetectorConfig(enabled=enabled),
    )
    assert found.counts.tolist() == [1]
    assert found.eta[0] == pytest.approx(0.5, abs=0.02)


def test_plain_particles_are_the_generated_ones_in_falling_pt() -> None:
    found = run(
        events([22, 211, 14, -13], [1.0, 30.0, 99.0, 5.0], [0.1, -0.2, 0, 4.0], [0, 1, 2, -3], [4]),
        config=DetectorConfig(enabled=False),
    )
    assert found.pt == pytest.approx([30, 5, 1])
    assert found.eta == pytest.approx([-0.2, 4.0, 0.1])
    assert found.phi == pytest.approx([1, -3, 0])


def test_a_muon_is_a_track_at_its_own_place() -> None:
    n = 400
    found = run(events([13] * n, [40.0] * n, [0.4] * n, [1.0] * n, [1] * n))
    assert set(found.counts.tolist()) == {0, 1}
    assert found.counts.mean() == pytest.approx(0.99, abs=0.02)
    assert found.eta == pytest.approx(0.4)
    assert found.phi == pytest.approx(1.0)
    assert found.pt.std() == pytest.approx(40 * np.hypot(0.01, 0.004), rel=0.15)


@pytest.mark.parametrize(("species", "pt"), [(22, 50.0), (130, 200.0), (211, 30.0), (310, 200.0)])
def test_energy_is_kept_on_average(species: int, pt: float) -> None:
    n = 3000
    random = np.random.default_rng(2)
    eta, phi = random.uniform(-1.4, 1.4, n), random.uniform(-np.pi, np.pi, n)
    generated = events([species] * n, [pt] * n, eta, phi, [1] * n)
    found = run(generated)
    total = (found.pt * np.cosh(found.eta)).sum() / generated.energy.sum()
    # Thresholds take a little, excesses that are fluctuations of the tower give a little.
    assert total == pytest.approx(1.0, abs=0.05)


def test_photons_have_the_resolution_of_their_tower() -> None:
    n = 4000
    random = np.random.default_rng(4)
    generated = events([22] * n, [100.0] * n, [0.008] * n, random.uniform(-3, 3, n), [1] * n)
    found = run(generated)
    energy = found.pt * np.cosh(found.eta)
    expected = np.sqrt(0.8**2 + 1.1**2 + 0.4**2)
    assert energy.std() == pytest.approx(expected, rel=0.06)


def test_candidates_are_valid_ordered_and_at_most_as_many_as_asked_for() -> None:
    n = 900
    random = np.random.default_rng(7)
    species = random.choice([22, 211, -211, 130, 11, -13, 310], n)
    generated = events(
        species,
        random.exponential(5, n) + 0.1,
        random.uniform(-4.9, 4.9, n),
        random.uniform(-np.pi, np.pi, n),
        [600, 300],
    )
    everything = run(generated)
    hardest = run(generated, config=DetectorConfig(max_particles=50))
    assert hardest.counts.tolist() == [50, 50]
    first = everything.pt[: everything.counts[0]]
    assert (np.diff(first) <= 0).all()
    assert hardest.pt[:50].tolist() == first[:50].tolist()
    assert (everything.pt >= CONFIG.pt_min).all()
    assert (np.abs(everything.eta) <= 5).all()
    assert (np.abs(everything.phi) <= np.pi).all()


def test_a_seed_determines_the_measurement() -> None:
    n = 50
    generated = events([211] * n, [20.0] * n, np.linspace(-2, 2, n), np.linspace(-3, 3, n), [n])
    assert run(generated).digests() == run(generated).digests()
    assert run(generated).digests() != run(generated, seed=2).digests()
