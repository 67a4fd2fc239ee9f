"""Ratios of two SICs from the background that passes one cut alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import beta, norm

from hepllm.config import EvaluationConfig
from hepllm.evaluation.assessment import evaluate_scores
from hepllm.evaluation.ratios import sic_ratio
from hepllm.evaluation.scores import ScoredEvents, ScoreTable, scored_events

LABEL = np.repeat([1, 0], [2000, 5000])
SIGNAL = np.linspace(2, 1, 2000)


def scores(passing: NDArray[np.int64] | list[int]) -> NDArray[np.float64]:
    """Fixed signal; of the background the events at these positions lie above all signal."""
    background = np.linspace(-1, -2, 5000)
    background[passing] = 3.0
    return np.concatenate([SIGNAL, background])


def events(passing: NDArray[np.int64] | list[int]) -> ScoredEvents:
    return scored_events(scores(passing), LABEL)


def test_disjoint_background_has_the_exact_binomial_interval() -> None:
    """The conditional interval of 4 of 16 events (Clopper and Pearson), up to its conservatism."""
    first, second = events(np.arange(4)), events(np.arange(100, 112))
    found = sic_ratio(first, second, 0.5, 0.95, 1)
    low, high = beta.ppf(0.025, 4, 13), beta.ppf(0.975, 5, 12)
    assert found.low == pytest.approx(np.sqrt((1 - high) / high), rel=0.1)
    assert found.high == pytest.approx(np.sqrt((1 - low) / low), rel=0.1)


def test_exchange_inverts_the_interval() -> None:
    first, second = events(np.arange(3)), events(np.arange(2, 20))
    ours, theirs = (sic_ratio(*pair, 0.5, 0.95, 1) for pair in ((first, second), (second, first)))
    assert ours.low is not None
    assert ours.high is not None
    assert theirs.high == pytest.approx(1 / ours.low, rel=0.1)
    assert theirs.low == pytest.approx(1 / ours.high, rel=0.1)


def test_background_that_passes_both_tells_nothing() -> None:
    alone = sic_ratio(events(np.arange(2)), events(np.arange(50, 58)), 0.5, 0.95, 1)
    common = np.arange(100, 140)
    shared = sic_ratio(
        events(np.append(common, np.arange(2))), events(np.append(common, np.arange(50, 58))),
        0.5, 0.95, 1,
    )  # fmt: skip
    assert alone.high is not None
    assert shared.high is not None
    assert shared.high < alone.high


def test_no_passing_background_leaves_an_end_open() -> None:
    none, many = events([]), events(np.arange(30))
    found = sic_ratio(none, many, 0.5, 0.95, 1)
    assert found.low is not None
    assert found.low > 2
    assert found.high is None
    assert sic_ratio(many, none, 0.5, 0.95, 1).low is None
    both = sic_ratio(none, none, 0.5, 0.95, 1)
    assert (both.low, both.high) == (None, None)


def test_interval_covers_the_ratio_of_correlated_classifiers() -> None:
    label, contains = np.repeat([1, 0], [300, 3000]), []
    for seed in range(60):
        generator = np.random.default_rng([seed, 2])
        hidden, noise = generator.normal(size=3300) + 3.5 * label, (0.2, 1.0)
        pair = [scored_events(hidden + one * generator.normal(size=3300), label) for one in noise]
        eps_b = [norm.sf(norm.isf(0.3) + 3.5 / np.hypot(1, one)) for one in noise]
        found = sic_ratio(pair[0], pair[1], 0.3, 0.95, seed)
        high = np.inf if found.high is None else found.high
        contains.append((found.low or 0) <= np.sqrt(eps_b[1] / eps_b[0]) <= high)
    assert sum(contains) >= 54


@pytest.mark.parametrize(("label", "weight"), [([1, 1], None), ([1, 0], [1.0, -1.0])])
def test_what_has_no_efficiencies_has_no_ratio(
    label: list[int], weight: list[float] | None
) -> None:
    one = scored_events(np.arange(2), np.array(label), weight)
    found = sic_ratio(one, one, 0.5, 0.95, 1)
    assert (found.low, found.high) == (None, None)


def test_a_scale_of_the_weights_changes_nothing_and_negative_ones_do_not_help() -> None:
    first, second = np.arange(3), np.arange(2, 20)
    plain = sic_ratio(events(first), events(second), 0.5, 0.95, 1)
    heavy = [
        scored_events(scores(one), LABEL, np.full(len(LABEL), 30.0)) for one in (first, second)
    ]
    scaled = sic_ratio(heavy[0], heavy[1], 0.5, 0.95, 1)
    assert (scaled.low, scaled.high) == pytest.approx((plain.low, plain.high))
    weight = np.ones(len(LABEL))
    weight[2000 + np.arange(10, 20)] = -1  # of the background that passes the second cut alone
    negative = [scored_events(scores(one), LABEL, weight) for one in (first, second)]
    found = sic_ratio(negative[0], negative[1], 0.5, 0.95, 1)
    assert found.low == pytest.approx(plain.low, rel=0.1)


def test_a_difference_that_cannot_be_measured_says_which_is_better() -> None:
    table = ScoreTable(
        LABEL, {"llm": scores(np.arange(2)), "boosting": scores(np.arange(100, 140))}
    )
    record = evaluate_scores(table, table, EvaluationConfig(bootstrap=20), 1).record
    found = record.paired["boosting"].sic_at["0.5"]
    assert found.estimate is None
    assert found.ratio_low is not None
    assert found.ratio_low > 1.5
    tree = record.tree()["paired"]["boosting"]
    assert tree["sic_at_0.5"]["ratio_low"] == found.ratio_low
    assert "ratio_low" not in tree["auc"]
