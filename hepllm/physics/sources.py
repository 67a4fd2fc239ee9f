"""Event files as sources of a dataset, with their labels, and the chunks that workers process."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from hepllm.arrays import RawLabels
from hepllm.config import PreprocessConfig
from hepllm.data.manifest import SourceFile
from hepllm.data.signal_points import SignalPoint, points_beside, read_points
from hepllm.errors import InputError
from hepllm.files import as_text, file_digest, is_file
from hepllm.physics.chunks import Chunk, ChunkResult, make_chunks
from hepllm.physics.readers import EventFile, open_event_file
from hepllm.physics.readers.masterkey import read_masterkey
from hepllm.schema import UNKNOWN

logger = logging.getLogger(__name__)

MasterKey: TypeAlias = Path | Literal["none"] | None
"""File with the labels of a black box; None: the one beside the file; ``none``: no such file."""


@dataclass(frozen=True)
class EventSource:
    """An opened event file and the labels of its events.

    Attributes:
        name: name in the dataset, the file's stem.
        masterkey: file with the labels of a black box.
        key: the labels in the master key.
        label: label of all events if neither the file nor a key has labels.
        points: truth of its signal events, from the file ``<stem>.points.json`` beside it; None
            without labels, which say what is signal.
    """

    name: str
    file: EventFile
    masterkey: Path | None = None
    key: RawLabels | None = None
    label: int = UNKNOWN
    points: tuple[SignalPoint, ...] | None = None

    def describe(self) -> SourceFile:
        """The record of this file in the dataset's manifest."""
        path = self.file.path
        return SourceFile(
            name=self.name,
            file=as_text(path.name),
            size=path.stat().st_size,
            sha256=file_digest(path),
            events=self.file.n_events,
            masterkey=as_text(self.masterkey.name) if self.masterkey else None,
            masterkey_sha256=file_digest(self.masterkey) if self.masterkey else None,
            signal_points=self.points,
        )


@dataclass(frozen=True, eq=False)
class ChunkTask:
    """A chunk for a worker, with what the worker needs to know about the source.

    Attributes:
        source: position of the file in the names of all sources, and these names.
        key: labels of the chunk's rows from the master key.
        label: label of all events if neither the file nor a key has labels.
    """

    chunk: Chunk
    source: tuple[int, tuple[str, ...]]
    key: RawLabels | None
    label: int

    def __str__(self) -> str:
        return str(self.chunk)

    @property
    def part(self) -> str:
        """Name of the part that stores the finished chunk."""
        position, _ = self.source
        return f"{position:04d}-{self.chunk.start:010d}-{self.chunk.stop:010d}"

    @property
    def n_rows(self) -> int:
        """Number of events in the chunk before selection."""
        return self.chunk.stop - self.chunk.start

    def labels(self, result: ChunkResult) -> RawLabels:
        """Raw labels of the events: from the key, from the file, or the same for all."""
        if self.key is not None:
            labels: RawLabels = self.key[result.rows["event_id"] - self.chunk.start]
            return labels
        raw = result.rows["label_raw"]
        return np.where(np.isnan(raw), self.label, raw).astype(np.int16)


def open_source(path: Path, masterkey: MasterKey, config: PreprocessConfig) -> EventSource:
    """Opens an event file and finds its labels.

    Args:
        path: the file.
        masterkey: file with the labels; None: ``<stem>.masterkey`` or ``<file>.masterkey`` in the
            same folder, if it exists; ``none``: such a file is ignored.
        config: format of the file, and labels of whole files.

    Raises:
        InputError: the file or its key is missing, damaged or of the wrong kind, or more than one
            of file, key and configuration gives labels.
    """
    file = open_event_file(path, config)
    name = as_text(path.stem)
    label = config.source_labels.get(name)
    if file.has_labels:
        has_key = isinstance(masterkey, Path)
        if has_key or label is not None:
            what = f"the master key {masterkey}" if has_key else "preprocess.source_labels"
            raise InputError(f"{path}: has its own labels; remove {what}, or give --label none")
        return EventSource(name, file, points=_find_points(path, file.n_events))
    if label is not None:
        points = _find_points(path, file.n_events)
        return EventSource(name, file, label=label, points=points)
    key_file = masterkey if isinstance(masterkey, Path) else _find_masterkey(path)
    if masterkey == "none" and key_file is not None:
        logger.info("%s: no labels; %s beside it is ignored", path, key_file.name)
        key_file = None
    elif key_file is not None:
        logger.info("%s: labels from %s", path, key_file.name)
    if key_file is None:
        return EventSource(name, file)
    key = read_masterkey(key_file, file.n_events)
    return EventSource(name, file, key_file, key, points=_find_points(path, file.n_events))


def _find_points(file: Path, n_events: int) -> tuple[SignalPoint, ...] | None:
    path = points_beside(file)
    if not is_file(path):
        return None
    points = read_points(path, n_events)
    logger.info("%s: truth of %d signals from %s", file, len(points), path.name)
    return points


def _find_masterkey(file: Path) -> Path | None:
    candidates = (file.with_suffix(".masterkey"), file.with_name(file.name + ".masterkey"))
    return next((path for path in candidates if is_file(path)), None)


def make_tasks(sources: Sequence[EventSource], size: int) -> list[ChunkTask]:
    """Cuts sources into chunks of at most ``size`` rows, in the order of their events."""
    names = tuple(source.name for source in sources)
    tasks = []
    for position, source in enumerate(sources):
        for chunk in make_chunks([source.file], size):
            key = None if source.key is None else source.key[chunk.start : chunk.stop]
            tasks.append(ChunkTask(chunk, (position, names), key, source.label))
    return tasks
