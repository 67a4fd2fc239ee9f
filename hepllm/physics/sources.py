"""Event files as the sources of a dataset: their labels, and the chunks that workers process."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hepllm.arrays import RawLabels
from hepllm.config import PreprocessConfig
from hepllm.data.dataset import SourceFile
from hepllm.errors import InputError
from hepllm.files import file_digest
from hepllm.physics.chunks import Chunk, ChunkResult, make_chunks
from hepllm.physics.readers import EventFile, open_event_file
from hepllm.physics.readers.masterkey import read_masterkey
from hepllm.schema import UNKNOWN

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EventSource:
    """An opened event file, what it is called in the dataset, and who labels its events.

    Attributes:
        name: the file's stem.
        file: the events.
        masterkey: file of the labels of a black box.
        key: what is in it.
        label: of all events, of a file without labels.
    """

    name: str
    file: EventFile
    masterkey: Path | None = None
    key: RawLabels | None = None
    label: int = UNKNOWN

    def describe(self) -> SourceFile:
        """What the dataset's manifest records of it."""
        path = self.file.path
        return SourceFile(
            name=self.name,
            file=path.name,
            size=path.stat().st_size,
            sha256=file_digest(path),
            events=self.file.n_events,
            masterkey=self.masterkey.name if self.masterkey else None,
            masterkey_sha256=file_digest(self.masterkey) if self.masterkey else None,
        )


@dataclass(frozen=True, eq=False)
class ChunkTask:
    """A chunk to be done by a worker, with what the worker must know of its source.

    Attributes:
        chunk: rows of the file.
        source: the file's place among the names of all sources, and these names.
        key: labels of the chunk's rows from the master key.
        label: of all events, of a file without labels.
    """

    chunk: Chunk
    source: tuple[int, tuple[str, ...]]
    key: RawLabels | None
    label: int

    def __str__(self) -> str:
        return str(self.chunk)

    @property
    def part(self) -> str:
        """What the finished chunk is called."""
        position, names = self.source
        return f"{names[position]}-{self.chunk.start:010d}-{self.chunk.stop:010d}"

    @property
    def n_rows(self) -> int:
        """How many events are read for it."""
        return self.chunk.stop - self.chunk.start

    def labels(self, result: ChunkResult) -> RawLabels:
        """The events' raw labels: from the key, or the file, else the same for all."""
        if self.key is not None:
            labels: RawLabels = self.key[result.rows["event_id"] - self.chunk.start]
            return labels
        raw = result.rows["label_raw"]
        return np.where(np.isnan(raw), self.label, raw).astype(np.int16)


def open_source(path: Path, masterkey: Path | None, config: PreprocessConfig) -> EventSource:
    """Opens an event file and finds its labels.

    Args:
        path: the file.
        masterkey: file of its labels; None takes ``<stem>.masterkey`` or ``<file>.masterkey``
            beside it where there is one.
        config: how the file is read, and labels of whole files.

    Raises:
        InputError: the file or its key is missing, damaged or not what it should be, or two of
            them have labels.
    """
    file = open_event_file(path, config)
    label = config.source_labels.get(path.stem)
    if file.has_labels:
        if masterkey is not None or label is not None:
            what = f"the master key {masterkey}" if masterkey else "preprocess.source_labels"
            raise InputError(f"{path}: has its own labels; leave {what} out, or give --label none")
        return EventSource(path.stem, file)
    if label is not None:
        return EventSource(path.stem, file, label=label)
    key_file = masterkey or _key_beside(path)
    key = read_masterkey(key_file, file.n_events) if key_file else None
    return EventSource(path.stem, file, key_file, key)


def _key_beside(file: Path) -> Path | None:
    candidates = (file.with_suffix(".masterkey"), file.with_name(file.name + ".masterkey"))
    found = next((path for path in candidates if path.is_file()), None)
    if found is not None:
        logger.info("%s: labels from %s", file, found.name)
    return found


def make_tasks(sources: Sequence[EventSource], size: int) -> list[ChunkTask]:
    """Cuts sources into chunks of at most ``size`` rows, in the order of their events."""
    names = tuple(source.name for source in sources)
    return [
        ChunkTask(
            chunk,
            (position, names),
            None if source.key is None else source.key[chunk.start : chunk.stop],
            source.label,
        )
        for position, source in enumerate(sources)
        for chunk in make_chunks([source.file], size)
    ]
