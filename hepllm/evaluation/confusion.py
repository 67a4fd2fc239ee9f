"""Classification by a cut: confusion table, accuracy, precision, recall."""

from __future__ import annotations

import numpy as np

from hepllm.arrays import Bools
from hepllm.evaluation.metrics import ROUNDING, RocCurve, Threshold
from hepllm.evaluation.scores import ScoredEvents
from hepllm.records import Record


class Confusion(Record):
    """Sums of weights by true class and by the class that a cut assigns."""

    signal_as_signal: float
    """Signal above the cut: true positives."""
    signal_as_background: float
    """Signal below the cut: false negatives."""
    background_as_signal: float
    """Background above the cut: false positives."""
    background_as_background: float
    """Background below the cut: true negatives."""

    @property
    def accuracy(self) -> float | None:
        """Share of correctly classified events, in the sample's signal:background ratio."""
        right = self.signal_as_signal + self.background_as_background
        wrong = self.signal_as_background + self.background_as_signal
        return _share(right, right + wrong)

    @property
    def recall(self) -> float | None:
        """Share of the signal above the cut: eps_s."""
        return _share(self.signal_as_signal, self.signal_as_signal + self.signal_as_background)

    @property
    def specificity(self) -> float | None:
        """Share of the background below the cut: 1 - eps_b."""
        right = self.background_as_background
        return _share(right, right + self.background_as_signal)

    @property
    def precision(self) -> float | None:
        """Share of signal above the cut (purity), in this sample's signal:background ratio."""
        return _share(self.signal_as_signal, self.signal_as_signal + self.background_as_signal)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall."""
        wrong = self.signal_as_background + self.background_as_signal
        return _share(2 * self.signal_as_signal, 2 * self.signal_as_signal + wrong)

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean of recall and specificity: the accuracy at a ratio of 1:1."""
        if self.recall is None or self.specificity is None:
            return None
        return (self.recall + self.specificity) / 2


def confusion(events: ScoredEvents, threshold: float) -> Confusion:
    """Sums weights by true class and by whether the score reaches a threshold."""
    passes = events.score >= threshold
    signal = events.is_signal

    def total(chosen: Bools) -> float:
        return float(events.weight[chosen].sum())

    return Confusion(
        signal_as_signal=total(signal & passes),
        signal_as_background=total(signal & ~passes),
        background_as_signal=total(~signal & passes),
        background_as_background=total(~signal & ~passes),
    )


def choose_balanced_accuracy(validation: RocCurve) -> Threshold:
    """Chooses the cut of the largest balanced accuracy on validation data."""
    rule = "largest balanced accuracy on validation data"
    if validation.reason is not None:
        return Threshold(None, rule, f"validation data: {validation.reason}")
    index = int(np.argmax(validation.eps_s - validation.eps_b))
    return Threshold(float(validation.threshold[index]), rule)


def choose_eps_s(validation: RocCurve, eps_s: float) -> Threshold:
    """Chooses the tightest cut with at least a stated signal efficiency on validation data."""
    rule = f"eps_s >= {eps_s:g} on validation data"
    if validation.reason is not None:
        return Threshold(None, rule, f"validation data: {validation.reason}")
    index = int(np.argmax(validation.eps_s >= eps_s * (1 - ROUNDING)))
    return Threshold(float(validation.threshold[index]), rule)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
