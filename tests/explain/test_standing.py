"""Percentiles and medians against scipy and against repeated events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import percentileofscore

from hepllm.explain.standing import median, standing

VALUES = arrays(float, 15, elements=st.integers(-5, 5).map(float))
COUNTS = arrays(int, 15, elements=st.integers(1, 4))


@given(VALUES, COUNTS, st.integers(-6, 6))
def test_weights_are_repetitions(sample: np.ndarray, count: np.ndarray, value: int) -> None:
    repeated = np.repeat(sample, count)
    found = standing(float(value), sample, count.astype(float))
    expected = percentileofscore(repeated, value, kind="mean")
    np.testing.assert_allclose(found.percentile, expected)
    assert (found.n_events, found.missing) == (15, 0)
    lower = np.sort(repeated)[(len(repeated) - 1) // 2]
    assert median(sample, count.astype(float)) == lower


def test_missing_values_are_counted_apart() -> None:
    sample, weight = np.array([1.0, np.nan, 3.0, np.nan]), np.array([1.0, 1.0, 1.0, 3.0])
    found = standing(2.0, sample, weight)
    assert (found.percentile, found.n_events) == (50.0, 2)
    assert found.missing == pytest.approx(4 / 6)
    assert standing(np.nan, sample, weight).percentile is None
    nothing = np.full(3, np.nan)
    assert standing(1.0, nothing, np.ones(3)).percentile is None
    assert np.isnan(median(nothing, np.ones(3)))
