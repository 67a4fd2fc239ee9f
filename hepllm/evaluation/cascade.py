"""A cascade: the boosting scores all events, the language model those that pass its cut.

The boosting's cut is chosen on validation data for a stated share of the background, so it does not
depend on the file, chunk or sample of an event. Events below the cut rank below all others, in the
order of the boosting. A selection tighter than the cut therefore changes only by the events that
the cut rejects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from hepllm.arrays import Bools, Floats
from hepllm.config import EvaluationConfig
from hepllm.errors import InputError
from hepllm.evaluation.assessment import evaluate_scores
from hepllm.evaluation.calibration import Calibration
from hepllm.evaluation.efficiency import Efficiency, efficiencies
from hepllm.evaluation.metrics import ROUNDING, SIGNAL_EFFICIENCIES, roc
from hepllm.evaluation.records import AtCut, ResultsRecord
from hepllm.evaluation.scores import ScoredEvents, ScoreTable
from hepllm.records import Events, EventsPerSecond, Pair, Record

FEW_EVENTS = 10
"""Below this number of passing validation background events the cut is uncertain."""


@dataclass(frozen=True)
class CascadeCut:
    """The cut above which the model scores an event; made by ``choose_cut``.

    Attributes:
        keep: share of the validation background that the cut was asked to keep.
        threshold: logit of the boosting from which the model scores an event.
        floor: smallest joined score of such an event; all other events lie below it.
    """

    keep: float
    threshold: float
    floor: float

    def keeps(self, boosting: Floats) -> Bools:
        """Mask (N,) of the events that the model scores, from (N,) logits of the boosting."""
        return np.greater_equal(boosting, self.threshold)

    def combine(self, boosting: Floats, model: Floats) -> Floats:
        """Joins both scores to one ranking.

        Args:
            boosting: (N,) logits of all events.
            model: (K,) scores of the events that ``keeps`` selects, in order.

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
        """Mask (N,) of the joined scores that come from the boosting."""
        return np.less(scores, self.floor)

    def boosting_of(self, scores: Floats) -> Floats:
        """The boosting's logits (N,) from its joined scores."""
        return self.threshold - (self.floor - scores)

    def with_floor_of(self, model: Floats) -> CascadeCut:
        """The same cut for another model, from (V,) validation scores of that model."""
        return replace(self, floor=_floor(model, self.keep))


def choose_cut(boosting: ScoredEvents, model: Floats, keep: float) -> CascadeCut:
    """Chooses the tightest cut that keeps at least a stated share of the background.

    Args:
        boosting: logits of V validation events.
        model: scores of the model for any validation events. The floor lies a whole range below
            the smallest of them, so that very few scores are raised to it.
        keep: share of the background in (0, 1]; 1 passes all events to the model.

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
    """A map of joined scores to logits, with one calibration for each part.

    The model's calibration is fitted on the validation events that pass the cut, because the signal
    fraction of these differs; the boosting's on all. The sum of the probabilities is therefore the
    expected signal.

    Attributes:
        cut: separates the two parts.
        kept: calibration of the model's scores, with the same ``method``, ``slope`` and ``offset``.
        rest: calibration of the boosting's logits.
    """

    cut: CascadeCut
    kept: Calibration
    rest: Calibration

    def logits(self, score: Floats, prior: float | None = None) -> Floats:
        """Calibrated logits as for ``Calibration``; not a rising map at the floor."""
        cascaded = self.cut.is_cascaded(score)
        logits = np.empty(len(score))
        logits[~cascaded] = self.kept.logits(score[~cascaded], prior)
        logits[cascaded] = self.rest.logits(self.cut.boosting_of(score[cascaded]), prior)
        return logits


@dataclass(frozen=True, eq=False)
class CascadeScores:
    """Scores of N events and the time that they took.

    Attributes:
        score: (N,) joined scores.
        n_kept: number of events that the model scored.
        seconds: time of the cascade, in s.
        model_seconds: time of the model, in s.
        members: logits (N,) of the members of an ensemble, by name; NaN where the boosting decides.
    """

    score: Floats
    n_kept: int
    seconds: float
    model_seconds: float
    members: Mapping[str, Floats] = field(default_factory=dict)


class LossDifference(Record):
    """The difference of a number with the cascade and without it."""

    estimate: float | None
    """With the cascade minus without; null where either is undefined."""
    interval: Pair | None
    """Paired bootstrap interval [low, high]."""
    reason: str | None
    """Why the estimate or its interval is null."""
    ratio_low: float | None = None
    """Lower end of the interval of the ratio, with over without; absent with an estimate."""
    ratio_high: float | None = None
    """Upper end of this interval; null where no background passes with the cascade."""


class CascadeLoss(Record):
    """What the cascade loses on validation data."""

    eps_s: Efficiency | None
    """Share of the signal that passes the cascade's cut."""
    eps_b: Efficiency | None
    """Share of the background that passes the cascade's cut."""
    n_compared: Events
    """Validation events from which the differences are measured."""
    difference: Mapping[str, LossDifference]
    """Change of each number with the cascade, by its key."""


def measure_loss(
    cut: CascadeCut,
    boosting: ScoredEvents,
    compared: tuple[Floats, ScoredEvents],
    config: EvaluationConfig,
    seed: int,
) -> CascadeLoss:
    """Measures what the cascade loses.

    Args:
        cut: the cut, chosen on the same data, which fixes its background efficiency.
        boosting: logits of V validation events.
        compared: (C,) joined scores, and the model's own scores of the same validation events.
        config: confidence and number of replicas.
        seed: seed of the bootstrap.
    """
    passes = cut.keeps(boosting.score)
    joined, alone = compared
    table = ScoreTable(alone.label, {"cascade": joined, "alone": alone.score}, weight=alone.weight)
    results = evaluate_scores(table, table, config, seed, sample="validation")
    found = results.record.paired["alone"].metrics
    metrics = ("auc", *(f"sic_at_{eps_s:g}" for eps_s in SIGNAL_EFFICIENCIES))
    return CascadeLoss(
        **efficiencies(passes, boosting.is_signal, boosting.weight, config.confidence),
        n_compared=len(alone.label),
        difference={
            key: LossDifference(
                estimate=found[key].estimate,
                interval=found[key].interval,
                reason=found[key].reason,
                ratio_low=found[key].ratio_low,
                ratio_high=found[key].ratio_high,
            )
            for key in metrics
        },
    )


def cuts_beyond(cut: CascadeCut, results: ResultsRecord) -> tuple[str, ...]:
    """Keys of the model's values whose cut lies below the cascade's."""
    points: dict[str, AtCut] = {
        "max_sic": results.max_sic,
        "max_sic_in_sample": results.max_sic_in_sample,
        **{f"sic_at_{eps_s}": found for eps_s, found in results.sic_at.items()},
    }
    return tuple(
        name
        for name, point in points.items()
        if point.threshold is not None and point.threshold < cut.floor
    )


class CascadeRecord(Record):
    """A cascade at work on a set: the boosting passes a part of the events to the model."""

    keep: float
    """Share of the validation background that the cut was asked to keep."""
    threshold: float | None
    """Logit of the boosting from which the model scores an event; null where it scores all."""
    floor: float | None
    """Smallest score of an event that the model scored; null where it scores all."""
    n_events: Events
    """Events of the set."""
    n_kept: Events
    """Events that the model scored."""
    kept_fraction: float
    """Share of the events that the model scored."""
    eps_s: Efficiency | None
    """Share of the set's signal that passes the cut; null without labels or without signal."""
    eps_b: Efficiency | None
    """Share of the set's background that passes the cut; null without labels or background."""
    beyond: tuple[str, ...]
    """Keys of the values whose cut lies below the cascade's: the boosting decides part of them."""
    events_per_second: EventsPerSecond
    """Rate with the cascade."""
    events_per_second_without: EventsPerSecond | None
    """Rate of the model alone; null where it scored no event."""
    speed_up: float | None
    """Time of the model for all events over that of the cascade."""
    validation: CascadeLoss
    """What the cascade loses on validation data."""

    @classmethod
    def of(
        cls,
        cut: CascadeCut,
        scores: CascadeScores,
        loss: CascadeLoss,
        passing: Mapping[str, Efficiency | None],
        beyond: tuple[str, ...],
    ) -> CascadeRecord:
        """Makes the record from ``efficiencies`` of the cut on the set and ``cuts_beyond``."""
        n_events, n_kept, seconds = len(scores.score), scores.n_kept, scores.model_seconds
        return cls(
            keep=cut.keep,
            threshold=None if np.isinf(cut.threshold) else cut.threshold,
            floor=None if np.isinf(cut.floor) else cut.floor,
            n_events=n_events,
            n_kept=n_kept,
            kept_fraction=n_kept / n_events,
            **passing,
            beyond=beyond,
            events_per_second=n_events / scores.seconds,
            events_per_second_without=n_kept / seconds if seconds > 0 else None,
            speed_up=n_events * seconds / n_kept / scores.seconds if n_kept else None,
            validation=loss,
        )
