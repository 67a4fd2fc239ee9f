"""What is recorded about the scores of one sample; a number that does not exist is null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from hepllm.evaluation.bootstrap import Difference
from hepllm.evaluation.confusion import Confusion
from hepllm.evaluation.metrics import Metric, WorkingPoint
from hepllm.evaluation.results import (
    CutResult,
    EvaluationResults,
    Role,
    ScoreResult,
    SicEstimate,
)
from hepllm.records import At, Events, Pair, Quantity, Record


class Value(Quantity):
    """A number."""

    value: float | None
    """In full; null where it is undefined."""


class Estimate(Value):
    """A number with its uncertainty."""

    interval: Pair | None
    """Bootstrap interval [low, high]; null where it is undefined."""


class AtCut(Quantity):
    """A cut on the score and what passes it."""

    n_signal_passing: Events | None
    """Signal events that pass the cut, without weights."""

    n_background_passing: Events | None
    """Background events that pass the cut, without weights."""

    threshold: float | None
    """The cut: events with this score (logit difference) or a larger one pass."""

    eps_s: float | None
    """Signal efficiency of the cut."""

    eps_b: float | None
    """Background efficiency of the cut."""


class SicInSample(AtCut, Value):
    """A SIC at a cut that the sample itself prefers."""


class Sic(AtCut, Estimate):
    """A SIC with its uncertainty and its cut."""

    @classmethod
    def of(cls, found: SicEstimate, **more: Any) -> Self:
        """An estimate as it is recorded."""
        return cls(value=found.point.sic, interval=found.sic.pair, **_at_cut(found.point), **more)


class MaxSic(Sic):
    """The SIC at the cut that was chosen for the largest."""

    chosen_by: str
    """Rule and sample by which the cut was chosen."""


class Accuracy(Estimate):
    """An accuracy with its cut."""

    threshold: float | None
    """The cut: events with this score (logit difference) or a larger one are called signal."""

    threshold_chosen_by: str
    """Rule and sample by which the cut was chosen."""


class CutRecord(Record):
    """A cut chosen on validation data, and what it does to the sample."""

    chosen_by: str
    """Rule and sample by which the cut was chosen."""

    threshold: float | None
    """The cut on the score; null where none could be chosen."""

    precision: float | None
    """Share of signal among the events above the cut, in this sample's signal:background ratio."""

    recall: float | None
    """Share of the signal above the cut."""

    f1: float | None
    """Harmonic mean of precision and recall."""

    accuracy: float | None
    """Share of events on the right side of the cut, in this sample's signal:background ratio."""

    eps_b: float | None
    """Background efficiency of the cut."""

    n_signal_passing: Events | None
    """Signal events that pass the cut, without weights."""

    n_background_passing: Events | None
    """Background events that pass the cut, without weights."""

    @classmethod
    def of(cls, cut: CutResult) -> Self:
        """A cut as it is recorded."""
        shares = ("precision", "recall", "f1", "accuracy")
        return cls(
            chosen_by=cut.threshold.chosen_by,
            threshold=cut.threshold.value,
            **{name: None if cut.table is None else getattr(cut.table, name) for name in shares},
            eps_b=cut.point.eps_b,
            n_signal_passing=cut.point.n_signal_passing,
            n_background_passing=cut.point.n_background_passing,
        )


class ScoreRecord(Record):
    """One classifier, or an ablation of one, on one sample."""

    n_signal: Events
    """Signal events of the sample."""

    n_background: Events
    """Background events of the sample."""

    auc: Estimate
    """Area under the ROC curve: the probability that a signal event has the larger score."""

    max_sic: MaxSic
    """SIC = eps_S / sqrt(eps_B) at the cut of the largest SIC on validation data."""

    max_sic_in_sample: SicInSample
    """The largest SIC at a cut chosen on this sample itself, which is biased upwards."""

    sic_at: At[Sic]
    """SIC at the tightest cut that keeps this share of the signal."""

    inverse_eps_b_at: At[Estimate]
    """Background rejection 1 / eps_B at the same cut."""

    accuracy: Accuracy
    """Share of events on the right side of the cut of largest balanced accuracy."""

    balanced_accuracy: float | None
    """Mean of the shares of signal and of background on the right side of that cut."""

    confusion: Confusion | None
    """Sums of weights at that cut; null where none could be chosen."""

    working_points: tuple[CutRecord, ...]
    """That cut first, then the cuts for stated signal efficiencies."""

    undefined: Mapping[str, str]
    """Why a number above or its interval is null, by key."""

    retrained: bool = False
    """True for a model that was trained with part of its input; absent otherwise."""

    @property
    def metrics(self) -> dict[str, Estimate]:
        """All numbers with an interval, by key."""
        return {
            "auc": self.auc,
            "max_sic": self.max_sic,
            **{f"sic_at_{eps_s}": found for eps_s, found in self.sic_at.items()},
            **{f"inverse_eps_b_at_{eps_s}": one for eps_s, one in self.inverse_eps_b_at.items()},
            "accuracy": self.accuracy,
        }

    @classmethod
    def of(cls, result: ScoreResult, **more: Any) -> Self:
        """A score as it is recorded."""
        best = result.cuts[0]
        sic_at = {f"{eps_s:g}": found for eps_s, found in result.sic_at.items()}
        in_sample = result.max_sic_in_sample
        return cls(
            n_signal=result.events.n_signal,
            n_background=result.events.n_background,
            auc=Estimate(value=result.auc.value, interval=result.auc_interval.pair),
            max_sic=MaxSic.of(result.max_sic, chosen_by=result.max_sic_chosen.chosen_by),
            max_sic_in_sample=SicInSample(value=in_sample.sic, **_at_cut(in_sample)),
            sic_at={eps_s: Sic.of(found) for eps_s, found in sic_at.items()},
            inverse_eps_b_at={
                eps_s: Estimate(value=found.point.inverse_eps_b, interval=found.inverse_eps_b.pair)
                for eps_s, found in sic_at.items()
            },
            accuracy=Accuracy(
                value=best.accuracy,
                interval=result.accuracy_interval.pair,
                threshold=best.threshold.value,
                threshold_chosen_by=best.threshold.chosen_by,
            ),
            balanced_accuracy=None if best.table is None else best.table.balanced_accuracy,
            confusion=best.table,
            working_points=tuple(CutRecord.of(cut) for cut in result.cuts),
            undefined=_reasons(result),
            retrained=result.role == "retrained",
            **more,
        )


class DifferenceRecord(Record):
    """The difference of a number between two classifiers on the same events."""

    estimate: float | None
    """First minus second; null where either is undefined."""

    low: float | None
    """Lower end of the paired bootstrap interval."""

    high: float | None
    """Upper end of the paired bootstrap interval."""

    confidence: float
    """Probability content of the interval."""

    n_replicas: int
    """Bootstrap replicas that were drawn."""

    n_undefined: int
    """Replicas in which the difference does not exist."""

    reason: str | None
    """Why the estimate or its interval is null."""

    @classmethod
    def of(cls, found: Difference) -> Self:
        """A difference as it is recorded."""
        between = found.interval
        return cls(
            estimate=found.estimate,
            low=between.low,
            high=between.high,
            confidence=between.confidence,
            n_replicas=between.n_replicas,
            n_undefined=between.n_undefined,
            reason=found.reason or between.reason,
        )


class PairedRecord(Record):
    """The differences between two classifiers on the same events."""

    difference: str
    """Which two, as ``first - second``."""

    auc: DifferenceRecord
    """In AUC."""

    max_sic: DifferenceRecord
    """In the SIC at the cut chosen on validation data, each at its own cut."""

    sic_at: At[DifferenceRecord]
    """In the SIC at this signal efficiency."""

    @property
    def metrics(self) -> dict[str, DifferenceRecord]:
        """The differences by key."""
        at = {f"sic_at_{eps_s}": found for eps_s, found in self.sic_at.items()}
        return {"auc": self.auc, "max_sic": self.max_sic, **at}

    @classmethod
    def of(cls, first: str, second: str, found: Mapping[str, Difference]) -> Self:
        """All differences of a pair as they are recorded."""
        made = {key: DifferenceRecord.of(value) for key, value in found.items()}
        at = {key.removeprefix("sic_at_"): made[key] for key in made if key.startswith("sic_at_")}
        return cls(
            difference=f"{first} - {second}", auc=made["auc"], max_sic=made["max_sic"], sic_at=at
        )


class BootstrapRecord(Record):
    """How the intervals were made."""

    confidence: float
    """Probability content of the intervals."""

    n_replicas: int
    """Replicas that were drawn."""

    seed: int
    """Of the draws."""

    method: str
    """In words."""


class _Sample(Record):
    sample: str
    """Name of the set."""

    view: str
    """Which of its events are used: natural for all, or a signal:background ratio such as 1:10."""

    classifier: str
    """Name of the judged model, to which the numbers on this level belong."""


class ResultsRecord(ScoreRecord, _Sample):
    """The judged model on one view of a set, beside all that it is compared with."""

    min_background: Events
    """Background events that must pass a cut for its SIC to be quoted."""

    background_rule: str
    """The rule behind that number, in words."""

    sic_ceiling: float
    """The largest SIC that so many background events can show, sqrt(N_b / N_min)."""

    bootstrap: BootstrapRecord
    """How the intervals were made."""

    baselines: Mapping[str, ScoreRecord]
    """The same for other classifiers trained on the same events, by name."""

    ablation: Mapping[str, ScoreRecord]
    """The same for the judged model with part of its input destroyed, or trained without it."""

    paired: Mapping[str, PairedRecord]
    """Judged model minus each other classifier and ablation, by its name."""

    contrasts: Mapping[str, PairedRecord] = {}
    """Differences of further pairs; absent where none was asked for."""

    @property
    def classifiers(self) -> dict[str, ScoreRecord]:
        """The judged model, then all others, by name."""
        return {self.classifier: self, **self.baselines, **self.ablation}

    @classmethod
    def of_results(cls, results: EvaluationResults, **more: Any) -> Self:
        """All scores of a sample as they are recorded.

        Args:
            results: of the sample.
            more: further fields of a class below this one.

        Raises:
            ValueError: if a number is NaN or infinite, which JSON cannot hold.
        """
        return cls.of(
            results.model,
            sample=results.sample,
            view=results.view,
            classifier=results.model.name,
            min_background=results.n_min,
            background_rule=results.rule,
            sic_ceiling=results.sic_ceiling,
            bootstrap=BootstrapRecord(
                confidence=results.config.confidence,
                n_replicas=results.config.bootstrap,
                seed=results.seed,
                method="percentile, stratified by class, paired between classifiers",
            ),
            baselines=_by_role(results, "baseline"),
            ablation={**_by_role(results, "ablation"), **_by_role(results, "retrained")},
            paired={
                name: PairedRecord.of(results.model.name, name, found)
                for name, found in results.differences.items()
            },
            contrasts={
                f"{first}-{second}": PairedRecord.of(first, second, found)
                for (first, second), found in results.contrasts.items()
            },
            **more,
        )


def _by_role(results: EvaluationResults, role: Role) -> dict[str, ScoreRecord]:
    found = {name: result for name, result in results.scores.items() if result.role == role}
    return {name: ScoreRecord.of(result) for name, result in found.items()}


def _at_cut(point: WorkingPoint) -> dict[str, Any]:
    return {name: getattr(point, name) for name in AtCut.model_fields}


def _reasons(result: ScoreResult) -> dict[str, str]:
    """Why a value or its interval is null, by key; no entry where both exist."""
    estimates = {"max_sic": result.max_sic}
    estimates |= {f"sic_at_{eps_s:g}": value for eps_s, value in result.sic_at.items()}
    found: dict[str, Metric | WorkingPoint] = {
        "auc": result.auc,
        "max_sic_in_sample": result.max_sic_in_sample,
        **{key: estimate.point for key, estimate in estimates.items()},
    }
    reasons = {key: metric.reason for key, metric in found.items()}
    reasons["accuracy"] = result.cuts[0].threshold.reason
    intervals = {
        "auc_interval": result.auc_interval,
        "accuracy_interval": result.accuracy_interval,
        **{f"{key}_interval": estimate.sic for key, estimate in estimates.items()},
    }
    for key, between in intervals.items():
        if reasons[key.removesuffix("_interval")] is None:
            reasons[key] = between.reason
    return {key: reason for key, reason in reasons.items() if reason is not None}
