"""Flat particles: padding, digests and the search for defects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepllm.physics.defects import describe_bad_particles
from hepllm.physics.events import Particles


def _padded(events: list[list[tuple[float, float, float]]], slots: int = 6) -> Particles:
    rows = np.zeros((len(events), 3 * slots))
    for row, particles in zip(rows, events, strict=True):
        for place, particle in enumerate(particles):
            row[3 * place : 3 * place + 3] = particle
    return Particles.from_padded(rows)


def test_padding_is_dropped_and_order_kept() -> None:
    particles = _padded([[(5, 1, 2), (3, -1, 0.5)], [], [(7, 0, 0)]])
    assert particles.counts.tolist() == [2, 0, 1]
    assert particles.pt.tolist() == [5, 3, 7]
    assert particles.eta.tolist() == [1, -1, 0]
    assert particles.event_of_particle().tolist() == [0, 0, 2]


def test_a_particle_at_eta_zero_is_no_padding() -> None:
    particles = _padded([[(5, 0, 0), (3, 0, 1)]])
    assert particles.counts.tolist() == [2]


def test_padding_between_particles_is_dropped() -> None:
    particles = _padded([[(5, 1, 2), (0, 0, 0), (3, -1, 0.5)]])
    assert particles.pt.tolist() == [5, 3]


def test_all_700_slots_may_be_filled() -> None:
    rows = np.tile([1.0, 0.5, -0.5], (2, 700))
    assert Particles.from_padded(rows).counts.tolist() == [700, 700]


@pytest.mark.parametrize("n_events", [0, 3])
def test_events_without_particles(n_events: int) -> None:
    particles = Particles.from_padded(np.zeros((n_events, 2100)))
    assert len(particles) == n_events
    assert len(particles.pt) == 0
    assert particles.digests().shape == (n_events,)


def test_momenta_are_massless_and_right() -> None:
    momenta = _padded([[(10, 1.5, 2.5)]]).momenta()
    assert momenta.px[0] == pytest.approx(10 * np.cos(2.5))
    assert momenta.pz[0] == pytest.approx(10 * np.sinh(1.5))
    assert momenta.energy[0] ** 2 == pytest.approx(
        momenta.px[0] ** 2 + momenta.py[0] ** 2 + momenta.pz[0] ** 2
    )
    assert momenta.pt[0] == pytest.approx(10)
    assert momenta.eta[0] == pytest.approx(1.5)
    assert momenta.phi[0] == pytest.approx(2.5)


def test_take_keeps_whole_events() -> None:
    particles = _padded([[(1, 0, 0)], [(2, 0, 0), (3, 0, 0)], [(4, 0, 0)]])
    taken = particles.take(np.array([False, True, True]))
    assert taken.counts.tolist() == [2, 1]
    assert taken.pt.tolist() == [2, 3, 4]


def test_digests_follow_content_alone() -> None:
    first = _padded([[(1, 0.5, 0)], [(2, 0, 0), (3, 0, 0)]]).digests()
    elsewhere = _padded([[(9, 9, 1)], [(2, 0, 0), (3, 0, 0)], [(1, 0.5, -0.0)]], slots=9).digests()
    assert first[1] == elsewhere[1]
    assert first[0] == elsewhere[2]  # -0.0 is 0.0
    assert len({*first, *elsewhere}) == 3


def test_digests_survive_single_precision() -> None:
    values = np.random.default_rng(3).uniform(0.1, 3, (50, 30))
    single = values.astype(np.float32).astype(np.float64)
    assert not np.array_equal(values, single)
    np.testing.assert_array_equal(
        Particles.from_padded(values).digests(), Particles.from_padded(single).digests()
    )


def test_particles_do_not_move_between_events_unnoticed() -> None:
    one = _padded([[(1, 0, 0), (2, 0, 0)], [(3, 0, 0)]]).digests()
    other = _padded([[(1, 0, 0)], [(2, 0, 0), (3, 0, 0)]]).digests()
    assert not set(one) & set(other)


@pytest.mark.parametrize(
    ("particle", "expected"),
    [
        ((np.nan, 0, 0), "1 particle with NaN"),
        ((1, np.nan, 0), "1 particle with NaN"),
        ((1, 0, np.nan), "1 particle with NaN"),
        ((np.inf, 0, 0), "1 particle with an infinite value"),
        ((1, -np.inf, 0), "1 particle with an infinite value"),
        ((-1, 0, 0), "1 particle with pT < 0"),
        ((1e9, 0, 0), "1 particle with pT > 100000 GeV"),
        ((1, 800, 0), "1 particle with |eta| > 20"),
        ((1, 0, 100), "1 particle with |phi| > 4 pi"),
    ],
)
def test_each_defect_is_found(particle: tuple[float, float, float], expected: str) -> None:
    found = describe_bad_particles(_padded([[(1, 0, 0)], [(1, 1, 1), particle], []]))
    assert [text for text, _ in found] == [expected]
    assert found[0][1].tolist() == [False, True, False]


@given(
    st.lists(
        st.tuples(st.floats(0, 1e4), st.floats(-6, 6), st.floats(-np.pi, np.pi, allow_nan=False)),
        max_size=6,
    )
)
def test_good_particles_pass(particles: list[tuple[float, float, float]]) -> None:
    assert describe_bad_particles(_padded([particles])) == []
