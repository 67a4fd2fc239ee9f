"""The number of seeds that shows a difference, against simulated trainings."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_ind

from hepllm.evaluation.seed_power import (
    MOST,
    needed_seeds,
    power,
    seeds_for,
    spread_interval,
)


@pytest.mark.parametrize(("relative", "spread"), [(0.03, 0.03), (0.03, 0.015), (0.01, 0.02)])
def test_that_many_seeds_show_the_difference_in_simulated_trainings(
    relative: float, spread: float
) -> None:
    random, n_trials, mean = np.random.default_rng(3), 20_000, 12.0
    number = seeds_for(relative * mean, spread * mean, 0.8)
    assert number is not None

    def shown(n_seeds: int) -> float:
        ours = random.normal(mean * (1 + relative), spread * mean, (n_trials, n_seeds))
        theirs = random.normal(mean, spread * mean, (n_trials, n_seeds))
        return float(np.mean(ttest_ind(ours, theirs, axis=1).pvalue < 0.05))

    error = 3 * np.sqrt(0.8 * 0.2 / n_trials)
    assert shown(number) > 0.8 - error
    assert shown(number - 1) < 0.8 + error
    assert shown(number) == pytest.approx(power(relative, spread, number), abs=error)


@pytest.mark.parametrize("n_seeds", [5, 10])
def test_the_interval_of_the_number_covers_the_true_one(n_seeds: int) -> None:
    random, true = np.random.default_rng(5), seeds_for(0.03, 0.03, 0.8)
    assert true is not None
    n_trials, covered = 400, 0
    for _ in range(n_trials):
        found = needed_seeds(random.normal(1, 0.03, n_seeds), 0.03, 0.8, 0.95)
        covered += (found.low or MOST) <= true <= (found.high or MOST)
    # Whole numbers make an interval a little wider than asked for.
    assert 0.93 <= covered / n_trials <= 0.995


def test_the_interval_of_the_spread_covers() -> None:
    random = np.random.default_rng(6)
    intervals = [spread_interval(random.normal(0, 2, 6), 0.9) for _ in range(3000)]
    assert np.mean([low < 2 < high for low, high in intervals]) == pytest.approx(0.9, abs=0.02)


def test_power_rises_with_seeds() -> None:
    for difference in (0.01, 0.1, 1.0):
        found = [power(difference, 0.2, number) for number in (2, 10, 100, 400, 2000, MOST)]
        assert found == sorted(found)
        assert found[-1] <= 1


def test_what_cannot_be_shown_has_no_number() -> None:
    assert seeds_for(1e-6, 1.0, 0.8) is None
    assert seeds_for(0.1, 0.0, 0.8) == 2
    assert power(0.0, 1.0, 5) == pytest.approx(0.05)
