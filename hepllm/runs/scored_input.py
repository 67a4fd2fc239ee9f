"""An input of ``hepllm predict``, read in parts: an event file, a feature table or a dataset."""

from __future__ import annotations

import functools
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from hepllm.config import PreprocessConfig
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.data.particles import leading_jets
from hepllm.executor import Retry, run_tasks
from hepllm.files import as_text, file_digest
from hepllm.learning.inputs import model_inputs
from hepllm.model.inputs import ModelInputs
from hepllm.physics.chunks import Chunk, ChunkResult, process_chunk
from hepllm.physics.readers import EventFile, open_event_file
from hepllm.physics.readers.features import FeatureFile
from hepllm.runs.folder import Run
from hepllm.runs.pieces import Part, Piece, Readable, cut_parts
from hepllm.runs.samples import check_jets
from hepllm.schema import UNKNOWN

_CONTENT = {
    *("format", "label", "weight", "energy_unit", "angle_unit", "columns", "root", "jets"),
    *("on_bad_event", "observers", "new_variables"),
}
"""Settings of the section ``preprocess`` that change what is read from an event file."""


@dataclass(frozen=True)
class UnreadPiece:
    """Rows of an event file, which the worker that scores them reads and clusters.

    Attributes:
        part: the rows.
        chunk: the rows, with their file.
        config: settings for reading.
    """

    part: Part
    chunk: Chunk
    config: PreprocessConfig

    def __str__(self) -> str:
        return str(self.chunk)

    def read(self, names: Sequence[str]) -> Piece:
        """Reads the features ``names`` of its events.

        Raises:
            InputError: the file is damaged or has bad events that are not to be skipped.
        """
        result = process_chunk(self.chunk, self.config)
        return _piece_of_chunk(self.part, self.chunk, result, names, self.config)


@dataclass(frozen=True)
class ScoredInput:
    """An input that is read and scored in parts.

    Attributes:
        content: the opened file or dataset.
        parts: its rows, at most ``chunk_size`` in each.
        fingerprint: digest and settings that determine its events.
        config: settings for reading.
    """

    content: EventFile | Dataset
    parts: tuple[Part, ...]
    fingerprint: dict[str, object]
    config: PreprocessConfig

    def pieces(
        self, names: Sequence[str], parts: Sequence[Part], *, in_workers: bool
    ) -> Generator[Readable, None, None]:
        """Yields some of the parts, in order, with the features ``names``.

        With ``in_workers``, the events of a file are left to be read.

        Raises:
            InputError: the input is damaged or has bad events that are not to be skipped.
            ChunkError: a worker failed.
        """
        if isinstance(self.content, Dataset):
            return _of_dataset(self.content, names, parts, self.config)
        if in_workers:
            return _unread(self.content, parts, self.config)
        return _of_file(self.content, names, parts, self.config)


def open_input(run: Run, path: Path, config: PreprocessConfig) -> ScoredInput:
    """Opens an event file or feature table that ``preprocess`` accepts, or a dataset.

    Raises:
        InputError: the input is missing, damaged or of a wrong format, or is a dataset with other
            jet settings than the run's.
    """
    config = config.model_copy(update={"particles_per_jet": run.config.fusion.constituents})
    if path.is_dir():
        dataset = run.known(read_dataset(path))
        dataset.require_events()
        check_jets(run, dataset)
        n_events, fingerprint = dataset.n_events, {"dataset": dataset.digest}
        opened: EventFile | Dataset = dataset
    else:
        opened = open_event_file(path, config)
        n_events = opened.n_events
        fingerprint = {"file": path.name, "sha256": file_digest(path)}
        fingerprint |= {"preprocess": config.model_dump_json(include=_CONTENT)}
    return ScoredInput(opened, cut_parts(n_events, config.chunk_size), dict(fingerprint), config)


def _of_dataset(
    dataset: Dataset, names: Sequence[str], parts: Sequence[Part], config: PreprocessConfig
) -> Generator[Readable, None, None]:
    wanted = {part.start: part for part in parts}
    start = 0
    constituents = config.particles_per_jet
    for table in dataset.batches(names, config.chunk_size, particles=constituents):
        if start in wanted:
            columns = {
                "event_id": table.event_id,
                "source": pa.array(table.source, pa.string()),
                "label": table.label,
                "weight": table.weight,
            }
            yield Piece(wanted[start], model_inputs(table), columns)
        start += len(table)


def _unread(
    file: EventFile, parts: Sequence[Part], config: PreprocessConfig
) -> Generator[Readable, None, None]:
    for part in parts:
        yield UnreadPiece(part, Chunk(file, part.start, part.stop), config)


def _of_file(
    file: EventFile, names: Sequence[str], parts: Sequence[Part], config: PreprocessConfig
) -> Generator[Readable, None, None]:
    wanted = {part.start: part for part in parts}
    # Further features of a table are computed quickly; only clustering needs several processes.
    results = run_tasks(
        functools.partial(process_chunk, config=config),
        [Chunk(file, part.start, part.stop) for part in parts],
        kind="serial" if isinstance(file, FeatureFile) or len(parts) == 1 else config.executor,
        workers=config.workers,
        ordered=True,
        retry=Retry(config.retries, config.chunk_timeout),
        scheduler=config.dask_scheduler,
    )
    with closing(results):
        for chunk, result in results:
            yield _piece_of_chunk(wanted[chunk.start], chunk, result, names, config)


def _piece_of_chunk(
    part: Part, chunk: Chunk, result: ChunkResult, names: Sequence[str], config: PreprocessConfig
) -> Piece:
    label = np.nan_to_num(result.rows["label_raw"], nan=UNKNOWN)
    columns = {
        "event_id": result.rows["event_id"],
        "source": pa.array([as_text(chunk.file.path.stem)] * len(label), pa.string()),
        "label": np.sign(label).astype(np.int8),
        "weight": result.rows["weight"],
    }
    features = np.stack([result.features[name] for name in names], axis=1)
    jets = None
    if result.particles is not None:
        jets = leading_jets(result.particles, result.features, config.particles_per_jet)
    return Piece(part, ModelInputs(features, jets), columns)
