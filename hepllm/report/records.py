"""Records of ``run.json``, by ``hepllm train``, and of ``metrics.json``, by ``hepllm eval``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from hepllm.cartography.records import MapUse
from hepllm.evaluation.averaging import MemberRecord
from hepllm.evaluation.cascade import CascadeRecord
from hepllm.evaluation.probabilities import CalibrationRecord
from hepllm.evaluation.records import ResultsRecord, ScoreRecord
from hepllm.evaluation.sculpting_records import SculptingRecord
from hepllm.hypotheses.trained_range import TrainedRange
from hepllm.provenance import Call
from hepllm.records import Events, EventsPerSecond, FileRecord, Record
from hepllm.search.records import NoSearch, Submission, Unblinding
from hepllm.weak.origin import WeakOrigin


class UnlabelledEvents(Record):
    """The events without labels that a run has learnt from."""

    dataset: Path
    """Absolute path of their dataset."""
    dataset_digest: str
    """Digest of the dataset's contents (SHA-256)."""
    n_events: Events
    """Number of events."""


class RoundRecord(Record):
    """A round of self-training."""

    number: int
    """Number of the round; 0 is the training on labelled events alone."""
    pseudo_labels: int
    """Events that the round before has labelled."""
    validation_auc: float
    """AUC of the validation events, by which weights and rounds are chosen."""
    test_auc: float
    """AUC of the test split, by which nothing is chosen."""
    gap: float
    """How far the validation is above the test."""
    gap_error: float
    """Standard error of the gap, by bootstrap of the events."""


class SelfTrainingRecord(FileRecord):
    """The rounds of a self-training."""

    dataset: Path
    """Absolute path of the labelled dataset."""
    rounds: tuple[RoundRecord, ...] = ()
    """Finished rounds."""

    @property
    def best(self) -> int:
        """Number of the round with the highest validation AUC, the first of equals; 0 before."""
        best = max(self.rounds, key=lambda found: found.validation_auc, default=None)
        return 0 if best is None else best.number


class RunRecord(FileRecord):
    """What a run was trained on."""

    hepllm: str
    """Version of the package that wrote the file."""
    dataset: Path
    """Absolute path of the dataset."""
    dataset_digest: str
    """Digest of the dataset's contents (SHA-256)."""
    n_train: Mapping[str, Events]
    """Training events by class."""
    n_validation: Mapping[str, Events]
    """Validation events by class."""
    hypotheses: TrainedRange | None = None
    """Signals whose hypotheses the events were shown with; absent without hypotheses."""
    used_map: MapUse | None = None
    """Map and filter of the training events; absent without."""
    unlabelled: UnlabelledEvents | None = None
    """Events of ``train.unsupervised``; absent without."""
    weak: WeakOrigin | None = None
    """What the classes are of a run without labels, data and a template; absent with labels."""
    members: tuple[MemberRecord, ...] = ()
    """Classifiers whose mean logit is the score, of an ensemble; absent in a trained run."""
    starts: tuple[Call, ...] = ()
    """When and by which command the training was started and resumed, oldest first."""

    @classmethod
    def of_former_version(cls, tree: dict[str, Any]) -> dict[str, Any]:
        """Adds what a file without a version lacks; its keys are those of version 1."""
        return {"schema_version": 1, "hepllm": "unknown", **tree}


OWN = "own"
"""In place of a hypothesis: each simulated signal event is scored under its own one."""


class TrainedOn(Record):
    """What the run was trained on."""

    dataset: str
    """Name of the dataset's folder."""
    signal: Events
    """Signal events in training."""
    background: Events
    """Background events in training."""


class SetMetrics(FileRecord):
    """Keys of every evaluated set."""

    run: str
    """Name of the run's folder."""
    trained_on: TrainedOn
    """What the run was trained on."""
    backbone: str
    """Name of the language model."""
    features: tuple[str, ...]
    """Features that the run reads."""
    prompt: str
    """Layout of the prompt."""
    fusion: bool
    """Whether the run has a numeric fusion adapter."""
    hypothesis: str | None = None
    """Text under which all events were scored; own: each signal's own one; absent: none stated."""
    weak: WeakOrigin | None = None
    """What the run calls signal and background if it had no labels; absent with labels."""
    n_excluded_as_seen: Events
    """Events of the set that were left out because the run was trained or validated on them."""
    select: str | None = None
    """Event filter that the events of the set, and the validation events, pass; absent without."""
    n_unselected: Events = 0
    """Further events of the set, which the event filter left out; absent where there are none."""
    events_per_second: EventsPerSecond
    """Rate at which the set was scored."""
    probability_prior: str
    """What signal fraction the probabilities in scores.parquet assume, in words."""
    made: Call
    """When, by which command and with which versions the set was evaluated."""
    calibration: CalibrationRecord
    """How scores became probabilities, and how well these agree with the labels."""
    cascade: CascadeRecord | None = None
    """The cascade at work; absent without a cascade."""
    search: Submission | NoSearch | None = None
    """The content of submission.json; absent without a search."""
    unblinding: Unblinding | None = None
    """The content of unblinding.json; absent without a search or without labels."""

    @classmethod
    def kind_of(cls, tree: Mapping[str, Any]) -> type[Self]:
        """The record of a set with labels, or of one without."""
        kind: Any = LabelledMetrics if "auc" in tree else UnlabelledMetrics
        return kind  # type: ignore[no-any-return]


class LabelledMetrics(SetMetrics, ResultsRecord):
    """A set of which all labels are known."""

    views: Mapping[str, ResultsRecord]
    """The same for other views of the set, by their signal:background ratio."""
    by_signal: Mapping[str, ScoreRecord] = {}
    """Each signal alone, with all background under its hypothesis; absent unless asked."""
    stack: str | None = None
    """Whether model and boosting together are better than each, in words; absent unless asked."""
    sculpting: SculptingRecord | None = None
    """What cuts do to the background's m_jj; absent with too little background in its range."""


class UnlabelledMetrics(SetMetrics):
    """A set without labels, whose scores cannot be compared with anything."""

    n_events: Events
    """Events of the set."""
    n_signal: None
    """Unknown."""
    n_background: None
    """Unknown."""
