"""What is known of the events of a dataset, and which methods flag which of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from hepllm.arrays import Bools, Floats, Ints, Labels
from hepllm.cartography.event_map import CATEGORIES
from hepllm.cartography.flags import RULES, Flags
from hepllm.cartography.overlaps import Method
from hepllm.cartography.priority import Copies, Priorities
from hepllm.config import AuditConfig
from hepllm.data.dataset import Dataset
from hepllm.data.event_table import EventTable
from hepllm.runs.audited_run import NOT_EMBEDDED, AuditedRun
from hepllm.schema import BACKGROUND, SIGNAL, UNKNOWN


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of N events.

    Attributes:
        dataset: their dataset.
        table: the events, with the features that methods have read.
        features: names of the features that the table of the audit has.
        judged: names of those from which labels are judged.
        runs: what runs know.
        flags: what rules found.
        boosting: margins of the labels by the boosting, shape (N,); None where it was not asked.
        skipped: why a rule or a method was not asked, by name.
        copies: equal events.
    """

    dataset: Dataset
    table: EventTable
    features: tuple[str, ...]
    judged: tuple[str, ...]
    runs: tuple[AuditedRun, ...]
    flags: Flags
    boosting: Floats | None
    skipped: Mapping[str, str]
    copies: Copies

    def __len__(self) -> int:
        return len(self.table)

    @property
    def margins(self) -> dict[str, Floats]:
        """Margins of the labels by method, shape (N,) each, NaN where it knows nothing."""
        found = {run.name: run.margin for run in self.runs}
        return found if self.boosting is None else {**found, "the boosting": self.boosting}

    def methods(self, priorities: Priorities, config: AuditConfig) -> dict[str, Method]:
        """All methods that flag events, by name."""
        found = {
            "rules": Method(
                "a rule about measurements is broken, or an equal event has another label",
                np.ones(len(self), dtype=np.bool_),
                priorities.faults > 0,
            )
        }
        if "unlike_neighbours" in self.flags.broken:
            broken = self.flags.broken["unlike_neighbours"]
            meaning = RULES["unlike_neighbours"].meaning
            found["neighbours"] = Method(meaning, self._is_labelled, broken)
        doubts = f"gives the label a probability below {config.doubted:g}"
        if self.boosting is not None:
            meaning = f"trained on other events, {doubts}"
            found["boosting"] = _doubt(meaning, self.boosting, config.doubted)
        for one in self.runs:
            if not np.isnan(one.margin).all():
                meaning = f"in its training or by score, {doubts}"
                found[f"run {one.name}"] = _doubt(meaning, one.margin, config.doubted)
            if one.is_clustered:
                meaning = (
                    f"less than {config.minority:.0%} of its cluster have its label, both classes "
                    "counted alike"
                )
                found[f"clusters of {one.name}"] = Method(
                    meaning, *minorities(one.cluster, self.table.label, config.minority)
                )
        return found

    @property
    def _is_labelled(self) -> Bools:
        return np.asarray(self.table.label != UNKNOWN)


def minorities(cluster: Ints, label: Labels, share: float) -> tuple[Bools, Bools]:
    """Finds N events whose label is rare in their cluster, for its frequency elsewhere.

    The share of a label in a cluster is that if both classes had equally many embedded events, so
    that a rare class is judged as fairly as a frequent one.

    Args:
        cluster: number of the cluster of each event, or -1, or ``NOT_EMBEDDED``, shape (N,).
        label: shape (N,).
        share: share of a cluster below which a label is rare.

    Returns:
        Events with a label in a cluster, and those of them whose label is rare there, (N,) each.
    """
    covered = (cluster >= 0) & (label != UNKNOWN)
    weight = np.zeros(len(label))
    for one in (BACKGROUND, SIGNAL):
        embedded = (cluster != NOT_EMBEDDED) & (label == one)
        weight[embedded] = 1 / max(1, int(embedded.sum()))
    of_cluster = np.bincount(cluster[covered], weight[covered])
    flagged = np.zeros(len(label), dtype=np.bool_)
    for one in (BACKGROUND, SIGNAL):
        mine = covered & (label == one)
        of_label = np.bincount(cluster[mine], weight[mine], len(of_cluster))
        flagged[mine] = (of_label < share * of_cluster)[cluster[mine]]
    return covered, flagged


def _doubt(meaning: str, margin: Floats, doubted: float) -> Method:
    is_known = ~np.isnan(margin)
    return Method(meaning, is_known, is_known & (expit(margin) < doubted))


def categories_by_cluster(known: Sequence[AuditedRun]) -> dict[str, dict[str, dict[str, int]]]:
    """Events by category and cluster, of runs with clusters; by their own map, or the first."""
    mapped = next((one for one in known if one.is_mapped), None)
    found: dict[str, dict[str, dict[str, int]]] = {}
    for run in known:
        source = run if run.is_mapped else mapped
        if not run.is_clustered or source is None:
            continue
        numbers = np.unique(run.cluster[run.cluster != NOT_EMBEDDED]).tolist()
        found[run.name] = {
            category: {
                str(number): int(((source.category == place) & (run.cluster == number)).sum())
                for number in numbers
            }
            for place, category in enumerate(CATEGORIES)
        }
    return found
