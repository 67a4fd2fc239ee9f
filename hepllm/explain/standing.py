"""The place of a value among the events of a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats


@dataclass(frozen=True)
class Standing:
    """The place of a value in a distribution.

    Attributes:
        percentile: share of the weights below the value in percent, with ties as one half; None
            for a missing value, or where no event has one.
        n_events: number of events that have the feature.
        missing: share of the weights of events that do not have it.
    """

    percentile: float | None
    n_events: int
    missing: float


def standing(value: float, sample: Floats, weight: Floats) -> Standing:
    """Finds the place of a value in a sample with weights, both (N,); NaN means missing."""
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
    """Returns the weighted median of a sample without missing values; NaN if nothing is left.

    That is the lowest value up to which at least half of the weights lie.
    """
    present = ~np.isnan(sample) & (weight > 0)
    if not present.any():
        return float("nan")
    values, weights = sample[present], weight[present]
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    place = int(np.searchsorted(reached, reached[-1] / 2))
    return float(values[order][place])
