"""A cascade: the boosting scores all events, the language model those that could pass.

The boosting's cut is set on validation data for a stated share of the background, so an event is
treated alike in whatever file, chunk or sample it comes. Events below the cut rank below all
others, among themselves by the boosting; so nothing changes for a selection that is tighter than
the cut, but for the events that the cut has lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hepllm.arrays import Bools, Floats
from hepllm.config import EvaluationConfig
from hepllm.errors import InputError
from hepllm.evaluation.assessment import evaluate_scores
from hepllm.evaluation.calibration import Calibration
from hepllm.evaluation.efficiency import Efficiency, efficiencies
from hepllm.evaluation.metrics import ROUNDING, SIGNAL_EFFICIENCIES, WorkingPoint, roc
from hepllm.evaluation.results import EvaluationResults, ScoreTable
from hepllm.evaluation.scores import ScoredEvents
from hepllm.records import Events, EventsPerSecond, Pair, Record

FEW_EVENTS = 10
"""A cut that fewer validation background events pass is not known well."""


@dataclass(frozen=True)
class CascadeCut:
    """Where the boosting hands over to the model; made by ``choose_cut``.

    Attributes:
        keep: share of the validation background that was to be kept.
        threshold: logit of the boosting from which the model scores an event.
        floor: the least score of such an event; all others lie below it.
    """

    keep: float
    threshold: float
    floor: float

    def keeps(self, boosting: Floats) -> Bools:
        """Which events the model scores, shape (N,), from (N,) logits of the boosting."""
        return np.greater_equal(boosting, self.threshold)

    def combine(self, boosting: Floats, model: Floats) -> Floats:
        """Joins both scores to one ranking.

        Args:
            boosting: (N,) of all events.
            model: (K,) of those that ``keeps`` names, in order.

        Returns:
            Shape (N,): the model's score, or the floor where that is larger; for the others
            ``floor - (threshold - boosting)``, which is below the floor.
        """
        kept = self.keeps(boosting)
        scores = np.empty(len(boosting))
        scores[kept] = np.maximum(model, self.floor)
        below = self.floor - (self.threshold - boosting[~kept])
        scores[~kept] = np.minimum(below, np.nextafter(self.floor, -np.inf))
        return scores

    def is_cascaded(self, scores: Floats) -> Bools:
        """Which joined scores, shape (N,), are the boosting's."""
        return np.less(scores, self.floor)

    def boosting_of(self, scores: Floats) -> Floats:
        """The boosting's logits behind its joined scores, shape (N,)."""
        return self.threshold - (self.floor - scores)

    def with_floor_of(self, model: Floats) -> CascadeCut:
        """The same cut before another model, from (V,) of its validation scores."""
        return replace(self, floor=_floor(model, self.keep))


def choose_cut(boosting: ScoredEvents, model: Floats, keep: float) -> CascadeCut:
    """Chooses the tightest cut that keeps at least a stated share of the background.

    Args:
        boosting: logits of V validation events.
        model: scores of the model for any validation events; they set the floor, a whole range
            below the least of them, so that hardly a score is ever raised to it.
        keep: in (0, 1]; 1 hands all events to the model.

    Raises:
        InputError: if a class is missing among the validation events.
    """
    curve = roc(boosting)
    if curve.reason is not None:
        raise InputError(f"the cascade's cut cannot be chosen on validation data: {curve.reason}")
    floor = _floor(model, keep)
    if keep >= 1:
        return CascadeCut(keep, -np.inf, floor)
    index = int(np.argmax(curve.eps_b >= keep * (1 - ROUNDING)))
    return CascadeCut(keep, float(curve.threshold[index]), floor)


def _floor(model: Floats, keep: float) -> float:
    if keep >= 1:
        return -np.inf
    return float(2 * model.min() - model.max() - 1)


@dataclass(frozen=True, eq=False, kw_only=True)
class CascadeCalibration(Calibration):
    """A map of joined scores to logits, each part with its own calibration.

    The model's is fitted on the validation events that pass the cut, since passing says something
    about an event; the boosting's on all. So the sum of the probabilities is the expected signal.

    Attributes:
        cut: which part a score belongs to.
        kept: of the model's scores; ``method``, ``slope`` and ``offset`` are its.
        rest: of the boosting's logits.
    """

    cut: CascadeCut
    kept: Calibration
    rest: Calibration

    def logits(self, score: Floats, prior: float | None = None) -> Floats:
        """As for any calibration; not a rising map at the floor."""
        cascaded = self.cut.is_cascaded(score)
        logits = np.empty(len(score))
        logits[~cascaded] = self.kept.logits(score[~cascaded], prior)
        logits[cascaded] = self.rest.logits(self.cut.boosting_of(score[cascaded]), prior)
        return logits


class LossDifference(Record):
    """The difference of a number with the cascade and without it."""

    estimate: float | None
    """With the cascade minus without; null where either is undefined."""

    interval: Pair | None
    """Paired bootstrap interval [low, high]."""

    reason: str | None
    """Why the estimate or its interval is null."""


class CascadeLoss(Record):
    """What the cascade loses on validation data."""

    eps_s: Efficiency | None
    """Share of the signal that passes the cascade's cut."""

    eps_b: Efficiency | None
    """Share of the background that passes the cascade's cut."""

    n_compared: Events
    """Validation events behind the differences."""

    difference: Mapping[str, LossDifference]
    """What changes with the cascade, by key of the number."""


def measure_loss(
    cut: CascadeCut,
    boosting: ScoredEvents,
    compared: tuple[Floats, ScoredEvents],
    config: EvaluationConfig,
    seed: int,
) -> CascadeLoss:
    """Measures what the cascade loses.

    Args:
        cut: chosen on the same data, so that its background efficiency is no surprise.
        boosting: logits of V validation events.
        compared: (C,) joined scores, and the model's own scores of the same validation events.
        config: confidence and replicas.
        seed: of the bootstrap.
    """
    passes = cut.keeps(boosting.score)
    found = efficiencies(passes, boosting.is_signal, boosting.weight, config.confidence)
    joined, alone = compared
    table = ScoreTable(alone.label, {"cascade": joined, "alone": alone.score}, weight=alone.weight)
    results = evaluate_scores(table, table, config, seed, sample="validation")
    metrics = ("auc", *(f"sic_at_{eps_s:g}" for eps_s in SIGNAL_EFFICIENCIES))
    differences = {name: results.differences["alone"][name] for name in metrics}
    return CascadeLoss(
        eps_s=found["eps_s"],
        eps_b=found["eps_b"],
        n_compared=len(alone.label),
        difference={
            name: LossDifference(
                estimate=one.estimate,
                interval=one.interval.pair,
                reason=one.reason or one.interval.reason,
            )
            for name, one in differences.items()
        },
    )


@dataclass(frozen=True)
class CascadeUse:
    """The cascade at work on one set.

    Attributes:
        n_events: of the set.
        n_kept: that the model scored.
        seconds: for all of it.
        model_seconds: that the model took for its part.
        eps_s: of the cut on this set; None without labels or without signal.
        eps_b: the same for background.
        beyond: values whose cut lies below the cascade's, so that the boosting decided there.
    """

    n_events: int
    n_kept: int
    seconds: float
    model_seconds: float
    eps_s: Efficiency | None = None
    eps_b: Efficiency | None = None
    beyond: tuple[str, ...] = ()

    @property
    def speed_up(self) -> float | None:
        """Time of the model for all events, from its rate, over that of the cascade."""
        if not self.n_kept:
            return None
        return self.n_events * self.model_seconds / self.n_kept / self.seconds


def cuts_beyond(cut: CascadeCut, results: EvaluationResults) -> tuple[str, ...]:
    """Names of the model's values that are read at a cut below the cascade's."""
    model = results.model
    points: dict[str, WorkingPoint] = {
        "max_sic": model.max_sic.point,
        "max_sic_in_sample": model.max_sic_in_sample,
        **{f"sic_at_{eps_s:g}": estimate.point for eps_s, estimate in model.sic_at.items()},
    }
    return tuple(
        name
        for name, point in points.items()
        if point.threshold is not None and point.threshold < cut.floor
    )


class CascadeRecord(Record):
    """The cascade at work on a set: the boosting hands a part of the events to the model."""

    keep: float
    """Share of the validation background that was to be kept."""

    threshold: float | None
    """Logit of the boosting from which the model scores an event; null where it scores all."""

    floor: float | None
    """The least score of an event that the model scored; null where it scores all."""

    n_events: Events
    """Events of the set."""

    n_kept: Events
    """Events that the model scored."""

    kept_fraction: float
    """Their share."""

    eps_s: Efficiency | None
    """Share of the set's signal that passes the cut; null without labels or without signal."""

    eps_b: Efficiency | None
    """The same for background."""

    beyond: tuple[str, ...]
    """Keys of the values whose cut lies below the cascade's: the boosting decides part of them."""

    events_per_second: EventsPerSecond
    """With the cascade."""

    events_per_second_without: EventsPerSecond | None
    """Of the model alone; null where it scored nothing."""

    speed_up: float | None
    """Time of the model for all events over that of the cascade."""

    validation: CascadeLoss
    """What the cascade loses on validation data."""

    @classmethod
    def of(cls, cut: CascadeCut, loss: CascadeLoss, use: CascadeUse) -> CascadeRecord:
        """What the cascade did and may have lost, as it is recorded."""
        return cls(
            keep=cut.keep,
            threshold=None if np.isinf(cut.threshold) else cut.threshold,
            floor=None if np.isinf(cut.floor) else cut.floor,
            n_events=use.n_events,
            n_kept=use.n_kept,
            kept_fraction=use.n_kept / use.n_events,
            eps_s=use.eps_s,
            eps_b=use.eps_b,
            beyond=use.beyond,
            events_per_second=use.n_events / use.seconds,
            events_per_second_without=(
                use.n_kept / use.model_seconds if use.model_seconds > 0 else None
            ),
            speed_up=use.speed_up,
            validation=loss,
        )
