"""Shares of events and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from hepllm.evaluation.efficiency import clopper_pearson, efficiency


def test_the_interval_of_a_share_is_that_of_the_exact_test() -> None:
    for n_passing, n_events in ((0, 5), (3, 20), (5, 5)):
        exact = binomtest(n_passing, n_events).proportion_ci(method="exact")
        assert clopper_pearson(n_passing, n_events) == pytest.approx((exact.low, exact.high))
    low, high = clopper_pearson(3, 20, 0.68)
    assert binom.sf(2, 20, low) == pytest.approx(0.16)
    assert binom.cdf(3, 20, high) == pytest.approx(0.16)
    # Effective numbers lie between whole ones.
    assert clopper_pearson(3, 20)[0] < clopper_pearson(3.5, 20)[0] < clopper_pearson(4, 20)[0]


def test_an_efficiency_has_its_clopper_pearson_interval() -> None:
    passes = np.arange(50) < 7
    found = efficiency(passes, np.ones(50), 0.9)
    assert found is not None
    assert (found.value, found.n_passing, found.n_events) == (7 / 50, 7, 50)
    assert binom.sf(6, 50, found.interval[0]) == pytest.approx(0.05)
    assert binom.cdf(7, 50, found.interval[1]) == pytest.approx(0.05)
    weighted = efficiency(passes, np.full(50, 3.0), 0.9)
    assert weighted is not None
    assert weighted.interval == pytest.approx(found.interval)
    nothing = efficiency(np.zeros(5, dtype=bool), np.ones(5), 0.9)
    assert nothing is not None
    assert (nothing.value, nothing.interval[0]) == (0, 0)
    assert efficiency(passes, -np.ones(50), 0.9) is None
