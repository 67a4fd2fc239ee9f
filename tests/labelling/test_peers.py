"""Simpler methods on predictions whose rule is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hepllm.labelling.peers import cut, few_shot, iterated, k_means, mean_by_event, zero_shot
from hepllm.labelling.predictions import BudgetSpentError, Contexts, Predictions


def test_iterating_mends_what_the_first_labels_had_wrong(planted: Callable) -> None:
    model = planted(60, knowledge=0.7, noise=1.0)
    predictions = Predictions(model, 2000)
    start = zero_shot(predictions, 60)
    first = (cut(start, None) == model.truth).mean()
    contexts = Contexts.draw(np.arange(60), 6, 8, seed=1)
    found = iterated(predictions, contexts, start, 5, None)
    assert 0.6 < first < 0.95
    assert (cut(found, None) == model.truth).mean() > max(first, 0.95)


def test_random_labels_teach_nothing_but_what_is_known(planted: Callable) -> None:
    model = planted(40, strength=6.0, knowledge=1.0, noise=0.0)
    predictions = Predictions(model, 1000)
    found = few_shot(predictions, np.arange(40), 8, seed=3)
    assert predictions.left < 40
    # Balanced random labels are right as often as wrong; the mean is what the model knows.
    assert np.abs(found * (2 * model.truth - 1)).mean() < 4.0
    with pytest.raises(BudgetSpentError):
        few_shot(Predictions(model, 30), np.arange(40), 8, seed=3)


def test_clusters_have_the_name_that_the_model_gives_most_of_their_events() -> None:
    random = np.random.default_rng(1)
    truth = np.arange(80) % 2
    numbers = np.exp(3 + random.normal(0, 0.2, (80, 2)) + truth[:, None])
    numbers[::9, 0] = np.nan
    odds = 0.3 * (2 * truth - 1) + random.normal(0, 1, 80)
    names = ("jet1_mass", "jet2_mass")
    found = k_means(numbers, names, odds, seed=1)
    assert ((found > 0) == truth).mean() > 0.95
    assert np.array_equal(k_means(numbers, names, -odds, seed=1) > 0, found <= 0)


def test_k_means_leaves_out_what_no_event_has() -> None:
    random = np.random.default_rng(1)
    truth = np.arange(80) % 2
    masses = np.column_stack([np.where(truth, 400.0, 60.0) + random.normal(0, 9, 80)])
    masses[3] = np.nan
    both = np.column_stack([masses, np.full(80, np.nan)])
    odds = 2.0 * truth - 1
    found = k_means(both, ["jet1_mass", "jet3_mass"], odds, seed=1)
    np.testing.assert_array_equal(found, k_means(masses, ["jet1_mass"], odds, seed=1))


def test_a_stated_prior_cuts_at_its_share() -> None:
    odds = np.random.default_rng(2).normal(size=200)
    assert cut(odds, 0.1).sum() == 20
    assert np.array_equal(cut(odds, None), odds > 0)


def test_means_over_views_leave_out_what_is_missing() -> None:
    event = np.array([0, 0, 1, 1, 2])
    found = mean_by_event(np.array([1.0, 3.0, np.nan, 2.0, np.nan]), event)
    assert found[:2].tolist() == [2.0, 2.0]
    assert np.isnan(found[2])
