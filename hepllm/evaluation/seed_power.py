"""How many seeds it takes to see a difference between two recipes.

Two recipes are trained with n seeds each, and their means compared by Student's t with 2 n - 2
degrees of freedom. Both vary by the same standard deviation s over seeds, and independently: the
same seed starts other trainings in another recipe. If the true difference is d, the statistic has
a non-central t distribution with the parameter d / (s sqrt(2 / n)), which gives the power.

The s of a few seeds is not well known, and the number of seeds goes with its square. So the number
comes with an interval, from that of s by the chi-squared distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, nct, norm
from scipy.stats import t as student

from hepllm.arrays import Floats
from hepllm.records import Pair

MOST = 10_000
"""Largest number of seeds that is told."""

_LARGE_SHIFT = 5.0
"""Shift beyond which fewer than one in a million statistics are significant with the wrong sign."""


@dataclass(frozen=True)
class NeededSeeds:
    """Seeds of each of two recipes that show a difference.

    Attributes:
        number: for the measured spread; None: more than ``MOST``.
        low: for the lower end of the interval of the spread; None as above.
        high: for its upper end; None as above.
    """

    number: int | None
    low: int | None
    high: int | None


def power(difference: float, spread: float, n_seeds: int, level: float = 0.05) -> float:
    """Probability that a two-sided test of two recipes shows a difference between them.

    Args:
        difference: true difference of the means.
        spread: standard deviation over seeds, of either recipe.
        n_seeds: seeds of each recipe, at least 2.
        level: p-value below which a difference counts as shown.
    """
    if not spread:
        return 1.0 if difference else level
    freedom, shift = 2 * n_seeds - 2, abs(difference) / spread * np.sqrt(n_seeds / 2)
    critical = student.isf(level / 2, freedom)
    # Of a large shift, the other tail is nothing, and SciPy's is not a number.
    wrong_sign = nct.cdf(-critical, freedom, shift) if shift < _LARGE_SHIFT else 0.0
    return float(nct.sf(critical, freedom, shift) + wrong_sign)


def seeds_for(difference: float, spread: float, wanted: float, level: float = 0.05) -> int | None:
    """Smallest number of seeds per recipe with at least the wanted power; None above ``MOST``."""
    if not spread:
        return 2 if difference else None
    if not difference:
        return None
    # That of the normal distribution is a few too small.
    normal = 2 * ((norm.isf(level / 2) + norm.ppf(wanted)) * spread / difference) ** 2
    number = int(np.clip(normal, 2, MOST))
    while number > 2 and power(difference, spread, number - 1, level) >= wanted:
        number -= 1
    while number <= MOST and power(difference, spread, number, level) < wanted:
        number += 1
    return number if number <= MOST else None


def spread_interval(values: Floats, confidence: float) -> Pair:
    """Interval of the standard deviation over seeds, from n values of shape (n,), n > 1."""
    freedom, square = len(values) - 1, float(values.var(ddof=1))
    tails = (1 + confidence) / 2, (1 - confidence) / 2
    low, high = (float(np.sqrt(freedom * square / chi2.ppf(one, freedom))) for one in tails)
    return low, high


def needed_seeds(
    values: Floats, difference: float, wanted: float, confidence: float
) -> NeededSeeds:
    """Seeds per recipe that show a difference with the wanted power, from measured values.

    Args:
        values: the metric of n > 1 seeds of one recipe, shape (n,).
        difference: true difference of the means.
        wanted: power.
        confidence: probability content of the interval; tests are at one minus it.
    """
    level = 1 - confidence
    spread, (low, high) = float(values.std(ddof=1)), spread_interval(values, confidence)
    found = (seeds_for(difference, one, wanted, level) for one in (spread, low, high))
    return NeededSeeds(*found)
