"""Records of a map: ``map.json``, and a file for each epoch."""

from __future__ import annotations

from collections.abc import Mapping

from hepllm.config import CartographyConfig
from hepllm.provenance import Call
from hepllm.records import Events, FileRecord, Record, Whole


class FeatureSummary(Record):
    """The values of a feature among the events of a class and a category."""

    median: float | None
    """Median of the events that have the feature; null where none has."""
    low: float | None
    """Quantile of 16 %."""
    high: float | None
    """Quantile of 84 %."""
    distance: float | None
    """Kolmogorov-Smirnov distance to the other events of the class, from 0 (alike) to 1."""


class CategoryRecord(Record):
    """The events of a class and a category; means are over the events."""

    n_events: Events
    """Number of events."""
    share: float
    """Share of the events of the class."""
    confidence: float | None = None
    """Mean confidence; absent without events, as all below."""
    variability: float | None = None
    """Mean variability."""
    correctness: float | None = None
    """Mean correctness."""
    forgetting: float | None = None
    """Mean number of forgetting events."""
    area_under_margin: float | None = None
    """Mean area under the margin."""
    n_never_learnt: Events = 0
    """Events that were wrong in all epochs."""
    features: Mapping[str, FeatureSummary] = {}
    """What the events are: their features, those that set them apart most first."""


class MapRecord(FileRecord):
    """What a training believed of its events."""

    run: str
    """Name of the run's folder."""
    dataset: str
    """Name of the dataset's folder."""
    epochs: str
    """Part of the training that was measured: adapter (alone), or model."""
    n_epochs: int
    """Epochs of that part."""
    n_events: Events
    """Events on the map."""
    n_unseen: Events
    """Training events that no epoch showed, which are not on the map."""
    rule: Whole[CartographyConfig]
    """Settings that divide the events into categories."""
    classes: Mapping[str, Mapping[str, CategoryRecord]]
    """Categories by class."""
    made: Call
    """When, by which command and with which versions the map was made."""


class EpochOfClass(Record):
    """The events of a class in one epoch; means are over the events that it showed."""

    n_shown: Events
    """Events that the epoch showed."""
    probability: float | None = None
    """Mean probability of the true class; absent without events, as all below."""
    correct: float | None = None
    """Share of the events whose true class was the more probable one."""
    loss: float | None = None
    """Mean cross-entropy, from the margins."""
    margin: float | None = None
    """Mean margin."""
    n_learnt: Events = 0
    """Events that were right after they were wrong when shown last."""
    n_forgotten: Events = 0
    """Events that were wrong after they were right when shown last."""
    confidence: float | None = None
    """Mean confidence of the events that were shown up to this epoch."""
    variability: float | None = None
    """Mean variability of these events."""
    categories: Mapping[str, Events] = {}
    """Events by category, if the training had ended here."""


class EpochRecord(FileRecord):
    """One epoch of a training."""

    epochs: str
    """Part of the training: adapter (alone), or model."""
    epoch: int
    """Number of the epoch, from 1."""
    classes: Mapping[str, EpochOfClass]
    """What the training believed of each class."""
