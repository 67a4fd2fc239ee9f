"""Where a value stands among the events of a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats


@dataclass(frozen=True)
class Standing:
    """The place of a value in a distribution.

    Attributes:
        percentile: share of the weights below it in percent, ties counting one half; None for a
            missing value, or where no event has one.
        n_events: events that have the feature.
        missing: share of the weights of events that do not.
    """

    percentile: float | None
    n_events: int
    missing: float


def standing(value: float, sample: Floats, weight: Floats) -> Standing:
    """Finds the place of a value among the events of a class.

    Args:
        value: NaN where missing.
        sample: (N,), NaN where missing.
        weight: (N,).
    """
    present = ~np.isnan(sample)
    total, here = float(weight.sum()), float(weight[present].sum())
    missing = 1 - here / total if total > 0 else 0.0
    n_events = int(np.count_nonzero(present))
    if np.isnan(value) or here <= 0:
        return Standing(None, n_events, missing)
    below = float(weight[sample < value].sum())
    ties = float(weight[sample == value].sum())
    return Standing(100 * (below + ties / 2) / here, n_events, missing)


def median(sample: Floats, weight: Floats) -> float:
    """The weighted median of the values that are there; NaN where there are none.

    The lowest value up to which at least half of the weights lie.
    """
    present = ~np.isnan(sample) & (weight > 0)
    if not present.any():
        return float("nan")
    values, weights = sample[present], weight[present]
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    place = int(np.searchsorted(reached, reached[-1] / 2))
    return float(values[order][place])
