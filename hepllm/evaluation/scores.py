"""Scores with labels and weights, the input of every metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepllm.arrays import Bools, Floats, Ints
from hepllm.errors import InputError
from hepllm.schema import BACKGROUND, SIGNAL


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """One sample of N events with scores of several classifiers.

    Attributes:
        label: (N,) of 1 (signal) and 0 (background).
        scores: (N,) of each classifier, larger for signal; the first is the evaluated model, the
            others are its baselines.
        ablations: (N,) scores of the model with part of its input destroyed.
        weight: (N,); None for 1 each.
        retrained: names of ``scores`` that are the model trained with part of its input.
    """

    label: ArrayLike
    scores: Mapping[str, NDArray[np.floating]]
    ablations: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    weight: ArrayLike | None = None
    retrained: tuple[str, ...] = ()

    def take(self, events: Ints) -> ScoreTable:
        """The events at these positions."""
        return ScoreTable(
            np.asarray(self.label)[events],
            {name: score[events] for name, score in self.scores.items()},
            {name: score[events] for name, score in self.ablations.items()},
            None if self.weight is None else np.asarray(self.weight)[events],
            self.retrained,
        )


@dataclass(frozen=True, eq=False)
class ScoredEvents:
    """Events of known class with one score each; made by ``scored_events``.

    Attributes:
        score: (N,) scores, larger for signal; the metrics depend only on their order.
        label: (N,) labels, 1 for signal and 0 for background.
        weight: (N,) weights, which may be negative.
    """

    score: Floats
    label: NDArray[np.integer]
    weight: Floats

    def take(self, events: Ints | Bools) -> ScoredEvents:
        """The events at these positions or in this mask."""
        return ScoredEvents(self.score[events], self.label[events], self.weight[events])

    @property
    def is_signal(self) -> Bools:
        """Mask of the signal events, shape (N,)."""
        mask: Bools = np.equal(self.label, SIGNAL)
        return mask

    @property
    def n_signal(self) -> int:
        """Number of signal events, without weights."""
        return int(np.count_nonzero(self.is_signal))

    @property
    def n_background(self) -> int:
        """Number of background events, without weights."""
        return len(self.label) - self.n_signal

    @property
    def problem(self) -> str | None:
        """Why efficiencies are undefined, in words; None when both classes can be normalised."""
        for name, chosen in (("signal", self.is_signal), ("background", ~self.is_signal)):
            if not chosen.any():
                return f"no {name} events"
            if self.weight[chosen].sum() <= 0:
                return f"the {name} weights do not sum to a positive number"
        return None


def scored_events(
    score: ArrayLike, label: ArrayLike, weight: ArrayLike | None = None, name: str = "score"
) -> ScoredEvents:
    """Checks scores, labels and weights for all metrics.

    Args:
        score: (N,) scores, larger for signal.
        label: (N,) of 1 (signal) and 0 (background).
        weight: (N,) weights; None for 1 each.
        name: name of the scores in an error message.

    Raises:
        InputError: for lengths that differ, values that are not finite, or other labels.
    """
    scores = np.asarray(score, dtype=np.float64)
    labels = np.asarray(label)
    weights = np.ones(len(labels)) if weight is None else np.asarray(weight, dtype=np.float64)
    for what, array in ((name, scores), (f"{name}: weight", weights)):
        if array.shape != labels.shape or array.ndim != 1:
            raise InputError(f"{what} has shape {array.shape}, the labels have {labels.shape}")
        bad = np.flatnonzero(~np.isfinite(array))
        if len(bad):
            raise InputError(
                f"{what}: {len(bad)} of {len(array)} values are not finite, "
                f"the first is {array[bad[0]]} in row {bad[0]}; repair or leave out these events"
            )
    unknown = np.flatnonzero(~np.isin(labels, (SIGNAL, BACKGROUND)))
    if len(unknown):
        raise InputError(
            f"{name}: {len(unknown)} of {len(labels)} labels are neither {SIGNAL} nor "
            f"{BACKGROUND}, the first is {labels[unknown[0]]} in row {unknown[0]}; "
            "metrics need events of known class"
        )
    return ScoredEvents(scores, labels.astype(np.int64), weights)
