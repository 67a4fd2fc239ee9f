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
from hepllm.errors import InputError, nearest_name
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
from hepllm.schema import UNKNOWN, dataset_features

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
        keep: features that are kept beside the scores.
    """

    part: Part
    chunk: Chunk
    config: PreprocessConfig
    keep: tuple[str, ...] = ()

    def __str__(self) -> str:
        return str(self.chunk)

    def read(self, names: Sequence[str]) -> Piece:
        """Reads the features ``names`` of its events.

        Raises:
            InputError: the file is damaged or has bad events that are not to be skipped.
        """
        result = process_chunk(self.chunk, self.config)
        return _piece_of_chunk(self.part, self.chunk, result, names, self.config, keep=self.keep)


@dataclass(frozen=True)
class ScoredInput:
    """An input that is read and scored in parts.

    Attributes:
        content: the opened file or dataset.
        parts: its rows, at most ``chunk_size`` in each.
        fingerprint: digest and settings that determine its events.
        config: settings for reading.
        keep: features that are kept beside the scores.
    """

    content: EventFile | Dataset
    parts: tuple[Part, ...]
    fingerprint: dict[str, object]
    config: PreprocessConfig
    keep: tuple[str, ...] = ()

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
            return _of_dataset(self.content, names, parts, self.config, self.keep)
        if in_workers:
            return _unread(self.content, parts, self.config, self.keep)
        return _of_file(self.content, names, parts, self.config, self.keep)


def open_input(
    run: Run, path: Path, config: PreprocessConfig, keep: Sequence[str] = ()
) -> ScoredInput:
    """Opens an event file or feature table that ``preprocess`` accepts, or a dataset.

    Args:
        run: the run that scores its events.
        path: the input.
        config: settings for reading.
        keep: features that are kept beside the scores.

    Raises:
        InputError: the input is missing, damaged or of a wrong format, or is a dataset with other
            jet settings than the run's, or a feature that is to be kept does not exist.
    """
    config = config.model_copy(update={"particles_per_jet": run.config.fusion.constituents})
    if path.is_dir():
        dataset = run.known(read_dataset(path))
        dataset.require_events()
        check_jets(run, dataset)
        n_events, fingerprint = dataset.n_events, {"dataset": dataset.digest}
        opened: EventFile | Dataset = dataset
        known: Sequence[str] = dataset.manifest.features
    else:
        opened = open_event_file(path, config)
        n_events = opened.n_events
        known = dataset_features(config.extended)
        fingerprint = {"file": path.name, "sha256": file_digest(path)}
        fingerprint |= {"preprocess": config.model_dump_json(include=_CONTENT)}
    keep = tuple(dict.fromkeys(keep))
    for name in keep:
        if name not in known:
            raise InputError(f"--keep: {path} has no feature '{name}'{nearest_name(name, known)}")
    stated: dict[str, object] = {**fingerprint, **({"keep": list(keep)} if keep else {})}
    return ScoredInput(opened, cut_parts(n_events, config.chunk_size), stated, config, keep)


def _of_dataset(
    dataset: Dataset,
    names: Sequence[str],
    parts: Sequence[Part],
    config: PreprocessConfig,
    keep: Sequence[str],
) -> Generator[Readable, None, None]:
    wanted = {part.start: part for part in parts}
    start = 0
    constituents = config.particles_per_jet
    wanted_names = tuple(dict.fromkeys((*names, *keep)))
    for table in dataset.batches(wanted_names, config.chunk_size, particles=constituents):
        if start in wanted:
            columns = {
                "event_id": table.event_id,
                "source": pa.array(table.source, pa.string()),
                "label": table.label,
                "weight": table.weight,
                **{name: table.column(name) for name in keep},
            }
            yield Piece(wanted[start], model_inputs(table, names), columns)
        start += len(table)


def _unread(
    file: EventFile, parts: Sequence[Part], config: PreprocessConfig, keep: tuple[str, ...]
) -> Generator[Readable, None, None]:
    for part in parts:
        yield UnreadPiece(part, Chunk(file, part.start, part.stop), config, keep)


def _of_file(
    file: EventFile,
    names: Sequence[str],
    parts: Sequence[Part],
    config: PreprocessConfig,
    keep: Sequence[str],
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
            yield _piece_of_chunk(wanted[chunk.start], chunk, result, names, config, keep=keep)


def _piece_of_chunk(
    part: Part,
    chunk: Chunk,
    result: ChunkResult,
    names: Sequence[str],
    config: PreprocessConfig,
    *,
    keep: Sequence[str],
) -> Piece:
    label = np.nan_to_num(result.rows["label_raw"], nan=UNKNOWN)
    columns = {
        "event_id": result.rows["event_id"],
        "source": pa.array([as_text(chunk.file.path.stem)] * len(label), pa.string()),
        "label": np.sign(label).astype(np.int8),
        "weight": result.rows["weight"],
        **{name: result.features[name] for name in keep},
    }
    features = np.stack([result.features[name] for name in names], axis=1)
    jets = None
    if result.particles is not None:
        jets = leading_jets(result.particles, result.features, config.particles_per_jet)
    return Piece(part, ModelInputs(features, jets), columns)
