"""Means over seeds with intervals, paired tests across seeds, and Holm's correction.

The values of several trainings on the same events vary by the trainings alone. So an interval here
is for other seeds on these events; ``seed_intervals`` has those for other events as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from hepllm.arrays import Floats
from hepllm.records import Pair


def mean_interval(values: Floats, confidence: float) -> Pair | None:
    """Interval of the mean of n values by Student's t.

    Args:
        values: shape (n,).
        confidence: probability content.

    Returns:
        Lower and upper end; None for fewer than two values.
    """
    number = len(values)
    if number < 2:
        return None
    quantile = student.ppf((1 + confidence) / 2, number - 1)
    half = float(quantile * values.std(ddof=1) / np.sqrt(number))
    return float(values.mean()) - half, float(values.mean()) + half


def paired_p_value(differences: Floats) -> float | None:
    """Two-sided p-value of a mean of zero for n paired differences, by Student's t.

    Args:
        differences: one for each seed, shape (n,).

    Returns:
        The p-value: 1 where all differences are zero; None for fewer than two, and where all are
        the same but zero, which t does not know the probability of.
    """
    if len(differences) < 2:
        return None
    if not np.ptp(differences):
        return None if differences[0] else 1.0
    return float(ttest_1samp(differences, 0.0).pvalue)


def holm(p_values: Sequence[float]) -> Floats:
    """p-values corrected for their number (Holm, Scand. J. Statist. 6, 1979)."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(1, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    return corrected
