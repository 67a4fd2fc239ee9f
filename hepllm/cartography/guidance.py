"""What a map tells a training: label smoothing, loss weights and the order of events.

Unlike a filter, all of these keep every event.
"""

from __future__ import annotations

import numpy as np

from hepllm.arrays import Floats, Labels
from hepllm.config import ByMapConfig
from hepllm.schema import BACKGROUND, SIGNAL

LARGEST_VARIABILITY = 0.5
"""Largest standard deviation of a probability."""


def smoothed_targets(label: Labels, variability: Floats, factor: float) -> Floats:
    """Smooths the label of each event by its variability.

    Args:
        label: 1 or 0, shape (N,).
        variability: shape (N,); NaN where not known, which is not smoothed.
        factor: smoothing of an event of the largest possible variability, 0.5.

    Returns:
        Probability of signal, shape (N,): (1 - s) y + s / 2, with s = factor v / 0.5.
    """
    share = factor * np.nan_to_num(variability) / LARGEST_VARIABILITY
    smoothed: Floats = (1 - share) * label + share / 2
    return smoothed


def variability_weights(label: Labels, variability: Floats, config: ByMapConfig) -> Floats:
    """Weights events by their variability, with a mean of 1 in each class.

    Args:
        label: 1 or 0, shape (N,).
        variability: shape (N,); NaN where not known, which has the weight of the class's mean.
        config: power and limits.

    Returns:
        Shape (N,): (v / mean v of the class) ** power, within the limits, over its mean.
    """
    weights = np.ones(len(label))
    low, high = config.weight_range
    for one in (SIGNAL, BACKGROUND):
        known = (label == one) & ~np.isnan(variability)
        if not known.any() or not (mean := variability[known].mean()) > 0:
            continue
        ratio = np.maximum(variability[known] / mean, 1e-6)  # a power below 0 of 0 is infinite
        found = np.clip(ratio**config.weight_power, low, high)
        weights[known] = found / found.mean()
    return weights


def difficulty_ranks(label: Labels, difficulty: Floats) -> Floats:
    """Ranks the events of each class: shares of the class that are easier, shape (N,), in [0, 1).

    Args:
        label: 1 or 0, shape (N,).
        difficulty: rises from the first events to the last; NaN where not known, in the middle.
    """
    ranks = np.zeros(len(label))
    for one in (SIGNAL, BACKGROUND):
        mine = np.flatnonzero(label == one)
        values = difficulty[mine]
        known = values[~np.isnan(values)]
        values = np.where(np.isnan(values), np.median(known) if len(known) else 0.0, values)
        ranks[mine[np.argsort(values, kind="stable")]] = np.arange(len(mine)) / max(1, len(mine))
    return ranks
