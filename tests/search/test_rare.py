"""Weighted pseudo-experiments: exact Poisson probabilities, unbiased weights, counted p-values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import poisson

from hepllm.search.rare import RareP, RareToys, rare_p_value
from hepllm.search.scan import Windows
from hepllm.search.smooth import smooth_background
from hepllm.search.spectra import bin_edges
from hepllm.search.toys import NullHypothesis, rare_p_value_of, run_block

EDGES = bin_edges(2600, 8000, 0.05)
WINDOWS = Windows(1, 4)


def _null() -> NullHypothesis:
    background = smooth_background(EDGES, WINDOWS, "template", 0.05, 13000)
    centre = np.sqrt(EDGES[1:] * EDGES[:-1])
    before = (1 - centre / 13000) ** 8 * centre**-5.0 * np.diff(EDGES)
    before *= 15_000 / before.sum()
    selected = np.array([0.01, 0.003])[:, None] * before
    return NullHypothesis(background, before - selected[0], selected)


def _toys(statistic: float) -> RareToys:
    null = _null()
    shells = np.array([null.selected[0] - null.selected[1], null.selected[1]])
    return RareToys.of(null.rejected, shells, null.background, statistic)


@pytest.mark.parametrize("statistic", [8.0, 20.0, 40.0])
def test_probability_of_a_window_is_poisson(statistic: float) -> None:
    null = _null()
    expected = null.selected[0, 14:16].sum()
    numbers = np.arange(1000)
    seen = int(numbers[poisson.logsf(numbers - 1, expected) < -statistic][0])
    toys, random = _toys(statistic), np.random.default_rng(1)

    def throw() -> tuple[np.ndarray, list[np.ndarray], np.ndarray, np.ndarray]:
        rejected, selected, weights = toys.throw(5000, random)
        return rejected, selected, weights, selected[0][:, 14:16].sum(axis=1) >= seen

    for _ in range(5):
        rejected, selected, weights, extreme = throw()
        toys = toys.adapted(rejected, selected, weights * extreme)
    *_, weights, extreme = throw()
    found = rare_p_value(weights, extreme)
    assert found is not None
    exact = poisson.sf(seen - 1, expected)
    assert found.relative_error < 0.5
    assert found.value == pytest.approx(exact, rel=4 * found.relative_error)


def test_weights_make_spectra_without_an_excess() -> None:
    null = _null()
    rejected, selected, weights = _toys(6.0).throw(20_000, np.random.default_rng(2))
    assert weights.max() <= 10
    for counts, expected in zip(
        (rejected, *selected), (null.rejected, *null.selected), strict=True
    ):
        each = weights[:, None] * counts
        pulls = (each.mean(axis=0) - expected) / (each.std(axis=0) / np.sqrt(len(each)))
        assert np.abs(pulls).max() < 4.5
    assert (selected[1] <= selected[0]).all()


def test_p_value_agrees_with_counting() -> None:
    null = _null()
    counted = np.concatenate(
        [run_block(null, 1, block).statistic.max(axis=1) for block in range(3)]
    )
    observed = float(np.sort(counted)[-60])
    found = rare_p_value_of(null, observed, seed=2, n_toys=2000)
    assert found is not None
    # Sixty events are counted with an error of 13 %.
    assert abs(np.log(found.value / 0.02)) < 3.5 * np.hypot(found.relative_error, 0.13)
    assert found.n_exceeding > 500


def test_smaller_p_values_stay_known() -> None:
    levels = (8.0, 12.0, 20.0)
    found = [rare_p_value_of(_null(), level, seed=3, n_toys=1000) for level in levels]
    values = [one.value for one in found if one is not None]
    assert len(values) == 3
    assert values[0] > 20 * values[1] > 400 * values[2] > 0
    assert all(one is not None and one.n_exceeding > 100 for one in found)


def test_interval_is_that_of_the_logarithm() -> None:
    low, high = RareP(1e-6, 0.2, 1000, 400).interval
    assert low * high == pytest.approx(1e-12)
    assert np.log(high / 1e-6) == pytest.approx(0.2 * 0.994, rel=1e-2)
    assert RareP(0.9, 1.0, 10, 5).interval[1] == 1.0
    assert rare_p_value(np.ones(3), np.zeros(3, dtype=bool)) is None
