"""Clusters of embedded events as a table, with what sets each of them apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hepllm.cartography.cluster_records import ClusterRecord, ClustersRecord
from hepllm.report.page import Cell, Group, Row, Table
from hepllm.schema import feature_of

_M_JJ = "m_jj"
_TOLD = 3
"""Features that are told of each cluster: those that set it apart most."""


def clusters_table(record: ClustersRecord) -> Table:
    """Tabulates the clusters, with what sets each apart."""
    named = list(_named(record))
    rows = [Row(name, _cells(one)) for name, one in named]
    heads = ("", "events", "share", "purity", "membership", "score", "confidence")
    return Table(
        f"Clusters of {record.n_events} of {record.n_available} events of {record.dataset} by "
        f"{record.run}",
        (*heads, _M_JJ),
        [Group("", rows)],
        (*_notes(record), *_distinctions(named)),
    )


def _named(record: ClustersRecord) -> Iterator[tuple[str, ClusterRecord]]:
    for place, one in enumerate(record.clusters):
        yield f"cluster {place}", one
    if record.noise is not None:
        yield "in no cluster", record.noise


def _cells(one: ClusterRecord) -> Sequence[Cell]:
    m_jj = one.features[_M_JJ].median if _M_JJ in one.features else None
    values = (
        (one.share, "{:.1%}"),
        (one.purity, "{:.3f}"),
        (one.probability, "{:.3f}"),
        (one.score, "{:+.2f}"),
        (one.confidence, "{:.3f}"),
        (m_jj, "{:.0f}"),
    )
    return [
        Cell(str(one.n_events), one.n_events),
        *(Cell("" if value is None else form.format(value), value) for value, form in values),
    ]


def _notes(record: ClustersRecord) -> Iterator[str]:
    if record.n_fitted < record.n_events:
        yield (
            f"Components and clusters are of {record.n_fitted} events, a random choice; the others "
            "joined the cluster of the one that they reach first."
        )
    yield (
        f"{record.n_dimensions} principal components have {record.explained:.1%} of the variance "
        f"of the embeddings ({', '.join(record.embedding)}). {_M_JJ} is a median in GeV."
    )
    if record.mean_stability is None:
        yield (
            "No cluster: the events are one cloud, or clusters.min_size "
            f"({record.settings.min_size}) is too large."
        )
        return
    verdict = "stable" if record.is_stable else "UNSTABLE: do not go by these clusters"
    yield (
        f"Adjusted Rand index of {len(record.stability)} seeds, each a subsample of "
        f"{record.settings.subsample_share:.0%}: mean {record.mean_stability:.3f}, from "
        f"{min(record.stability):.3f} to {max(record.stability):.3f}; {verdict} (limit "
        f"{record.settings.stable_from:g})."
    )


def _distinctions(named: Sequence[tuple[str, ClusterRecord]]) -> Iterator[str]:
    """Says of each cluster in which features it differs most from all other events."""
    for name, one in named:
        told = [
            f"{feature} {found.median:.4g}{' ' * bool(unit)}{unit} (distance {found.distance:.2f})"
            for feature, found in list(one.features.items())[:_TOLD]
            for unit in (feature_of(feature).unit,)
            if found.distance is not None and found.median is not None
        ]
        if told:
            yield f"{name}: {', '.join(told)}."
