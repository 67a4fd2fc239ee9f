"""Signal fractions against truth drawn at random, and against a general minimiser."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from hepllm.config import EvaluationConfig
from hepllm.errors import InputError
from hepllm.evaluation.prior import estimate_prior, expected_templates, profile_deviance
from hepllm.evaluation.probabilities import choose_prior
from hepllm.evaluation.scores import ScoredEvents

Floats = NDArray[np.float64]


def draw(n_signal: int, n_background: int, seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """Scores like those of a classifier: each class has a tail below the other."""
    generator = np.random.default_rng(seed)
    signal = generator.normal(np.where(generator.random(n_signal) < 0.9, 3.0, -2.0), 2.0)
    background = generator.normal(np.where(generator.random(n_background) < 0.02, 1.0, -4.0), 2.2)
    return np.concatenate([signal, background]), np.repeat([1, 0], [n_signal, n_background])


def validation(n_events: int, seed: int) -> ScoredEvents:
    score, label = draw(n_events // 2, n_events // 2, seed)
    return ScoredEvents(score, label, np.ones(len(score)))


def box(n_events: int, fraction: float, seed: int) -> Floats:
    n_signal = np.random.default_rng([seed, 1]).binomial(n_events, fraction)
    return draw(n_signal, n_events - n_signal, seed)[0]


@pytest.mark.parametrize("fraction", [0.002, 0.01, 0.1, 0.5])
def test_estimates_are_unbiased_and_their_intervals_cover(fraction: float) -> None:
    n_trials, n_covering, found = 40, 0, []
    for trial in range(n_trials):
        score = box(20_000, fraction, 1000 + trial)
        one = estimate_prior(
            score, np.ones(len(score)), validation(8000, 5000 + trial), confidence=0.95
        )
        low, high = one.interval
        assert low <= one.fraction <= high
        n_covering += low <= fraction <= high
        found.append(one.fraction)
    assert n_covering >= 34  # below this a true coverage of 0.95 comes once in 500 times
    error = np.std(found) / np.sqrt(n_trials)
    # At the lower end of [0, 1] no estimate is below 0, so the mean is a little high.
    assert abs(np.mean(found) - fraction) < 4 * error + 0.0005


def test_few_validation_events_are_confessed(caplog: pytest.LogCaptureFixture) -> None:
    score = box(20_000, 0.002, 3)
    few, many = (
        estimate_prior(score, np.ones(len(score)), validation(n, 4), confidence=0.95)
        for n in (800, 40_000)
    )
    assert few.is_limit
    assert few.interval[1] > 1.5 * many.interval[1]
    config = EvaluationConfig(prior="estimate")
    with caplog.at_level(logging.WARNING):
        prior = choose_prior(config, "1:1", validation(800, 4), (score, np.ones(len(score))))
    assert "cannot tell a smaller one" in caplog.text
    assert prior.fraction == few.fraction


def test_only_the_order_of_scores_counts() -> None:
    score, events = box(5000, 0.05, 1), validation(4000, 2)
    weight = np.ones(len(score))
    stretched = ScoredEvents(np.exp(events.score), events.label, events.weight)
    plain = estimate_prior(score, weight, events, confidence=0.68)
    other = estimate_prior(np.exp(score), weight, stretched, confidence=0.68)
    assert other.fraction == pytest.approx(plain.fraction, rel=0.02)


def test_the_ends_are_reached() -> None:
    events = validation(4000, 6)
    none, all_signal = (draw(*counts, 7)[0] for counts in ((0, 2000), (2000, 0)))
    lowest = estimate_prior(none, np.ones(2000), events, confidence=0.95)
    highest = estimate_prior(all_signal, np.ones(2000), events, confidence=0.95)
    assert lowest.interval[0] == 0 <= lowest.fraction < 0.02
    assert highest.fraction > 0.98
    assert highest.interval[1] == 1


def test_templates_have_the_largest_likelihood() -> None:
    n, a, b = (np.array(x, float) for x in ([30, 5, 9], [1, 4, 20], [12, 3, 0]))
    fraction = 0.3
    f_s, f_b = n.sum() * fraction / a.sum(), n.sum() * (1 - fraction) / b.sum()

    def deviance(logs: Floats) -> float:
        s, t = np.exp(logs).reshape(2, 3)
        pairs = ((n, f_s * s + f_b * t), (a, s), (b, t))
        return float(2 * sum(np.sum(e - c * np.log(e)) for c, e in pairs))

    least = minimize(deviance, np.log(np.concatenate([a + 1, b + 1])), tol=1e-14)
    s, t = expected_templates(f_s, f_b, n, a, b)
    # The third bin has no validation background: its t may be 0, whose logarithm is none.
    expected = np.exp(least.x).reshape(2, 3)
    np.testing.assert_allclose(s, expected[0], rtol=1e-3)
    np.testing.assert_allclose(t, expected[1], rtol=1e-3, atol=1e-3)
    saturated = 2 * sum(
        np.sum(c - np.where(c > 0, c * np.log(np.maximum(c, 1)), 0)) for c in (n, a, b)
    )
    assert profile_deviance(fraction, n, a, b) == pytest.approx(least.fun - saturated, abs=1e-4)


def test_events_beyond_all_templates_are_taken_by_the_class_with_room() -> None:
    n, a, b = np.array([50.0]), np.array([0.0]), np.array([0.0])
    s, t = expected_templates(2.0, 1.0, n, a, b)
    assert s[0] > 0
    assert t[0] == 0


def test_weights_count_as_so_many_events() -> None:
    score, label = draw(500, 4500, 8)
    found = estimate_prior(
        score, np.where(label == 1, 2.0, 1.0), validation(8000, 9), confidence=0.95
    )
    low, high = found.interval
    assert low <= 1000 / 5500 <= high


def test_what_cannot_be_estimated_is_refused() -> None:
    events = validation(200, 1)
    one_class = ScoredEvents(events.score, np.ones(200, dtype=np.int64), events.weight)
    for weight, known in ((-1.0, events), (1.0, one_class), (0.0, events)):
        with pytest.raises(InputError, match="a prior is estimated from"):
            estimate_prior(events.score, np.full(200, weight), known, confidence=0.95)
