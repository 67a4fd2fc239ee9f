"""Lower bounds of a SIC: exact binomial limits, coverage, weights and ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, norm

from hepllm.config import EvaluationConfig
from hepllm.evaluation.assessment import evaluate_scores
from hepllm.evaluation.bounds import sic_bound, sic_bounds_at
from hepllm.evaluation.metrics import Threshold, read_at, roc, sic_at
from hepllm.evaluation.scores import ScoredEvents, ScoreTable, scored_events

HALF = np.array([0.5])


def sample(n_passing: int, n_background: int, n_signal: int = 10_000) -> ScoredEvents:
    """All signal at 1, and ``n_passing`` of the background at 2."""
    label = np.repeat([1, 0], [n_signal, n_background])
    score = np.where(label == 1, 1.0, -1.0)
    score[n_signal : n_signal + n_passing] = 2.0
    return scored_events(score, label)


@pytest.mark.parametrize("n_passing", [0, 1, 9, 30])
def test_the_background_has_the_limit_of_clopper_and_pearson(n_passing: int) -> None:
    curve = roc(sample(n_passing, 4900))
    limit = beta.ppf(0.95, n_passing + 1, 4900 - n_passing)
    assert sic_bounds_at(curve, HALF, 0.95)[0] == pytest.approx(0.5 / np.sqrt(limit))
    # at a cut chosen elsewhere, the signal efficiency has an error too: here it is 1 +- 1e-4
    found = sic_bound(read_at(curve, Threshold(0.0, ""), 10), 0.95)
    assert found == pytest.approx(1 / np.sqrt(limit), rel=1e-4)


def test_no_passing_background_gives_the_rule_of_three() -> None:
    found = sic_bounds_at(roc(sample(0, 10_000)), HALF, 0.95)[0]
    assert found == pytest.approx(0.5 * np.sqrt(10_000 / 3), rel=2e-3)


@given(st.integers(0, 200), st.floats(0.6, 0.99))
def test_a_bound_falls_with_background_and_confidence(n_passing: int, confidence: float) -> None:
    def bound(more: int, content: float) -> float:
        return float(sic_bounds_at(roc(sample(n_passing + more, 300, 50)), HALF, content)[0])

    found = bound(0, confidence)
    assert bound(1, confidence) < found
    assert bound(0, confidence + 0.005) < found
    assert found > 0.5 * (1 - 1e-6)  # all background passes at worst


def test_bounds_cover_over_random_truths() -> None:
    """The share below the truth is at least 0.95, up to the binomial error of 600 trials."""
    below = []
    for seed in range(200):
        generator = np.random.default_rng([seed, 1])
        distance, spread = generator.uniform(1, 5), generator.uniform(0.7, 1.5)
        n_s, n_b = int(generator.choice([100, 1000])), int(generator.choice([500, 5000]))
        label = np.repeat([1, 0], [n_s, n_b])
        score = generator.normal(size=n_s + n_b) * np.where(label == 1, spread, 1.0)
        curve, points = roc(scored_events(score + distance * label, label)), (0.1, 0.3, 0.5)
        bounds = sic_bounds_at(curve, np.array(points), 0.95)
        for eps_s, bound in zip(points, bounds, strict=True):
            eps_b = norm.sf(distance + spread * norm.isf(eps_s))
            below.append(bound <= eps_s / np.sqrt(eps_b))
    assert np.mean(below) > 0.93


def weighted(weight_b: list[float], n_passing: int, others: float = 1.0) -> ScoredEvents:
    """Background events of which the first ``n_passing`` have the largest scores."""
    n_b = len(weight_b)
    score = np.concatenate([np.full(n_passing, 2.0), np.full(n_b - n_passing, -1.0)])
    label = np.repeat([1, 0], [500, n_b])
    weight = np.concatenate([np.full(500, others), weight_b])
    return scored_events(np.concatenate([np.ones(500), score]), label, weight)


def bound_of(events: ScoredEvents) -> float:
    return float(sic_bounds_at(roc(events), HALF, 0.95)[0])


def test_a_scale_of_the_weights_changes_nothing() -> None:
    plain = bound_of(weighted([1.0] * 800, 4))
    assert bound_of(weighted([0.01] * 800, 4, 30.0)) == pytest.approx(plain)


def test_unequal_weights_make_a_bound_weaker() -> None:
    plain = bound_of(weighted([1.0] * 800, 4))
    uneven = [0.5, 1.5] * 400
    assert bound_of(weighted(uneven, 4)) < plain
    heavy = [1.0] * 799 + [100.0]  # one event dominates, so that few are measured
    assert bound_of(weighted(heavy, 4)) < plain / 2


def test_one_light_event_is_no_better_than_none() -> None:
    none = bound_of(weighted([1.0] * 800, 0))
    assert bound_of(weighted([1e-6] + [1.0] * 799, 1)) == pytest.approx(none, rel=1e-3)


def test_negative_weights_do_not_pretend_to_remove_background() -> None:
    four = bound_of(weighted([1.0] * 800, 4))
    cancelled = bound_of(weighted([1.0, -1.0, 1.0, -1.0] + [1.0] * 796, 4))
    assert cancelled == pytest.approx(four, rel=0.01)


def test_tied_events_pass_together() -> None:
    events = scored_events(np.zeros(1000), np.arange(1000) % 2)
    found = sic_bounds_at(roc(events), np.array([0.1, 0.5, 1.0]), 0.95)
    assert found == pytest.approx([0.1, 0.5, 1.0], rel=1e-3)


@pytest.mark.parametrize("label", [[1, 1, 1], [0, 0, 0], []])
def test_one_class_has_no_bound(label: list[int]) -> None:
    curve = roc(scored_events(np.arange(len(label)), np.array(label, dtype=int)))
    assert np.isnan(sic_bounds_at(curve, HALF, 0.95)).all()
    assert np.isnan(sic_bound(sic_at(curve, 0.5, 10), 0.95))


def test_the_better_classifier_is_not_blank_beside_the_worse_one() -> None:
    """9 and 13 of 4,900 background events at half of the signal, as on the demo's black box."""
    label = np.repeat([1, 0], [100, 4900])
    signal = np.linspace(2, 1, 100)

    def scores(n_passing: int) -> np.ndarray:
        background = np.linspace(-1, -2, 4900)
        background[:n_passing] = 3.0
        return np.concatenate([signal, background])

    table = ScoreTable(label, {"llm": scores(13), "boosting": scores(9)})
    record = evaluate_scores(table, table, EvaluationConfig(bootstrap=50), 1).record
    better, worse = record.baselines["boosting"].sic_at["0.5"], record.sic_at["0.5"]
    assert worse.value == pytest.approx(0.5 / np.sqrt(13 / 4900))
    assert better.value is None
    assert better.lower_bound is not None
    assert better.lower_bound == pytest.approx(0.5 / np.sqrt(beta.ppf(0.95, 10, 4891)), rel=0.1)
    rejection = record.baselines["boosting"].inverse_eps_b_at["0.5"].lower_bound
    assert rejection == pytest.approx((better.lower_bound / 0.5) ** 2)
    tree = record.tree()["baselines"]["boosting"]
    assert tree["sic_at_0.5"] is None
    assert tree["sic_at_0.5_lower_bound"] == better.lower_bound
