"""Percentiles over runs of which some have only a bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepllm.evaluation.censoring import censored_percentiles

PERCENTILES = (16, 50, 84)
VALUES = st.lists(st.floats(0.1, 100), min_size=1, max_size=9)


@given(VALUES)
def test_without_bounds_they_are_numpys(values: list[float]) -> None:
    found = censored_percentiles(np.array(values), np.full(len(values), np.nan), PERCENTILES)
    np.testing.assert_allclose(found.value, np.percentile(values, PERCENTILES))
    assert np.isnan(found.lower_bound).all()


@given(VALUES, st.integers(1, 9))
def test_a_median_is_known_while_fewer_than_half_lie_above(
    values: list[float], n_bounds: int
) -> None:
    known = np.array([*values, *[np.nan] * n_bounds])
    bounds = np.full(len(known), 0.05)
    found = censored_percentiles(known, bounds, (50,))
    filled = np.where(np.isnan(known), 1000.0, known)
    if n_bounds < len(values):
        assert found.value[0] == pytest.approx(np.median(filled))
    else:
        assert np.isnan(found.value[0])
        mixed = np.where(np.isnan(known), bounds, known)
        assert found.lower_bound[0] == pytest.approx(np.median(mixed))


@given(VALUES, VALUES)
def test_what_has_a_value_does_not_change_when_the_hidden_values_are_shown(
    values: list[float], hidden: list[float]
) -> None:
    """The true values of the censored runs, all above, give the same percentiles."""
    above = max(values) + np.array(hidden)
    censored = np.array([*values, *[np.nan] * len(hidden)])
    found = censored_percentiles(censored, censored, PERCENTILES)
    truth = np.percentile([*values, *above], PERCENTILES)
    everyone = censored_percentiles(censored, np.array([*values, *above]), PERCENTILES)
    assert np.isnan(found.value).all()  # a run with neither value nor bound is no run to order
    shown = ~np.isnan(everyone.value)
    np.testing.assert_allclose(everyone.value[shown], truth[shown])
    np.testing.assert_allclose(everyone.lower_bound[~shown], truth[~shown])


def test_estimates_place_the_runs_without_a_value() -> None:
    values, bounds = np.array([9.0, np.nan, 10.0]), np.array([np.nan, 2.0, np.nan])
    assert censored_percentiles(values, bounds, (50,)).value[0] == 10.0
    low = censored_percentiles(values, bounds, (50,), np.array([0.0, 5.0, 0.0]))
    assert low.value[0] == 9.0
    middle = censored_percentiles(values, bounds, (50,), np.array([0.0, 9.5, 0.0]))
    assert np.isnan(middle.value[0])
    assert middle.lower_bound[0] == 9.0


def test_curves_are_ordered_point_by_point() -> None:
    values = np.array([[1.0, 5.0], [2.0, np.nan], [3.0, np.nan]])
    found = censored_percentiles(values, np.full((3, 2), 4.0), (50,))
    np.testing.assert_array_equal(found.value, [[2.0, np.nan]])
    np.testing.assert_array_equal(found.lower_bound, [[np.nan, 4.0]])
