"""What runs know of the events of a dataset, from their files alone.

No model is loaded and nothing is scored: a run knows its training events by the record of its
training, its validation and test events by their scores, and the events that were embedded by their
clusters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hepllm.arrays import Digests, Floats, Ints, Labels
from hepllm.arrow_files import read_parquet
from hepllm.cartography.dynamics import DYNAMICS, Dynamics, read_dynamics
from hepllm.cartography.event_map import (
    CATEGORIES,
    MAP,
    EventMap,
    choose_part,
    map_events,
    read_map,
)
from hepllm.cartography.label_quality import label_signs
from hepllm.cartography.measures import measure
from hepllm.data.dataset import Dataset
from hepllm.data.event_table import EventTable
from hepllm.data.notes import find_events, read_notes
from hepllm.errors import InputError
from hepllm.runs import VALIDATION_SCORES
from hepllm.runs.folder import Run, open_run
from hepllm.runs.score_files import prior_of

NOT_EMBEDDED = -2
"""Number of the cluster of events that were not embedded; -1 are those in no cluster."""

UNMAPPED = -1

_LABELLED = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)
"""Bits that tell an event with one label from the same event with another: -1, 0 and 1."""


@dataclass(frozen=True, eq=False)
class AuditedRun:
    """What a run knows of N events.

    Attributes:
        name: name of its folder.
        columns: values by name, shape (N,); missing ones are NaN, or null in an Arrow array.
        margin: what it believes of each label, the logit of its class minus that of the other: in
            the last epochs of the training, or by the score of an event that it was not trained on;
            as if both classes were equally frequent; shape (N,), NaN where it knows nothing.
        confidence: mean confidence on its map, shape (N,), NaN where not mapped.
        category: place in ``CATEGORIES``, or ``UNMAPPED``, shape (N,).
        cluster: number of the cluster, or -1 for none, or ``NOT_EMBEDDED``, shape (N,).
        missing: what is not known, with the command that makes it.
    """

    name: str
    columns: Mapping[str, NDArray[Any] | pa.Array]
    margin: Floats
    confidence: Floats
    category: NDArray[np.int8]
    cluster: Ints
    missing: tuple[str, ...] = ()

    @property
    def is_mapped(self) -> bool:
        """Whether it has a map with any of the events."""
        return bool((self.category != UNMAPPED).any())

    @property
    def is_clustered(self) -> bool:
        """Whether any of the events were embedded."""
        return bool((self.cluster != NOT_EMBEDDED).any())


@dataclass(eq=False)
class _Found:
    """What is found of N events, file by file."""

    table: EventTable
    columns: dict[str, NDArray[Any] | pa.Array] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    late: Floats | None = None
    score: Floats | None = None
    confidence: Floats | None = None
    category: NDArray[np.int8] | None = None
    cluster: Ints | None = None

    def result(self, name: str, log_odds: float) -> AuditedRun:
        table, nothing = self.table, np.full(len(self.table), np.nan)
        margin = nothing.copy() if self.late is None else self.late.copy()
        if self.score is not None:
            self.columns = {"score": self.score, **self.columns}
            by_score = self.score * label_signs(table.label)
            margin = np.where(np.isnan(margin), by_score, margin)
        margin -= log_odds * label_signs(table.label)
        n_events = len(table)
        return AuditedRun(
            name=name,
            columns=self.columns,
            margin=margin,
            confidence=nothing if self.confidence is None else self.confidence,
            category=np.full(n_events, UNMAPPED, dtype=np.int8)
            if self.category is None
            else self.category,
            cluster=np.full(n_events, NOT_EMBEDDED) if self.cluster is None else self.cluster,
            missing=tuple(self.missing),
        )

    def add_scores(self, score: Floats) -> None:
        """Fills in scores of events that have none so far."""
        self.score = (
            score if self.score is None else np.where(np.isnan(self.score), score, self.score)
        )


def read_audited_run(
    folder: Path, name: str, dataset: Dataset, table: EventTable, late_epochs: float
) -> AuditedRun:
    """Reads what a run knows of the events of a dataset.

    Args:
        folder: the run.
        name: its name.
        dataset: the dataset.
        table: its N events.
        late_epochs: share of the epochs, the last ones, whose margins count.

    Raises:
        InputError: if a file is damaged, or the run knows none of the events.
    """
    run, found = open_run(folder), _Found(table)
    if not run.is_ensemble:  # which has no training and no embeddings of its own
        _add_map(run, found, late_epochs)
        _add_clusters(run, found, dataset)
    _add_validation(run, found)
    _add_test(run, found, dataset)
    result = found.result(name, _log_odds(run))
    if np.isnan(result.margin).all() and not (result.is_mapped or result.is_clustered):
        raise InputError(
            f"{folder}: knows no event of {dataset.folder}; name runs that were trained on it with "
            "--dynamics, or embed its events with: "
            f"hepllm embed {folder} {dataset.folder}"
        )
    return result


def _log_odds(run: Run) -> float:
    """Logarithm of signal over background in the loss: what events that tell nothing score.

    Without it a rare class would be doubted for being rare. The logits of an ensemble are
    calibrated for the balance of its first run, whatever the weights of the classes in the loss.
    """
    weighted = run.record.weak is not None or run.config.train.loss.class_weights == "balanced"
    if weighted and not run.is_ensemble:
        return 0.0
    prior = prior_of(run)
    return math.log(prior / (1 - prior))


def _add_map(run: Run, found: _Found, late_epochs: float) -> None:
    folder, table = run.folder, found.table
    has_record = (folder / DYNAMICS).is_file()
    dynamics = read_dynamics(folder, "train the run again with --dynamics") if has_record else None
    event_map = _map_of(run, dynamics)
    if event_map is None:
        found.missing.append(
            f"{folder} has no record of what it believed of its training events; train it with: "
            "hepllm train --dynamics"
        )
        return
    rows = _rows_of(table, event_map.event_digest, event_map.label)
    measures = event_map.measures
    kinds = ("confidence", "variability", "correctness", "forgetting", "area_under_margin")
    of_map = {kind: _taken(getattr(measures, kind), rows) for kind in kinds}
    found.columns |= of_map
    found.confidence = of_map["confidence"]
    found.category = np.where(rows < 0, UNMAPPED, event_map.category[rows]).astype(np.int8)
    names = np.array(CATEGORIES, dtype=object)
    found.columns["category"] = pa.array(names[found.category], pa.string(), mask=rows < 0)
    if dynamics is None or event_map.part not in dynamics.parts:
        found.late = of_map["area_under_margin"]
        return
    part = dynamics.parts[event_map.part]
    n_late = max(1, round(late_epochs * part.n_epochs))
    late = measure(part, skip=part.n_epochs - n_late).area_under_margin
    found.late = _taken(late, _rows_of(table, dynamics.event_digest, dynamics.label))
    found.columns["late_margin"] = found.late


def _map_of(run: Run, dynamics: Dynamics | None) -> EventMap | None:
    """The map that was made of a run, or else the one that its own settings make."""
    if (run.folder / "map" / MAP).is_file():
        return read_map(run.folder)
    if dynamics is None:
        return None
    config = run.config.cartography
    made = map_events(dynamics, choose_part(dynamics, config, run.folder), config)
    return made if len(made) else None


def _add_validation(run: Run, found: _Found) -> None:
    file = run.folder / VALIDATION_SCORES
    if not file.is_file():
        found.missing.append(
            f"{run.folder}: its training has not ended, so there are no scores of validation "
            f"events; go on with: hepllm train --resume --output {run.folder}"
        )
        return
    notes = read_notes(file, "train it again")
    rows = find_events(found.table.event_digest, notes.event_digest)
    if (rows >= 0).any():
        found.add_scores(_taken(notes.column("score"), rows))


def _add_test(run: Run, found: _Found, dataset: Dataset) -> None:
    """Adds scores of an evaluation on the test split; its file names events by source and id."""
    if run.record.dataset_digest != dataset.digest:
        return
    name = f"{run.record.dataset.name}-test"
    file = run.folder / "eval" / name / "scores.parquet"
    if not file.is_file():
        found.missing.append(
            f"{run.folder} has not scored the test split; score it with: hepllm eval {run.folder}"
        )
        return
    try:
        scored = read_parquet(file, ["source", "event_id", "score"])
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{file}: not readable: {' '.join(str(error).split())}; evaluate again with: "
            f"hepllm eval {run.folder}"
        ) from None
    score = np.full(len(found.table), np.nan)
    for source in sorted(set(found.table.source.tolist())):
        mine = np.flatnonzero(found.table.source == source)
        rows = scored.filter(pc.equal(scored["source"].cast(pa.string()), source))
        place = find_events(
            found.table.event_id[mine].astype(np.uint64),
            rows["event_id"].to_numpy().astype(np.uint64),
        )
        score[mine] = _taken(rows["score"].to_numpy(), place)
    found.add_scores(score)


def _add_clusters(run: Run, found: _Found, dataset: Dataset) -> None:
    name = dataset.folder.resolve().name
    file = run.folder / "embed" / name / "clusters.parquet"
    is_own = run.record.dataset_digest == dataset.digest
    command = f"hepllm embed {run.folder}" + ("" if is_own else f" {dataset.folder}")
    if not file.is_file():
        found.missing.append(
            f"{run.folder} has no clusters of these events; find them with: {command}"
        )
        return
    notes = read_notes(file, f"make it again with: {command}")
    rows = find_events(found.table.event_digest, notes.event_digest)
    if not (rows >= 0).any():
        found.missing.append(f"{file}: has none of these events; make it again with: {command}")
        return
    cluster = notes.column("cluster").astype(np.int64)
    found.cluster = np.where(rows < 0, NOT_EMBEDDED, cluster[rows])
    found.columns["cluster"] = pa.array(found.cluster, mask=rows < 0)
    found.columns["membership"] = _taken(notes.column("probability"), rows)


def _rows_of(table: EventTable, digests: Digests, label: Labels) -> Ints:
    """Rows of events with the same label; -1 where there is none."""
    return find_events(keyed(table.event_digest, table.label), keyed(digests, label))


def keyed(digests: Digests, label: Labels) -> Digests:
    """Digests that differ also by label, shape (N,)."""
    return np.asarray(digests ^ _LABELLED[label.astype(np.int64) + 1])


def _taken(values: NDArray[Any], rows: Ints) -> Floats:
    """Values of rows as floats, shape (N,); NaN where there is no row."""
    if not len(values):
        return np.full(len(rows), np.nan)
    return np.where(rows < 0, np.nan, values[rows].astype(np.float64))
