"""Records of the scores of one sample; an undefined number is null."""

from __future__ import annotations

from collections.abc import Mapping

from hepllm.evaluation.confusion import Confusion
from hepllm.records import At, Events, Pair, Quantity, Record


class Value(Quantity):
    """A number."""

    value: float | None
    """The number, not rounded; null where it is undefined."""


class Estimate(Value):
    """A number with its uncertainty."""

    interval: Pair | None
    """Bootstrap interval [low, high]; null where it is undefined."""


class Bounded(Estimate):
    """A number with its uncertainty and a bound that exists without an interval, too."""

    lower_bound: float | None = None
    """One-sided lower bound of the same confidence, from counted events; all there is if null."""


class AtCut(Quantity):
    """A cut on the score and the events that pass it."""

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
    """A SIC at a cut chosen on the sample itself, which follows the sample's fluctuations."""


_NOT_MEASURED = SicInSample(
    value=None,
    n_signal_passing=None,
    n_background_passing=None,
    threshold=None,
    eps_s=None,
    eps_b=None,
)


class Sic(AtCut, Bounded):
    """A SIC with its uncertainty and its cut."""


class MaxSic(Sic):
    """The SIC at the cuts chosen for the largest SIC; ``threshold`` is the median of these."""

    chosen_by: str
    """Rule and events by which the cuts were chosen."""


class Accuracy(Estimate):
    """An accuracy with its cut."""

    threshold: float | None
    """The cut: events with this score (logit difference) or a larger one are called signal."""
    threshold_chosen_by: str
    """Rule and sample by which the cut was chosen."""


class CutRecord(Record):
    """A cut chosen on validation data, and its effect on the sample."""

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


class ScoreRecord(Record):
    """One classifier, or an ablation of one, on one sample."""

    n_signal: Events
    """Signal events of the sample."""
    n_background: Events
    """Background events of the sample."""
    auc: Estimate
    """Area under the ROC curve: the probability that a signal event has the larger score."""
    max_sic: MaxSic
    """The largest SIC = eps_S / sqrt(eps_B), each event read at a cut that others chose."""
    max_sic_in_sample: SicInSample
    """The largest SIC at a cut chosen on this sample itself, which is biased upwards."""
    max_sic_omnilearn: SicInSample = _NOT_MEASURED
    """The same with the rule of OmniLearn's code, eps_B > 1e-4, to compare with papers."""
    max_sic_cathode: SicInSample = _NOT_MEASURED
    """The same with the rule of CATHODE's code, one background event, to compare with papers."""
    sic_at: At[Sic]
    """SIC at the tightest cut that keeps this share of the signal."""
    inverse_eps_b_at: At[Bounded]
    """Background rejection 1 / eps_B at the same cut."""
    accuracy: Accuracy
    """Share of events on the right side of the cut of largest balanced accuracy."""
    balanced_accuracy: float | None
    """Mean of the shares of signal and of background on the right side of that cut."""
    confusion: Confusion | None
    """Sums of weights at that cut; null where no cut could be chosen."""
    working_points: tuple[CutRecord, ...]
    """That cut, then the cuts for the stated signal efficiencies."""
    undefined: Mapping[str, str]
    """Why a number above or its interval is null, by key."""
    retrained: bool = False
    """True for a model that was trained with part of its input; absent otherwise."""

    @property
    def metrics(self) -> dict[str, Estimate]:
        """All numbers that have an interval, by key."""
        return {
            "auc": self.auc,
            "max_sic": self.max_sic,
            **{f"sic_at_{eps_s}": found for eps_s, found in self.sic_at.items()},
            **{f"inverse_eps_b_at_{eps_s}": one for eps_s, one in self.inverse_eps_b_at.items()},
            "accuracy": self.accuracy,
        }


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
    """Number of bootstrap replicas."""
    n_undefined: int
    """Number of replicas in which the difference is undefined."""
    reason: str | None
    """Why the estimate or its interval is null."""
    ratio_low: float | None = None
    """Lower end of the interval of first over second; absent where the estimate is not null."""
    ratio_high: float | None = None
    """Upper end of this interval; null where no background passes the first."""

    @property
    def interval(self) -> Pair | None:
        """Lower and upper end; None where the interval is undefined."""
        return None if self.low is None or self.high is None else (self.low, self.high)


class PairedRecord(Record):
    """The differences between two classifiers on the same events."""

    difference: str
    """Names of the two, as ``first - second``."""
    auc: DifferenceRecord
    """Difference of the AUC."""
    max_sic: DifferenceRecord
    """Difference of the SIC at the cut chosen on validation data, each at its own cut."""
    sic_at: At[DifferenceRecord]
    """Difference of the SIC at this signal efficiency."""

    @property
    def metrics(self) -> dict[str, DifferenceRecord]:
        """All differences, by key."""
        at = {f"sic_at_{eps_s}": found for eps_s, found in self.sic_at.items()}
        return {"auc": self.auc, "max_sic": self.max_sic, **at}


class BootstrapRecord(Record):
    """How the intervals were computed."""

    confidence: float
    """Probability content of the intervals."""
    n_replicas: int
    """Number of replicas."""
    seed: int
    """Seed of the draws."""
    method: str
    """Method in words."""


class _Sample(Record):
    sample: str
    """Name of the set."""
    view: str
    """Events of the set that are used: natural for all, or a signal:background ratio, as 1:10."""
    classifier: str
    """Name of the evaluated model, to which the numbers on this level belong."""


class ResultsRecord(ScoreRecord, _Sample):
    """The evaluated model on one view of a set, and the classifiers that it is compared with."""

    min_background: Events
    """Background events that must pass a cut for its SIC to be quoted."""
    background_rule: str
    """The rule that gives this number, in words."""
    n_validation_signal: Events | None = None
    """Validation signal events, which have a part in the choice of cuts."""
    n_validation_background: Events | None = None
    """Validation background events, which have a part in the choice of cuts."""
    sic_ceiling: float
    """The largest SIC that this number of background events can show, sqrt(N_b / N_min)."""
    bootstrap: BootstrapRecord
    """How the intervals were computed."""
    baselines: Mapping[str, ScoreRecord]
    """Numbers of other classifiers trained on the same events, by name."""
    ablation: Mapping[str, ScoreRecord]
    """Numbers of the evaluated model with part of its input destroyed, or trained without it."""
    ablation_reference: ScoreRecord | None = None
    """Numbers of the evaluated model on the events of the ablations; absent if those are all."""
    paired: Mapping[str, PairedRecord]
    """Evaluated model minus each other classifier and ablation, by its name."""
    contrasts: Mapping[str, PairedRecord] = {}
    """Differences of further pairs; absent unless asked."""

    @property
    def classifiers(self) -> dict[str, ScoreRecord]:
        """The evaluated model, then all others, by name."""
        return {self.classifier: self, **self.baselines, **self.ablation}
