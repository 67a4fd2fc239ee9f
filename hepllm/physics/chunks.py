"""A chunk of a file from rows to dataset columns; what it gives does not depend on its size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hepllm.arrays import Bools, Columns, Ints
from hepllm.config import PreprocessConfig
from hepllm.data.dataset import PARTICLE_COLUMNS
from hepllm.errors import InputError
from hepllm.event_filter import parse_event_filter
from hepllm.physics.derivation import derive_features
from hepllm.physics.events import (
    EventBatch,
    Particles,
    TabulatedEvents,
    describe_defects,
    starts_of,
)
from hepllm.physics.features import features_of_jets
from hepllm.physics.jets import Jets, cluster
from hepllm.physics.readers import EventFile

READ, VALID = "events read", "valid events"
"""Names of the first two steps of every cut flow."""


@dataclass(frozen=True)
class Chunk:
    """Rows of a file, start included and stop not."""

    file: EventFile
    start: int
    stop: int

    def __str__(self) -> str:
        """Names the rows as error messages do."""
        return f"{self.file.path}: rows {self.start}-{self.stop - 1}"


@dataclass(frozen=True)
class ChunkResult:
    """What became of a chunk.

    Attributes:
        rows: ``event_id``, ``event_digest``, ``label_raw`` (NaN unknown), ``weight``; shape (N,).
        features: every feature of the registry, shape (N,), NaN where missing.
        particles: optional lists, N * var, of the hardest constituents of the leading jets.
        cut_flow: names of the steps and the events left after each.
    """

    rows: Mapping[str, NDArray[Any]]
    features: Columns
    particles: Mapping[str, pa.Array] | None
    cut_flow: tuple[tuple[str, int], ...]


def make_chunks(files: Sequence[EventFile], size: int) -> Iterator[Chunk]:
    """Cuts files into chunks of at most ``size`` rows, in order and without gaps."""
    for file in files:
        for start in range(0, file.n_events, size):
            yield Chunk(file, start, min(start + size, file.n_events))


def process_chunk(chunk: Chunk, config: PreprocessConfig) -> ChunkResult:
    """Reads, validates, clusters and selects the events of a chunk.

    Raises:
        InputError: the file is damaged, or it has bad events and they are not to be skipped.
    """
    batch = chunk.file.read(chunk.start, chunk.stop)
    cut_flow = [(READ, len(batch))]
    good = _good_events(batch, chunk, config.on_bad_event)
    batch = batch.take(good) if not good.all() else batch
    cut_flow.append((VALID, len(batch)))
    features, particles = _describe_events(batch.content, config)
    rows = {
        "event_id": batch.event_id,
        "event_digest": batch.content.digests(),
        "label_raw": batch.label_raw,
        "weight": batch.weight,
    }
    if config.select is not None:
        passed = parse_event_filter(config.select).mask(features)
        rows = {name: values[passed] for name, values in rows.items()}
        features = {name: values[passed] for name, values in features.items()}
        if particles is not None:
            particles = {n: v.filter(pa.array(passed)) for n, v in particles.items()}
        cut_flow.append((config.select, int(passed.sum())))
    return ChunkResult(rows, features, particles, tuple(cut_flow))


def _describe_events(
    content: Particles | TabulatedEvents, config: PreprocessConfig
) -> tuple[Columns, dict[str, pa.Array] | None]:
    """Every feature, and the lists of constituents if they are asked for."""
    if isinstance(content, TabulatedEvents):
        lists = _empty_lists(len(content)) if config.particles_per_jet else None
        return derive_features(content), lists
    jets = cluster(content, config.jets)
    features = features_of_jets(content, jets, config.jets)
    return features, _hardest_constituents(content, jets, config)


def _empty_lists(n_events: int) -> dict[str, pa.Array]:
    return {name: pa.nulls(n_events, pa.list_(kind)) for name, kind in PARTICLE_COLUMNS.items()}


def _good_events(batch: EventBatch, chunk: Chunk, on_bad_event: Literal["fail", "skip"]) -> Bools:
    """The events that can be clustered and have a label that means something."""
    defects = describe_defects(batch)
    if chunk.file.has_labels:
        wrong = ~np.isin(batch.label_raw, (0, 1))
        if wrong.any():
            value = batch.label_raw[np.argmax(wrong)]
            text = f"{int(wrong.sum())} with a label other than 0 and 1 (first {value:g})"
            defects.append((text, wrong))
    if defects and on_bad_event == "fail":
        first = min(int(batch.event_id[np.argmax(events)]) for _, events in defects)
        raise InputError(
            f"{chunk}: {', '.join(text for text, _ in defects)}, first in row {first}; "
            "rerun with --on-bad-event skip, or repair the file"
        )
    good = np.ones(len(batch), dtype=bool)
    for _, events in defects:
        good &= ~events
    return good


def _hardest_constituents(
    particles: Particles, jets: Jets, config: PreprocessConfig
) -> dict[str, pa.Array] | None:
    """Lists of the hardest constituents of each leading jet, jet after jet, in falling pT."""
    per_jet = config.particles_per_jet
    if per_jet == 0:
        return None
    chosen, events, ranks = [], [], []
    for index in range(config.jets.n_jets):
        constituents = jets.constituents(index)
        event = np.repeat(np.flatnonzero(jets.counts > index), constituents.counts)
        order = np.lexsort((-particles.pt[constituents.particle], event))
        starts = starts_of(constituents.counts)
        rank = np.arange(len(order)) - np.repeat(starts, constituents.counts)
        kept = order[rank < per_jet]
        chosen.append(constituents.particle[kept])
        events.append(event[kept])
        ranks.append(np.full(len(kept), index + 1, dtype=np.int8))
    return _lists(particles, np.concatenate(chosen), np.concatenate(events), np.concatenate(ranks))


def _lists(
    particles: Particles,
    chosen: Ints,
    event: Ints,
    jet: NDArray[np.int8],
) -> dict[str, pa.Array]:
    order = np.argsort(event, kind="stable")
    counts = np.bincount(event, minlength=len(particles))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    flat = {
        "particles_pt": particles.pt[chosen[order]].astype(np.float32),
        "particles_eta": particles.eta[chosen[order]].astype(np.float32),
        "particles_phi": particles.phi[chosen[order]].astype(np.float32),
        "particles_jet": jet[order],
    }
    return {
        name: pa.ListArray.from_arrays(offsets, pa.array(values)) for name, values in flat.items()
    }
