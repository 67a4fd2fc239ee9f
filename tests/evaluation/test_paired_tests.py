"""Means over seeds, paired tests and Holm's correction, against worked examples and on truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, ttest_1samp, ttest_rel

from hepllm.evaluation.paired_tests import holm, mean_interval, paired_p_value


def test_p_values_are_corrected_step_by_step() -> None:
    found = holm([0.01, 0.04, 0.03, 0.005])  # the example of R's p.adjust
    np.testing.assert_allclose(found, [0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]).max() == 1
    assert len(holm([])) == 0


def test_the_correction_keeps_false_alarms_rare() -> None:
    random = np.random.default_rng(4)
    alarms = sum(holm(random.random(6)).min() < 0.05 for _ in range(4000))
    assert alarms / 4000 == pytest.approx(0.05, abs=0.012)


def test_the_interval_is_that_of_a_t_test() -> None:
    values = np.array([0.1, 0.3, 0.2, 0.25, 0.4])
    expected = ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert mean_interval(values, 0.95) == pytest.approx((expected.low, expected.high))
    assert mean_interval(values[:1], 0.95) is None


def test_the_interval_covers() -> None:
    random = np.random.default_rng(1)
    intervals = [mean_interval(random.normal(3, 2, 5), 0.9) for _ in range(3000)]
    covered = np.mean([one is not None and one[0] < 3 < one[1] for one in intervals])
    assert covered == pytest.approx(0.9, abs=0.02)


def test_the_test_is_that_of_pairs_and_uniform_without_a_difference() -> None:
    random = np.random.default_rng(2)
    ours, theirs = random.normal(0, 1, (2, 6))
    assert paired_p_value(ours - theirs) == pytest.approx(ttest_rel(ours, theirs).pvalue)
    drawn = [paired_p_value(random.normal(0, 1, 5)) for _ in range(2000)]
    assert kstest(np.array(drawn), "uniform").pvalue > 1e-3


def test_equal_differences_have_the_p_value_that_is_known() -> None:
    assert paired_p_value(np.zeros(4)) == 1
    assert paired_p_value(np.full(4, 0.5)) is None
    assert paired_p_value(np.array([0.5])) is None
