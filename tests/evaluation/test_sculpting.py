"""Sculpting: exact p-values without it, its size and its place where a score is made to sculpt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import kstest

from hepllm.evaluation.sculpting import (
    BackgroundMasses,
    MassBins,
    jensen_shannon,
    measure_sculpting,
    passes_at,
    power_of,
    rank_correlation,
)
from hepllm.evaluation.sculpting_records import ClassifierSculpting

Floats = NDArray[np.float64]
EDGES = np.geomspace(2600, 8000, 46)


def draw_masses(n_events: int, random: np.random.Generator) -> Floats:
    """A spectrum that falls like m^-6 from 2600 to 8000 GeV."""
    low, high = 2600.0**-5, 8000.0**-5
    return (low - random.random(n_events) * (low - high)) ** -0.2


def background(m_jj: Floats, weight: Floats | None = None) -> BackgroundMasses:
    weights = np.ones(len(m_jj)) if weight is None else weight
    return BackgroundMasses(m_jj, weights, MassBins(EDGES, 2, 8))


def measure(
    m_jj: Floats, score: Floats, seed: int = 1, weight: Floats | None = None
) -> ClassifierSculpting:
    events = background(m_jj, weight)
    record, _ = measure_sculpting(events, {"a": score}, mass="m_jj", confidence=0.95, seed=seed)
    return record.classifiers["a"]


def steep_score(m_jj: Floats, power: float, random: np.random.Generator) -> Floats:
    """Scores of which every cut has an efficiency that goes like m_jj to a power."""
    return power * np.log(m_jj) - np.log(random.random(len(m_jj)))


def test_divergence_is_that_of_scipy() -> None:
    random = np.random.default_rng(1)
    first, second = random.poisson(3, (2, 5, 12)).astype(float)
    expected = jensenshannon(first, second, base=2, axis=1) ** 2
    np.testing.assert_allclose(jensen_shannon(first, second), expected, rtol=1e-12)


@given(
    scores=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    eps_b=st.floats(0.001, 1.0),
    weighted=st.booleans(),
)
def test_a_cut_keeps_at_most_its_share_and_the_next_looser_one_more(
    scores: list[int], eps_b: float, weighted: bool
) -> None:
    score = np.array(scores, dtype=float)
    weight = 1.0 + (np.arange(len(score)) % 3 if weighted else np.zeros(len(score)))
    passes = passes_at(score, weight, eps_b)
    total = weight.sum()
    assert weight[passes].sum() <= eps_b * total * (1 + 1e-6)
    rest = score[~passes]
    if len(rest):
        assert (score[passes] > rest.max()).all()
        assert weight[score >= rest.max()].sum() > eps_b * total


def test_a_score_made_to_sculpt_is_found_where_it_does() -> None:
    random = np.random.default_rng(2)
    m_jj = draw_masses(20_000, random)
    bump = 1.0 * ((m_jj > 3400) & (m_jj < 3700))
    found = measure(m_jj, random.normal(size=len(m_jj)) + bump).cuts["0.01"]
    assert found.n_passing == 200
    assert found.js > found.js_random_high
    assert found.js_p < 0.002
    assert found.excess is not None
    assert found.excess.p < 0.002
    assert found.excess.factor > found.excess.random_high
    low, high = found.excess.window_gev
    assert low < 3550 < high


def test_the_power_of_the_efficiency_is_found() -> None:
    random = np.random.default_rng(3)
    m_jj = draw_masses(30_000, random)
    found = measure(m_jj, steep_score(m_jj, 1.5, random))
    for cut in ("0.1", "0.01"):
        power = found.cuts[cut].power
        assert power.interval is not None
        assert power.interval[0] < 1.5 < power.interval[1]
    assert found.rank_correlation.interval is not None
    assert found.rank_correlation.interval[0] > 0.1


def test_the_distance_without_noise_is_that_of_many_events() -> None:
    random = np.random.default_rng(4)
    m_jj = draw_masses(10_000, random)
    found = measure(m_jj, steep_score(m_jj, 1.0, random)).cuts["0.1"].js_without_noise
    many = draw_masses(1_000_000, random)
    shapes = [np.histogram(many, EDGES, weights=one)[0] for one in (many, None)]
    truth = np.sqrt(background(m_jj).divergence(*(one[None].astype(float) for one in shapes))[0])
    assert found.interval is not None
    assert found.interval[0] < truth < found.interval[1]
    assert found.value == pytest.approx(truth, abs=0.03)


def test_weights_of_two_count_like_events_that_come_twice() -> None:
    random = np.random.default_rng(5)
    m_jj = draw_masses(4000, random)
    score = steep_score(m_jj, 2.0, random)
    weight = np.where(random.random(4000) < 0.5, 1.0, 2.0)
    found = measure(m_jj, score, weight=weight).cuts["0.1"]
    twice = np.repeat(np.arange(4000), weight.astype(int))
    plain = measure(m_jj[twice], score[twice]).cuts["0.1"]
    assert found.js == pytest.approx(plain.js, abs=0.005)
    assert found.power.value == pytest.approx(plain.power.value, abs=0.02)
    assert found.js_random_high > plain.js_random_high  # fewer events, so more noise


def test_too_few_events_have_a_reason_in_place_of_a_result() -> None:
    random = np.random.default_rng(6)
    m_jj = draw_masses(900, random)
    found = measure(m_jj, random.normal(size=900))
    assert list(found.cuts) == ["0.1"]
    assert found.undefined["0.01"] == "9 of 900 background events pass; 10 are needed"
    tied = measure(m_jj, np.zeros(900))
    assert not tied.cuts
    assert tied.rank_correlation.value is None


def test_power_is_undefined_where_all_that_passes_is_heaviest() -> None:
    m_jj = np.repeat([3000.0, 4000.0], 50)
    passes = m_jj > 3500
    assert power_of(m_jj, np.ones(100), passes, confidence=0.95).value is None


def test_rank_correlation_is_exact_for_a_monotonic_score() -> None:
    m_jj = draw_masses(100, np.random.default_rng(7))
    assert rank_correlation(-(m_jj**3), m_jj, 0.95).value == pytest.approx(-1)


@pytest.mark.slow
def test_p_values_are_uniform_and_intervals_cover_without_sculpting() -> None:
    random = np.random.default_rng(8)
    rows = []
    for trial in range(400):
        m_jj = draw_masses(3000, random)
        found = measure(m_jj, random.normal(size=3000), trial).cuts
        for cut in ("0.1", "0.01"):
            excess, power = found[cut].excess, found[cut].power.interval
            assert excess is not None
            assert power is not None
            rows.append((found[cut].js_p, excess.p, power[0] < 0 < power[1]))
    js_p, excess_p, covered = np.array(rows, dtype=float).reshape(400, 2, 3).transpose(2, 1, 0)
    for values in (*js_p, *excess_p):
        assert kstest(values, "uniform").pvalue > 1e-3
    assert (covered.mean(axis=1) > 0.91).all()
