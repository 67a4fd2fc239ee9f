"""Percentiles over several runs of which some have only a lower bound.

A run in which too little background passes rejects more background than the others. To leave it out
would make a median too low, so it takes part as a run that lies above (Kaplan and Meier, J. Am.
Stat. Assoc. 53 (1958) 457): a median is known as long as fewer than half of the runs lie above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats


@dataclass(frozen=True, eq=False)
class Percentiles:
    """Percentiles over runs.

    Attributes:
        value: (Q, ...) percentiles; NaN where the runs without a value decide it.
        lower_bound: (Q, ...) what the percentile exceeds, where it has no value; NaN elsewhere, and
            where a run has neither value nor bound.
    """

    value: Floats
    lower_bound: Floats


def censored_percentiles(
    values: Floats,
    bounds: Floats,
    percentiles: Sequence[float],
    estimates: Floats | None = None,
) -> Percentiles:
    """Computes percentiles, interpolated as ``numpy.percentile`` does.

    Args:
        values: (R, ...) values of R runs; NaN for a run that has only a bound, or nothing.
        bounds: (R, ...) lower bounds; read only where there is no value.
        percentiles: Q numbers in [0, 100].
        estimates: (R, ...) places of the runs without a value in the order; None for above all
            others, which holds at one signal efficiency of one sample.
    """
    missing = np.isnan(values)
    above = np.full(values.shape, np.inf) if estimates is None else estimates
    ranks = np.where(missing, above, values)
    order = np.argsort(ranks, axis=0, kind="stable")
    known = np.where(missing, bounds, values)
    lowest = np.percentile(known, percentiles, axis=0)  # NaN where a run has nothing
    found = np.empty(lowest.shape)
    for place, percentile in enumerate(percentiles):
        below, share = divmod(round(percentile / 100 * (len(values) - 1), 9), 1)
        parts = [
            np.take_along_axis(values, order[index : index + 1], axis=0)[0]
            for index in (int(below), int(below) + (share > 0))
        ]
        found[place] = parts[0] + share * (parts[1] - parts[0])
    found[:, np.isnan(known).any(axis=0)] = np.nan
    return Percentiles(found, np.where(np.isnan(found), lowest, np.nan))
