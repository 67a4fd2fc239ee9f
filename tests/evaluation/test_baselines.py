"""The boosting against the optimum of Gaussian classes, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from hepllm.errors import InputError
from hepllm.evaluation.baselines import BASELINES, fit_boosting
from hepllm.evaluation.metrics import auc
from hepllm.evaluation.scores import scored_events


def sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two Gaussian features one standard deviation apart each, and one of noise."""
    generator = np.random.default_rng(seed)
    label = np.arange(n) % 2
    features = generator.normal(size=(n, 3))
    features[:, :2] += label[:, None]
    return features, label


@pytest.mark.parametrize("n", [1000, 20_000])
def test_boosting_comes_near_the_best_possible_auc(n: int) -> None:
    features, label = sample(n, 1)
    unseen, truth = sample(10_000, 2)
    score = fit_boosting(features, label, None, 1).score(unseen)
    best = norm.cdf(1.0)  # distance sqrt(2) over sqrt(2)
    assert auc(scored_events(score, truth)).value == pytest.approx(best, abs=0.025)


def test_score_is_a_logit_in_the_training_balance() -> None:
    features, label = sample(20_000, 1)
    score = fit_boosting(features, label, None, 1).score(sample(20_000, 2)[0])
    assert np.mean(1 / (1 + np.exp(-score))) == pytest.approx(0.5, abs=0.02)


def test_missing_values_are_information() -> None:
    features, label = sample(600, 1)
    hidden = np.where((label == 1)[:, None], features, np.nan)
    score = fit_boosting(hidden, label, None, 1).score(hidden)
    assert auc(scored_events(score, label)).value == 1.0


def test_weights_move_the_score_and_may_be_negative() -> None:
    features, label = sample(4000, 1)
    weight = np.where(label == 1, 3.0, 1.0)
    plain = fit_boosting(features, label, None, 1).score(features)
    heavy = fit_boosting(features, label, weight, 1).score(features)
    assert np.mean(heavy - plain) == pytest.approx(np.log(3), abs=0.2)
    negative = np.where(np.arange(4000) % 10 == 0, -0.5, 1.0)
    signed = fit_boosting(features, label, negative, 1).score(sample(4000, 2)[0])
    assert auc(scored_events(signed, label)).value == pytest.approx(norm.cdf(1.0), abs=0.03)


def test_seed_reproduces_every_registered_baseline() -> None:
    features, label = sample(600, 1)
    for fit in BASELINES.values():
        first, second = (fit(features, label, None, 4).score(features) for _ in range(2))
        assert (first == second).all()
        assert first.shape == (600,)


def test_unfit_training_events_are_refused() -> None:
    features, label = sample(200, 1)
    few = np.zeros(200, dtype=int)
    few[:19] = 1
    with pytest.raises(InputError, match="found 19 signal events"):
        fit_boosting(features, few, None, 1)
    with pytest.raises(InputError, match="must be 1 or 0"):
        fit_boosting(features, label - 1, None, 1)
    with pytest.raises(InputError, match="do not fit"):
        fit_boosting(features[:5], label, None, 1)
    with pytest.raises(InputError, match="background weights"):
        fit_boosting(features, label, np.where(label == 0, -1.0, 1.0), 1)
    features[7, 0] = np.inf
    with pytest.raises(InputError, match="infinite in 1 rows, the first is 7"):
        fit_boosting(features, label, None, 1)


def test_a_feature_that_is_always_missing_changes_nothing() -> None:
    random = np.random.default_rng(1)
    label = np.arange(200) % 2
    features = random.normal(size=(200, 2)) + label[:, np.newaxis]
    with_gap = np.column_stack([features[:, 0], np.full(200, np.nan), features[:, 1]])
    plain = fit_boosting(features, label, None, 1).score(features)
    np.testing.assert_array_equal(fit_boosting(with_gap, label, None, 1).score(with_gap), plain)
