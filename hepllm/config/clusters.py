"""Settings of the embeddings of events and their clusters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hepllm.config.section import Count, Probability, Section, setting


class ClustersConfig(Section):
    """Embeddings and clusters of ``hepllm embed``; see docs/how-to/embed.md."""

    events: Count = setting(100_000, "Most events that are embedded, a random choice")
    fitted: Count = setting(
        10_000,
        "Most of these that clusters are found in, in time of its square; the others join them",
    )
    dimensions: Count = setting(50, "Most principal components in which clusters are sought")
    min_size: Annotated[int, Field(ge=2)] = setting(
        100, "Fewest fitted events of a cluster (min_cluster_size of HDBSCAN)"
    )
    min_samples: Count | None = setting(
        10, "Neighbours whose distance is an event's density; larger: more noise; null: min_size"
    )
    subsamples: Count = setting(
        10, "Seeds that each draw a subsample, which is clustered again, for the stability"
    )
    subsample_share: Probability = setting(0.8, "Share of the fitted events in a subsample")
    stable_from: Probability = setting(
        0.8, "Mean adjusted Rand index over subsamples from which clusters are called stable"
    )
    picture: Literal["components", "umap"] = setting(
        "components",
        "What is drawn: two principal components, or also UMAP of the fitted events (extra umap), "
        "in which nothing is clustered",
    )
