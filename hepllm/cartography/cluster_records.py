"""Record of the clusters of embedded events: ``clusters.json``."""

from __future__ import annotations

from collections.abc import Mapping

from hepllm.cartography.records import FeatureSummary
from hepllm.config import ClustersConfig
from hepllm.provenance import Call
from hepllm.records import Events, FileRecord, Record, Whole


class ClusterRecord(Record):
    """The events of a cluster, or those in none."""

    n_events: Events
    """Number of events."""
    share: float
    """Share of all events."""
    labels: Mapping[str, Events]
    """Events by class."""
    purity: float | None = None
    """Share of the commonest class among the events with a label; absent without labels."""
    probability: float | None = None
    """Mean strength of the membership; absent for the events in no cluster."""
    score: float
    """Mean score of the run, the logit of signal."""
    confidence: float | None = None
    """Mean confidence on the map of the run, of the events that are on it; absent without."""
    features: Mapping[str, FeatureSummary] = {}
    """What the events are; distances are to all other events, the largest first."""


class ClustersRecord(FileRecord):
    """Clusters of the embeddings of events."""

    run: str
    """Name of the run's folder."""
    dataset: str
    """Name of the dataset's folder."""
    split: str | None
    """Split of the dataset whose events were embedded; null: all events."""
    n_available: Events
    """Events of which the embedded ones are a random choice."""
    n_events: Events
    """Events that were embedded."""
    n_fitted: Events
    """Events in which components and clusters were found; the others joined the clusters."""
    embedding: tuple[str, ...]
    """Parts of an embedding."""
    n_dimensions: int
    """Principal components in which clusters were sought."""
    explained: float
    """Share of the variance of the embeddings that these have."""
    settings: Whole[ClustersConfig]
    """Settings of the clusters."""
    seed: int
    """Seed of the choice of events and of the subsamples."""
    clusters: tuple[ClusterRecord, ...]
    """The clusters by number, the largest first."""
    noise: ClusterRecord | None
    """The events in no cluster; null where there are none."""
    stability: tuple[float, ...]
    """Adjusted Rand index of each subsample with the clusters of all events; none without any."""
    mean_stability: float | None
    """Mean of these; null without clusters."""
    is_stable: bool | None
    """Whether the mean is at least clusters.stable_from; null without clusters."""
    made: Call
    """When, by which command and with which versions the clusters were made."""
