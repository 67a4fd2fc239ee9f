"""An input of ``hepllm predict``, read in parts: an event file, a feature table or a dataset."""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hepllm.arrays import Floats, Ints, Labels
from hepllm.config import PreprocessConfig
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.executor import Retry, run_tasks
from hepllm.files import file_digest
from hepllm.physics.chunks import Chunk, ChunkResult, make_chunks, process_chunk
from hepllm.physics.readers import EventFile, open_event_file
from hepllm.physics.readers.features import FeatureFile
from hepllm.runs.folder import Run
from hepllm.runs.samples import check_jets
from hepllm.schema import UNKNOWN

_CONTENT = {"format", "label", "weight", "energy_unit", "columns", "root", "jets", "on_bad_event"}
"""Settings of the section ``preprocess`` that change what is read from an event file."""


@dataclass(frozen=True)
class Part:
    """Rows of the input from ``start`` to ``stop``, which is excluded."""

    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.start:012d}-{self.stop:012d}"


@dataclass(frozen=True, eq=False)
class InputRows:
    """Events of a part: features of shape (N, F), NaN where missing; all others of length N."""

    features: Floats
    event_id: Ints
    source: list[str]
    label: Labels
    weight: Floats

    def __len__(self) -> int:
        return len(self.event_id)


@dataclass(frozen=True)
class ScoredInput:
    """An input that is read and scored in parts.

    Attributes:
        content: the opened file or dataset.
        parts: its rows, at most ``chunk_size`` in each.
        fingerprint: digest and settings that determine its events.
    """

    content: EventFile | Dataset
    parts: tuple[Part, ...]
    fingerprint: dict[str, object]

    def read(
        self, names: Sequence[str], parts: Sequence[Part], config: PreprocessConfig
    ) -> Generator[tuple[Part, InputRows], None, None]:
        """Reads features of some of the parts, in order.

        Raises:
            InputError: the input is damaged or has bad events that are not to be skipped.
            ChunkError: a worker failed.
        """
        if isinstance(self.content, Dataset):
            return _read_dataset(self.content, names, parts, config.chunk_size)
        return _read_file(self.content, names, parts, config)


def open_input(run: Run, path: Path, config: PreprocessConfig) -> ScoredInput:
    """Opens an event file or feature table that ``preprocess`` accepts, or a dataset.

    Raises:
        InputError: the input is missing, damaged or of a wrong format, or is a dataset with other
            jet settings than the run's.
    """
    if path.is_dir():
        dataset = read_dataset(path)
        dataset.require_events()
        check_jets(run, dataset)
        n_events, fingerprint = dataset.n_events, {"dataset": dataset.digest}
        opened: EventFile | Dataset = dataset
    else:
        opened = open_event_file(path, config)
        n_events = opened.n_events
        fingerprint = {"file": path.name, "sha256": file_digest(path)}
        fingerprint |= {"preprocess": config.model_dump_json(include=_CONTENT)}
    size = config.chunk_size
    parts = (Part(start, min(start + size, n_events)) for start in range(0, n_events, size))
    return ScoredInput(opened, tuple(parts), dict(fingerprint))


def _read_dataset(
    dataset: Dataset, names: Sequence[str], parts: Sequence[Part], size: int
) -> Generator[tuple[Part, InputRows], None, None]:
    wanted = {part.start: part for part in parts}
    start = 0
    for table in dataset.batches(names, size):
        if start in wanted:
            columns = (table.event_id, table.source.tolist(), table.label, table.weight)
            yield wanted[start], InputRows(table.features, *columns)
        start += len(table)


def _read_file(
    file: EventFile, names: Sequence[str], parts: Sequence[Part], config: PreprocessConfig
) -> Generator[tuple[Part, InputRows], None, None]:
    wanted = {part.start: part for part in parts}
    chunks = [chunk for chunk in make_chunks([file], config.chunk_size) if chunk.start in wanted]
    # Further features of a table are computed quickly; only clustering needs several processes.
    results = run_tasks(
        functools.partial(process_chunk, config=config),
        chunks,
        kind="serial" if isinstance(file, FeatureFile) else config.executor,
        workers=config.workers,
        ordered=True,
        retry=Retry(config.retries, config.chunk_timeout),
        scheduler=config.dask_scheduler,
    )
    with closing(results):
        for chunk, result in results:
            yield wanted[chunk.start], _rows_of_chunk(chunk, result, names)


def _rows_of_chunk(chunk: Chunk, result: ChunkResult, names: Sequence[str]) -> InputRows:
    label = np.nan_to_num(result.rows["label_raw"], nan=UNKNOWN)
    n_events = len(label)
    return InputRows(
        features=np.stack([result.features[name] for name in names], axis=1),
        event_id=result.rows["event_id"],
        source=[chunk.file.path.stem] * n_events,
        label=np.sign(label).astype(np.int8),
        weight=result.rows["weight"],
    )
