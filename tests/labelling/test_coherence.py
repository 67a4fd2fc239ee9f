"""The search for a coherent labelling: it recovers a planted one, and finds chance in chance."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binomtest

from hepllm.config import CoherenceConfig
from hepllm.labelling.coherence import CoherenceSearch, inconsistencies
from hepllm.labelling.predictions import BudgetSpentError, Contexts, Predictions

CONFIG = CoherenceConfig()


def search(model, n_events: int, n_views: int = 1, seed: int = 1, budget: int = 50_000):
    event = np.repeat(np.arange(n_events), n_views)
    contexts = Contexts.draw(event, 8, 8, seed)
    return CoherenceSearch(Predictions(model, budget), contexts, CONFIG, seed)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_planted_labelling_is_recovered(planted: Callable, seed: int) -> None:
    model = planted(40, n_views=2, seed=seed)
    found = search(model, 40, 2, seed).run()
    assert found.is_complete
    assert (found.labels == model.truth).mean() >= 0.95
    assert found.inconsistencies <= 2


@pytest.mark.parametrize("seed", [1, 2])
def test_without_knowledge_the_labels_are_planted_or_all_exchanged(
    planted: Callable, seed: int
) -> None:
    model = planted(40, seed=seed, knowledge=0.0)
    right = (search(model, 40, seed=seed).run().labels == model.truth).mean()
    assert max(right, 1 - right) >= 0.95


def test_predictions_by_chance_give_labels_by_chance(careless: Callable) -> None:
    right = [
        (found.labels == model.truth).sum()
        for seed in range(6)
        for model in [careless(30, seed=seed)]
        for found in [search(model, 30, seed=seed).run()]
    ]
    assert binomtest(int(sum(right)), 6 * 30, 0.5).pvalue > 0.001


def test_equal_seeds_find_equal_labels_in_equally_many_predictions(planted: Callable) -> None:
    first, second = (search(planted(20), 20) for _ in range(2))
    labels = [one.run().labels.tolist() for one in (first, second)]
    assert labels[0] == labels[1]
    assert first.predictions.n_used == second.predictions.n_used


def test_utility_is_that_of_the_paper(planted: Callable) -> None:
    one = search(planted(6, n_views=2), 6, 2)
    labels = np.array([1, 0, 1, 1, 0, 0, 1, 1, 0, 0, -1, -1], dtype=np.int8)
    found = one.measure(labels)
    logs = [
        -np.log1p(np.exp(-(2 * label - 1) * odds))
        for label, odds in zip(labels, found.log_odds, strict=True)
        if label >= 0
    ]
    assert found.mean_log_probability == pytest.approx(np.mean(logs))
    assert found.inconsistencies == 1
    assert found.utility == pytest.approx(CONFIG.alpha * np.mean(logs) - 1)
    assert np.isnan(found.log_odds[-2:]).all()


def test_inconsistencies_count_pairs() -> None:
    event = np.array([0, 0, 0, 1, 1, 2])
    assert inconsistencies(event, np.array([1, 0, 1, 0, 0, 1], dtype=np.int8)) == 2
    assert inconsistencies(event, np.array([1, -1, 1, 0, -1, 1], dtype=np.int8)) == 0


def test_temperature_falls_to_its_least(planted: Callable) -> None:
    one = search(planted(4), 4)
    values = [one.temperature(step) for step in (1, 10, 100, 10**6)]
    assert values[0] == CONFIG.temperature
    assert all(late < early for early, late in pairwise(values))
    assert one.temperature(10**300) >= CONFIG.min_temperature


def test_a_spent_budget_leaves_what_was_found(planted: Callable) -> None:
    one = search(planted(40), 40, budget=150)
    found = one.run()
    assert one.predictions.n_used <= 150
    assert 8 <= (found.labels >= 0).sum() <= 40
    with pytest.raises(BudgetSpentError):
        search(planted(40), 40, budget=3).run()
