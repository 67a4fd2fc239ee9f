"""Record of an audit: ``overlap.json``."""

from __future__ import annotations

from collections.abc import Mapping

from hepllm.config import AuditConfig, FlagsConfig
from hepllm.provenance import Call
from hepllm.records import Events, FileRecord, Pair, Record, Whole

AUDITS = "audit"
"""The folder of the audits in a run."""

OVERLAP, TEXT, HEAT, SCATTER, EVENTS = (
    "overlap.json",
    "review.txt",
    "heat.png",
    "scatter.png",
    "events",
)
"""Files in the folder of an audit that a report shows."""


class MethodRecord(Record):
    """A method that flags events."""

    meaning: str
    """What an event is that it flags."""
    covered: Events
    """Events that it knows."""
    coverage: float
    """Their share of all events."""
    flagged: Mapping[str, Events]
    """Events that it flags, by class."""


class PairRecord(Record):
    """Two methods, on the events that both know."""

    first: str
    """Name of one method."""
    second: str
    """Name of the other."""
    n_covered: Events
    """Events that both know."""
    n_first: Events
    """Of these, events that the first flags."""
    n_second: Events
    """Events that the second flags."""
    n_shared: Events
    """Events that both flag."""
    expected: float | None
    """Events that both would flag if they flagged independently; null without events."""
    jaccard: float | None
    """Events that both flag over those that either flags; null where none is flagged."""


class RuleRate(Record):
    """A rule about events."""

    meaning: str
    """What an event is that breaks it."""
    flagged: Mapping[str, Events]
    """Events that break it, by class."""
    share: float
    """Their share of all events."""
    is_systematic: bool = False
    """Whether so many break it that it has no part in the priority of an event."""


class RegionRecord(Record):
    """A region of features in which several methods flag events."""

    cuts: str
    """The region as an event filter."""
    n_events: Events
    """Events in it."""
    n_flagged: Events
    """Of these, events that at least two methods flag."""
    share: float
    """Share of such events, in the half of the events that did not choose the region."""
    interval: Pair
    """Clopper-Pearson interval of the share, 95 %."""
    ratio: float
    """The share over that of all events."""


class AuditRecord(FileRecord):
    """What methods say of the events of a dataset, and how they agree."""

    dataset: str
    """Name of the dataset's folder."""
    n_events: Events
    """Number of events."""
    labels: Mapping[str, Events]
    """Events by class."""
    runs: tuple[str, ...]
    """Names of the runs, as in the columns of the table."""
    n_copies: Events
    """Events that are equal to an earlier one."""
    n_conflicts: Events
    """Events of which an equal one has another label."""
    methods: Mapping[str, MethodRecord]
    """Methods by name."""
    pairs: tuple[PairRecord, ...]
    """Each pair of methods."""
    n_by_several: Events
    """Events that at least two methods flag."""
    rules: Mapping[str, RuleRate]
    """Rules that were asked."""
    skipped: Mapping[str, str]
    """Why a rule or a method was not asked."""
    categories_by_cluster: Mapping[str, Mapping[str, Mapping[str, Events]]]
    """Events by run, category of its map and number of its cluster; -1: in no cluster."""
    regions: tuple[RegionRecord, ...]
    """Regions of features in which at least two methods flag events."""
    missing: tuple[str, ...]
    """What is not known, with the command that makes it."""
    n_review: Events
    """Events on the review list."""
    settings: Whole[AuditConfig]
    """Settings of the audit."""
    flags: Whole[FlagsConfig]
    """Limits of the rules."""
    seed: int
    """Seed of the boosting."""
    made: Call
    """When, by which command and with which versions the audit was made."""
