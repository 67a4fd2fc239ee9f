"""Records of a map: ``map.json``, and a file for each epoch."""

from __future__ import annotations

from collections.abc import Mapping

from hepllm.config import CartographyConfig, FlagsConfig
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
    """Epochs of that part that count."""
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


class RuleRecord(Record):
    """A rule of a filter."""

    rule: str
    """The rule as JSON, as in train.filter."""
    dropped: Mapping[str, Events]
    """Events by class that it drops among those that the rules before it have kept."""


class FilterRecord(Record):
    """What a filter does to training events."""

    before: Mapping[str, Events]
    """Events by class before the filter."""
    not_on_map: Mapping[str, Events]
    """Of these, events that the map does not have, which its rules keep."""
    rules: tuple[RuleRecord, ...]
    """The rules in order."""
    kept: Mapping[str, Events]
    """Events by class after the filter."""


class MapUse(Record):
    """A map of another training that a training went by."""

    map: str | None
    """The run whose map was used; null where only side tables were."""
    sha256: str | None
    """Digest of its map.parquet; null likewise."""
    filter: FilterRecord
    """What the filter dropped."""

    def text(self) -> str:
        """The filter in words, a line for each rule."""
        found, lines = self.filter, [f"{'':48}{'signal':>12}{'background':>12}"]

        def add(name: str, counts: Mapping[str, int]) -> None:
            numbers = "".join(f"{counts[one]:>12,}" for one in ("signal", "background"))
            lines.append(f"{name:48}{numbers}")

        add("training events", found.before)
        if self.map is not None:
            add("  not on the map, whose rules keep them", found.not_on_map)
        for one in found.rules:
            add(f"  dropped by {one.rule}", one.dropped)
        add("kept", found.kept)
        return "\n".join(lines)


class FlagRecord(Record):
    """A rule that marks suspicious events."""

    meaning: str
    """What an event is that breaks it."""
    weight: float
    """Share in the score of an event."""
    flagged: Mapping[str, Events]
    """Events that break it, by class."""
    alone: Events
    """Of these, events that break no other rule."""


class FlagsRecord(FileRecord):
    """Suspicious events of a dataset."""

    dataset: str
    """Name of the dataset's folder."""
    n_events: Events
    """Events that were judged."""
    settings: Whole[FlagsConfig]
    """Limits of the rules."""
    rules: Mapping[str, FlagRecord]
    """Rules that were asked."""
    skipped: Mapping[str, str]
    """Why a rule was not asked."""
    suspicious: Mapping[str, Events]
    """Events with a score of at least the threshold, by class."""
    made: Call
    """When, by which command and with which versions the events were judged."""
