"""Efficiencies, AUC and the significance improvement characteristic of a score.

SIC = eps_S / sqrt(eps_B) (Gallicchio et al., arXiv:1001.4818). An event passes a cut when its score
is at or above the threshold. Thresholds are distinct scores only, so that tied events pass
together. A number that cannot be measured is None, with a reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hepllm.arrays import Bools, Floats, Ints
from hepllm.evaluation.scores import ScoredEvents

SIGNAL_EFFICIENCIES = (0.1, 0.3, 0.5)
"""Signal efficiencies at which a SIC is quoted."""

ROUNDING = 1e-9
"""Relative tolerance for sums of weights: 3 of 10 equal weights reach an efficiency of 0.3."""


@dataclass(frozen=True)
class Metric:
    """A number, or the reason why it is undefined."""

    value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Threshold:
    """A cut on the score with the rule that chose it, or the reason why there is none."""

    value: float | None
    chosen_by: str
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Counts:
    """Events of one class that pass, as numbers of events of equal weight.

    With weights, a number of events is a sum of weights over the weight of one event: sum w^2 /
    sum w of those that pass or of all, whichever is larger, so that no light event pretends to
    measure a share that heavy events dominate. Passing background of negative weight counts like
    positive, because it does not make the rest more certain.

    Attributes:
        passing: (T,) events that pass.
        total: (T,) all events of the class.
    """

    passing: Floats
    total: Floats

    def at(self, index: int | Ints) -> Counts:
        """The counts at one cut or several."""
        return Counts(np.asarray(self.passing[index]), np.asarray(self.total[index]))


@dataclass(frozen=True, eq=False)
class RocCurve:
    """Efficiencies at each distinct score, from the tightest to the loosest cut.

    Attributes:
        threshold: (T,) distinct scores, falling; empty when a class is missing.
        eps_s: (T,) weighted signal efficiency.
        eps_b: (T,) weighted background efficiency.
        n_signal_passing: (T,) signal events that pass, without weights.
        n_background_passing: (T,) background events that pass, without weights.
        n_background_effective: (T,) (sum w)^2 / sum w^2 of the background that passes: the number
            of unweighted events with the same relative uncertainty.
        signal: (T,) signal that passes, as events of equal weight.
        background: (T,) background that passes, as events of equal weight.
        reason: why the curve is empty; None otherwise.
    """

    threshold: Floats
    eps_s: Floats
    eps_b: Floats
    n_signal_passing: Ints
    n_background_passing: Ints
    n_background_effective: Floats
    signal: Counts
    background: Counts
    reason: str | None = None

    def sic(self, min_background: int) -> Floats:
        """Computes the SIC (T,), NaN where fewer effective background events pass."""
        enough = self.n_background_effective >= min_background * (1 - ROUNDING)
        defined = enough & (self.eps_b > 0)
        root = np.sqrt(np.where(defined, self.eps_b, 1.0))
        return np.where(defined, self.eps_s / root, np.nan)


@dataclass(frozen=True, eq=False)
class WorkingPoint:
    """One cut on a sample.

    Attributes:
        threshold: the cut; None where there is none.
        eps_s: signal efficiency.
        eps_b: background efficiency.
        n_signal_passing: signal events that pass, without weights.
        n_background_passing: background events that pass, without weights.
        sic: eps_s / sqrt(eps_b); None where too little background passes.
        reason: why ``sic`` is None.
        signal: signal that passes, as events of equal weight; None without a cut.
        background: background that passes, as events of equal weight; None without a cut.
    """

    threshold: float | None = None
    eps_s: float | None = None
    eps_b: float | None = None
    n_signal_passing: int | None = None
    n_background_passing: int | None = None
    sic: float | None = None
    reason: str | None = None
    signal: Counts | None = None
    background: Counts | None = None

    @property
    def inverse_eps_b(self) -> float | None:
        """Background rejection 1 / eps_b; None where the SIC is None."""
        return None if self.sic is None or not self.eps_b else 1 / self.eps_b


def roc(events: ScoredEvents) -> RocCurve:
    """Computes the efficiencies of both classes at every distinct score."""
    if events.problem is not None:
        nothing, none = np.empty(0), np.empty(0, dtype=np.int64)
        counts = Counts(nothing, nothing)
        return RocCurve(
            nothing, nothing, nothing, none, none, nothing, counts, counts, events.problem
        )
    order = np.argsort(-events.score, kind="stable")
    score = events.score[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)

    def passing(values: Floats) -> Floats:
        return np.asarray(np.cumsum(values[order])[last_of_ties], dtype=np.float64)

    is_signal = events.is_signal
    signal = passing(np.where(is_signal, events.weight, 0.0))
    background = passing(np.where(is_signal, 0.0, events.weight))
    squares = events.weight**2
    squared = passing(np.where(is_signal, 0.0, squares))
    absolute = passing(np.where(is_signal, 0.0, np.abs(events.weight)))
    effective = np.divide(background**2, squared, out=np.zeros(len(squared)), where=squared > 0)
    return RocCurve(
        threshold=score[last_of_ties],
        eps_s=signal / signal[-1],
        eps_b=background / background[-1],
        n_signal_passing=passing(is_signal.astype(np.float64)).astype(np.int64),
        n_background_passing=passing((~is_signal).astype(np.float64)).astype(np.int64),
        n_background_effective=np.where(background > 0, effective, 0.0),
        signal=count(signal, passing(np.where(is_signal, squares, 0.0)), signal[-1]),
        background=count(absolute, squared, background[-1]),
    )


def count(passing: Floats, squares: Floats, total: float) -> Counts:
    """Counts events of equal weight from sums of weights.

    Args:
        passing: (T,) weights of the events that pass; the last cut passes all.
        squares: (T,) squares of these weights.
        total: all weights of the class, positive.
    """
    of_all = squares[-1] / total
    unit = np.divide(squares, passing, out=np.full(len(passing), of_all), where=passing > 0)
    unit = np.maximum(unit, of_all)
    return Counts(np.maximum(passing, 0) / unit, total / unit)


def auc(events: ScoredEvents) -> Metric:
    """Computes the area under the ROC curve, in which ties count one half (Mann-Whitney)."""
    curve = roc(events)
    if curve.reason is not None:
        return Metric(None, curve.reason)
    signal_steps = np.diff(curve.eps_s, prepend=0.0)
    background_steps = np.diff(curve.eps_b, prepend=0.0)
    below = 1 - curve.eps_b + background_steps / 2
    return Metric(float(np.sum(signal_steps * below)))


def sic_ceiling(n_background: int, min_background: int) -> float:
    """Computes the largest SIC that a sample can show, sqrt(N_b / N_min), with all signal kept."""
    return float(np.sqrt(n_background / min_background))


def read_at(curve: RocCurve, threshold: Threshold, min_background: int) -> WorkingPoint:
    """Reads a cut that was chosen on another sample.

    Args:
        curve: curve of the sample that is measured.
        threshold: the cut.
        min_background: effective number of background events that must pass for a SIC.
    """
    if curve.reason is not None or threshold.value is None:
        return WorkingPoint(threshold=threshold.value, reason=curve.reason or threshold.reason)
    index = int(np.searchsorted(-curve.threshold, -threshold.value, side="right")) - 1
    if index < 0:
        reason = "no event passes"
        return WorkingPoint(threshold.value, 0.0, 0.0, 0, 0, None, reason)
    return _point(curve, index, min_background, threshold.value)


def sic_at(curve: RocCurve, eps_s: float, min_background: int) -> WorkingPoint:
    """Finds the tightest cut with at least the signal efficiency ``eps_s``, as ``read_at``."""
    if curve.reason is not None:
        return WorkingPoint(reason=curve.reason)
    index = int(np.argmax(curve.eps_s >= eps_s * (1 - ROUNDING)))
    return _point(curve, index, min_background, float(curve.threshold[index]))


def max_sic_in_sample(curve: RocCurve, min_background: int) -> WorkingPoint:
    """Finds the largest SIC of a sample, at a cut chosen on this sample: biased upwards."""
    if curve.reason is not None:
        return WorkingPoint(reason=curve.reason)
    sic = curve.sic(min_background)
    if np.isnan(sic).all():
        return WorkingPoint(reason=f"fewer than {min_background} background events")
    index = int(np.nanargmax(sic))
    return _point(curve, index, min_background, float(curve.threshold[index]))


def read_passing(
    events: ScoredEvents, passes: Bools, min_background: int, threshold: float
) -> WorkingPoint:
    """Reads a selection of events, such as that by several cuts, as ``read_at``.

    Args:
        events: events of the sample.
        passes: (N,) mask of those that are selected.
        min_background: effective number of background events that must pass for a SIC.
        threshold: the cut that is recorded.
    """
    curve = roc(replace(events, score=passes.astype(np.float64)))
    return replace(read_at(curve, Threshold(1.0, ""), min_background), threshold=threshold)


def _point(curve: RocCurve, index: int, min_background: int, threshold: float) -> WorkingPoint:
    sic = float(curve.sic(min_background)[index])
    n_background = int(curve.n_background_passing[index])
    effective = float(curve.n_background_effective[index])
    weighted = "" if abs(effective - n_background) < 0.5 else f" ({effective:.1f} effective)"
    reason = f"background passing: {n_background}{weighted}, below min_background {min_background}"
    return WorkingPoint(
        threshold=threshold,
        eps_s=float(curve.eps_s[index]),
        eps_b=float(curve.eps_b[index]),
        n_signal_passing=int(curve.n_signal_passing[index]),
        n_background_passing=n_background,
        sic=None if np.isnan(sic) else sic,
        reason=reason if np.isnan(sic) else None,
        signal=curve.signal.at(index),
        background=curve.background.at(index),
    )
