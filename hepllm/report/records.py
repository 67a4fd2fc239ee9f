"""``metrics.json``: what ``hepllm eval`` has found on one set, and from what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from hepllm.evaluation.cascade import CascadeRecord
from hepllm.evaluation.probabilities import CalibrationRecord
from hepllm.evaluation.records import ResultsRecord
from hepllm.provenance import Call
from hepllm.records import Events, EventsPerSecond, FileRecord, Record
from hepllm.search.records import NoSearch, Submission


class TrainedOn(Record):
    """What the run was trained on."""

    dataset: str
    """Name of the dataset's folder."""

    signal: Events
    """Signal events in training."""

    background: Events
    """Background events in training."""


class SetMetrics(FileRecord):
    """What is recorded about every evaluated set."""

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

    n_excluded_as_seen: Events
    """Events of the set that were left out because the run was trained or validated on them."""

    events_per_second: EventsPerSecond
    """Rate at which the set was scored."""

    probability_prior: str
    """What signal fraction the probabilities in scores.parquet assume, in words."""

    made: Call
    """When, by which command and with which versions the set was evaluated."""

    calibration: CalibrationRecord
    """How scores became probabilities, and how well these hold."""

    cascade: CascadeRecord | None = None
    """The cascade at work; absent where none was asked for."""

    search: Submission | NoSearch | None = None
    """The content of submission.json; absent where no search was made."""

    @classmethod
    def kind_of(cls, tree: Mapping[str, Any]) -> type[Self]:
        """With or without labels."""
        kind: Any = LabelledMetrics if "auc" in tree else UnlabelledMetrics
        return kind  # type: ignore[no-any-return]


class LabelledMetrics(SetMetrics, ResultsRecord):
    """A set of which all labels are known: what its classifiers reach."""

    views: Mapping[str, ResultsRecord]
    """The same for other views of the set, by their signal:background ratio."""

    stack: str | None = None
    """Whether model and boosting together are better than each, in words; absent unless asked."""


class UnlabelledMetrics(SetMetrics):
    """A set without labels: there is nothing to compare its scores with."""

    n_events: Events
    """Events of the set."""

    n_signal: None
    """Not known."""

    n_background: None
    """Not known."""
