"""Measures of training events: confidence, variability, correctness, forgetting, margin.

Swayamdipta et al., Dataset Cartography, arXiv:2009.10795; Toneva et al., An Empirical Study of
Example Forgetting, arXiv:1812.05159; Pleiss et al., Identifying Mislabeled Data using the Area
Under the Margin Ranking, arXiv:2001.10528.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Floats, Ints
from hepllm.cartography.dynamics import PartDynamics


@dataclass(frozen=True, eq=False)
class Measures:
    """Measures of N events over the epochs in which each was shown; all of shape (N,).

    Attributes:
        n_epochs: epochs in which the event was shown; the others are NaN where it is 0.
        confidence: mean probability of the true class (arXiv:2009.10795, section 2).
        variability: standard deviation of that probability over the epochs, at most 0.5.
        correctness: share of the epochs in which the true class was the more probable one.
        forgetting: times that it was wrong in an epoch after it was right in the one before
            (arXiv:1812.05159); an event of correctness 0 was never learnt.
        area_under_margin: mean margin, the logit of the true class minus that of the other
            (arXiv:2001.10528, equation 1); low for wrong labels.
    """

    n_epochs: Ints
    confidence: Floats
    variability: Floats
    correctness: Floats
    forgetting: Ints
    area_under_margin: Floats

    @property
    def is_seen(self) -> Bools:
        """Events that were shown at least once, shape (N,)."""
        return self.n_epochs > 0


def measure(dynamics: PartDynamics, n_epochs: int | None = None, *, skip: int = 0) -> Measures:
    """Measures the events of a part of a training.

    Args:
        dynamics: record of N events in E epochs.
        n_epochs: stop after so many epochs; None: count all.
        skip: first epochs that do not count.
    """
    probability = dynamics.probability[:, skip:n_epochs].astype(np.float64)
    margin = dynamics.margin[:, skip:n_epochs].astype(np.float64)
    is_shown = ~np.isnan(margin)
    counts = is_shown.sum(axis=1)
    confidence = _mean(probability, is_shown, counts)
    squares = _mean((probability - confidence[:, np.newaxis]) ** 2, is_shown, counts)
    is_right = margin > 0
    return Measures(
        n_epochs=counts,
        confidence=confidence,
        variability=np.sqrt(squares),
        correctness=_mean(is_right.astype(np.float64), is_shown, counts),
        forgetting=_count_forgetting(is_right, is_shown),
        area_under_margin=_mean(margin, is_shown, counts),
    )


def _mean(values: Floats, is_shown: Bools, counts: Ints) -> Floats:
    """Mean over the epochs in which an event was shown, shape (N,)."""
    total = np.where(is_shown, values, 0.0).sum(axis=1)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def _count_forgetting(is_right: Bools, is_shown: Bools) -> Ints:
    """Counts the changes from right to wrong between epochs in which an event was shown."""
    forgotten = np.zeros(len(is_right), dtype=np.int64)
    was_right = np.zeros(len(is_right), dtype=np.bool_)
    for right, shown in zip(is_right.T, is_shown.T, strict=True):
        forgotten += shown & was_right & ~right
        was_right = np.where(shown, right, was_right)
    return forgotten
