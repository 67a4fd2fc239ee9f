"""Turns chunks of rows into dataset columns; the result does not depend on the chunk size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hepllm.arrays import Bools, Columns
from hepllm.config import PreprocessConfig
from hepllm.data.particles import PARTICLE_COLUMNS
from hepllm.errors import InputError
from hepllm.event_filter import parse_event_filter
from hepllm.physics.defects import describe_defects
from hepllm.physics.derivation import derive_features
from hepllm.physics.events import (
    EventBatch,
    Particles,
    TabulatedEvents,
    positions_in_runs,
)
from hepllm.physics.features import features_of_jets
from hepllm.physics.jets import Jets, cluster
from hepllm.physics.readers import EventFile
from hepllm.physics.units import suspect_units
from hepllm.schema import dataset_features

READ, VALID = "events read", "valid events"
"""Names of the first two steps of every cut flow."""

SKIP_BAD_EVENTS = "rerun with --set preprocess.on_bad_event=skip, or repair the file"


@dataclass(frozen=True)
class Chunk:
    """Rows of a file from ``start`` to before ``stop``."""

    file: EventFile
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.file.path}: rows {self.start}-{self.stop - 1}"


@dataclass(frozen=True)
class ChunkResult:
    """The N selected events of a chunk.

    Attributes:
        rows: ``event_id``, ``event_digest``, ``label_raw`` (NaN unknown), ``weight``; shape (N,).
        features: every feature of the dataset, shape (N,), NaN where missing.
        particles: lists of the hardest constituents of the leading jets, None if not requested.
        cut_flow: name of each step and number of events after it.
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


def process_chunk(
    chunk: Chunk, config: PreprocessConfig, remedy: str = SKIP_BAD_EVENTS
) -> ChunkResult:
    """Reads, validates, clusters and selects the events of a chunk.

    Args:
        chunk: the rows.
        config: how to read them.
        remedy: what to do about bad events, for the message.

    Raises:
        InputError: the file is damaged, or has bad events and the configuration does not skip them.
    """
    batch = chunk.file.read(chunk.start, chunk.stop)
    cut_flow = [(READ, len(batch))]
    good = _good_events(batch, chunk, config, remedy)
    batch = batch.take(good) if not good.all() else batch
    cut_flow.append((VALID, len(batch)))
    features, particles = describe_events(batch.content, config, batch.observers)
    rows = {
        "event_id": batch.event_id,
        "event_digest": batch.content.digests(),
        "label_raw": batch.label_raw,
        "weight": batch.weight,
    }
    if config.select is not None:
        passed = parse_event_filter(config.select, own=features.keys()).mask(features)
        rows = {name: values[passed] for name, values in rows.items()}
        features = {name: values[passed] for name, values in features.items()}
        if particles is not None:
            particles = {n: v.filter(pa.array(passed)) for n, v in particles.items()}
        cut_flow.append((config.select, int(passed.sum())))
    return ChunkResult(rows, features, particles, tuple(cut_flow))


def describe_events(
    content: Particles | TabulatedEvents,
    config: PreprocessConfig,
    observers: Columns | None = None,
) -> tuple[Columns, dict[str, pa.Array] | None]:
    """Every feature of N events, and the lists of constituents if the configuration asks for them.

    Both are as in ``ChunkResult``; after the features of the registry come the observers and the
    new variables.
    """
    features, lists = _registered(content, config)
    return config.variables().computed({**features, **(observers or {})}), lists


def _registered(
    content: Particles | TabulatedEvents, config: PreprocessConfig
) -> tuple[Columns, dict[str, pa.Array] | None]:
    if isinstance(content, TabulatedEvents):
        kinds = PARTICLE_COLUMNS.items() if config.particles_per_jet else ()
        missing = {name: pa.nulls(len(content), pa.list_(kind)) for name, kind in kinds}
        derived = derive_features(content)
        return {name: derived[name] for name in dataset_features(config.extended)}, missing or None
    jets = cluster(content, config.jets)
    lists = _hardest_constituents(content, jets, config) if config.particles_per_jet else None
    return features_of_jets(content, jets, config.jets, extended=config.extended), lists


def _good_events(batch: EventBatch, chunk: Chunk, config: PreprocessConfig, remedy: str) -> Bools:
    """The mask of events that have no defect and a valid label."""
    defects = describe_defects(batch)
    if chunk.file.has_labels:
        wrong = ~np.isin(batch.label_raw, (0, 1))
        if wrong.any():
            value = batch.label_raw[np.argmax(wrong)]
            text = f"{int(wrong.sum())} with a label other than 0 and 1 (first {value:g})"
            defects.append((text, wrong))
    if defects and config.on_bad_event == "fail":
        first = min(int(batch.event_id[np.argmax(events)]) for _, events in defects)
        units = suspect_units(batch.content, config.energy_unit, config.angle_unit)
        raise InputError(
            f"{chunk}: {', '.join(text for text, _ in defects)}, first in row {first}; "
            + "; ".join([*map(str, units), remedy])
        )
    bad = [np.zeros(len(batch), dtype=bool), *(events for _, events in defects)]
    good: Bools = ~np.any(bad, axis=0)
    return good


def _hardest_constituents(
    particles: Particles, jets: Jets, config: PreprocessConfig
) -> dict[str, pa.Array]:
    """Lists of the hardest constituents of each leading jet, jet after jet, in falling pT."""
    leading = [jets.constituents(rank) for rank in range(config.jets.n_jets)]
    particle = np.concatenate([of_jet.particle for of_jet in leading])
    numbers = np.arange(1, len(leading) + 1, dtype=np.int8)
    jet = np.repeat(numbers, [len(of_jet.particle) for of_jet in leading])
    event = particles.event_of_particle()[particle]
    order = np.lexsort((-particles.pt[particle], jet, event))
    # One run per leading jet of each event; the int8 jet numbers are below 128.
    _, counts = np.unique(event[order] * 128 + jet[order], return_counts=True)
    kept = order[positions_in_runs(counts) < config.particles_per_jet]
    ends = np.cumsum(np.bincount(event[kept], minlength=len(particles)))
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    kinematics = np.stack([particles.pt, particles.eta, particles.phi])[:, particle[kept]]
    flat = zip(PARTICLE_COLUMNS, (*kinematics.astype(np.float32), jet[kept]), strict=True)
    return {name: pa.ListArray.from_arrays(offsets, pa.array(values)) for name, values in flat}
