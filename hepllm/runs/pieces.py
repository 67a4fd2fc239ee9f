"""Scores events in pieces, which are kept as soon as they are done: in this process or in workers.

A piece and its batches are the same whoever scores it, so the scores do not depend on the number
of workers. A command that was stopped goes on with the pieces that are missing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch

from hepllm.arrays import Bools
from hepllm.config import ScoringConfig
from hepllm.data.work_folder import Parts, WorkFolder
from hepllm.errors import InputError, RunError
from hepllm.executor import Retry, run_tasks, usable_cores
from hepllm.files import write_errors
from hepllm.host import available_memory
from hepllm.logs import progress_bar
from hepllm.model.inputs import ModelInputs
from hepllm.runs.run_model import RunModel
from hepllm.runs.scoring_workers import choose_workers

LOG = logging.getLogger(__name__)

_SCORED, _MICROSECONDS = "scored", "microseconds"
"""What a finished part records: its events, and how long they took."""


@dataclass(frozen=True)
class Part:
    """Rows of the input from ``start`` to ``stop``, which is excluded."""

    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.start:012d}-{self.stop:012d}"

    def __len__(self) -> int:
        return self.stop - self.start


def cut_parts(n_rows: int, size: int) -> tuple[Part, ...]:
    """Cuts rows into parts of at most ``size``."""
    return tuple(Part(start, min(start + size, n_rows)) for start in range(0, n_rows, size))


@dataclass(frozen=True, eq=False)
class Piece:
    """N events to be scored together.

    Attributes:
        part: their rows.
        inputs: their inputs; fewer than the rows where a selection left some out.
        columns: (N,) further columns to be kept with the scores.
    """

    part: Part
    inputs: ModelInputs
    columns: Mapping[str, Any]

    def __str__(self) -> str:
        return f"events {self.part.start}-{self.part.stop - 1}"

    def read(self, names: Sequence[str]) -> Piece:
        """Returns itself, since it is read already."""
        del names
        return self


class Readable(Protocol):
    """A piece, or what a worker makes a piece of."""

    @property
    def part(self) -> Part:
        """Its rows."""
        ...

    def read(self, names: Sequence[str]) -> Piece:
        """Reads the features ``names`` of its events."""
        ...


class PieceSource(Protocol):
    """Where pieces come from."""

    def pieces(
        self, names: Sequence[str], parts: Sequence[Part], *, in_workers: bool
    ) -> Generator[Readable, None, None]:
        """Yields some parts with the features ``names``.

        With ``in_workers``, what takes long to read is left to the workers that score.
        """
        ...


@dataclass(frozen=True, eq=False)
class TableSource:
    """Events in memory."""

    inputs: ModelInputs

    def pieces(
        self, names: Sequence[str], parts: Sequence[Part], *, in_workers: bool
    ) -> Generator[Readable, None, None]:
        """Yields some parts; there is nothing to be read."""
        del names, in_workers
        for part in parts:
            yield Piece(part, self.inputs.take(slice(part.start, part.stop)), {})


class ColumnScorer(Protocol):
    """What computes the columns of a piece, here or in a worker."""

    @property
    def model(self) -> RunModel:
        """The model of a run."""
        ...

    def columns(self, inputs: ModelInputs) -> Mapping[str, Any]:
        """Values of N events by column, (N,) each."""
        ...


@dataclass(frozen=True, eq=False)
class PieceTask:
    """What is done with each piece; picklable.

    Attributes:
        scorer: computes the scores.
        parts: where finished pieces are kept.
        first: the first part of all that are missing. If none of its events has a feature, the
            input is refused, because its columns have other names.
    """

    scorer: ColumnScorer
    parts: Parts
    first: Part

    def __call__(self, item: Readable) -> tuple[str, ...]:
        """Scores a piece and keeps it; returns the features that none of its events has.

        Raises:
            InputError: if the piece cannot be read, or is the first and has no features at all.
            RunError: if the part cannot be written.
        """
        started = time.perf_counter()
        names = self.scorer.model.run.config.train.feature_names()
        piece = item.read(names)
        missing: Bools = np.logical_and.reduce(np.isnan(piece.inputs.numbers))
        if piece.part == self.first and len(piece.inputs) and missing.all():
            raise InputError(
                f"rows {piece.part.start}-{piece.part.stop - 1} have none of the model's features "
                f"{', '.join(names)}; name their columns in preprocess.columns"
            )
        jets = piece.inputs.particles
        if jets is not None and len(jets) and np.isnan(jets[:, :, 1:]).all():
            raise InputError(
                f"rows {piece.part.start}-{piece.part.stop - 1} have no particles, which the model "
                "reads besides features; score a file with particles"
            )
        columns = {**piece.columns, **self.scorer.columns(piece.inputs)}
        microseconds = round(1e6 * (time.perf_counter() - started))
        self._save(piece, pa.table(columns), microseconds)
        return tuple(name for name, is_missing in zip(names, missing, strict=True) if is_missing)

    def _save(self, piece: Piece, table: pa.Table, microseconds: int) -> None:
        flow = [(_SCORED, len(piece.inputs)), (_MICROSECONDS, microseconds)]
        with write_errors(self.parts.folder):
            try:
                self.parts.save(str(piece.part), table, flow)
            except FileNotFoundError:
                raise RunError(
                    f"{self.parts.folder}: does not exist; workers on other machines must share "
                    "this folder"
                ) from None


@dataclass(frozen=True)
class Progress:
    """What one call scored.

    Attributes:
        n_scored: events that it scored.
        seconds: its time for them.
    """

    n_scored: int
    seconds: float


def score_missing(
    source: PieceSource,
    parts: Sequence[Part],
    scorer: ColumnScorer,
    work: WorkFolder,
    settings: ScoringConfig,
    *,
    threads: int = 1,
    description: str = "score",
    tells_missing: bool = False,
) -> Progress:
    """Scores the parts that are not scored yet.

    Args:
        source: where the events come from.
        parts: all parts.
        scorer: computes the scores.
        work: folder that keeps the finished parts.
        settings: where pieces are scored.
        threads: threads of torch where this process scores alone.
        description: text of the progress bar.
        tells_missing: warn of features that no event of the first part has.

    Raises:
        InputError: if the input is damaged, or has none of the model's features.
        ChunkError: if a worker failed; finished parts are kept for the next call.
        RunError: if a part cannot be written.
    """
    missing = [part for part in parts if work.parts.cut_flow(str(part)) is None]
    total, left = sum(map(len, parts)), sum(map(len, missing))
    if left < total:
        LOG.info("%s: continues with %d of %d events", work.folder, left, total)
    if not missing:
        return Progress(0, 0.0)
    started, n_scored = time.perf_counter(), 0
    task = PieceTask(scorer, work.parts, missing[0])
    done = _do(source, missing, task, settings, threads)
    with closing(done), progress_bar(total, description, initial=total - left) as bar:
        for part, absent in done:
            if tells_missing and part == task.first and absent:
                LOG.warning(
                    "missing in all of the first %d events: %s", len(part), ", ".join(absent)
                )
            n_scored += dict(work.parts.cut_flow(str(part)) or ()).get(_SCORED, 0)
            bar.update(len(part))
    return Progress(n_scored, time.perf_counter() - started)


def seconds_of_parts(work: WorkFolder, parts: Sequence[Part]) -> float:
    """Returns the time that all parts took together, one after another."""
    flows = (dict(work.parts.cut_flow(str(part)) or ()) for part in parts)
    return sum(flow.get(_MICROSECONDS, 0) for flow in flows) / 1e6


_Done = Generator[tuple[Part, tuple[str, ...]], None, None]


def _do(
    source: PieceSource,
    missing: Sequence[Part],
    task: PieceTask,
    settings: ScoringConfig,
    threads: int,
) -> _Done:
    """Scores parts where the settings say, or where it ends soonest."""
    if settings.executor == "dask":
        yield from _in_workers(source, missing, task, settings, settings.workers)
        return
    workers, model = settings.workers, task.scorer.model
    if settings.executor == "serial" or model.device.type != "cpu":
        workers = 1
    rest = missing
    if not workers and len(missing) > 1 and usable_cores() > 1:
        first, rest = missing[:1], missing[1:]
        weights, started = model.n_bytes, time.perf_counter()  # loads the model before
        yield from _here(source, first, task, 1)
        rate = (time.perf_counter() - started) / len(first[0])
        workers = choose_workers(
            len(rest),
            sum(map(len, rest)) * rate,
            weights,
            threads=threads,
            cores=usable_cores(),
            free=available_memory(),
        )
    if workers > 1:
        yield from _in_workers(source, rest, task, settings, workers)
    else:
        yield from _here(source, rest, task, threads)


def _here(source: PieceSource, parts: Sequence[Part], task: PieceTask, threads: int) -> _Done:
    """Scores parts in this process, one after another."""
    names = task.scorer.model.run.config.train.feature_names()
    with closing(source.pieces(names, parts, in_workers=False)) as pieces:
        for piece in pieces:
            with _torch_threads(threads):
                absent = task(piece)
            yield piece.part, absent


def _in_workers(
    source: PieceSource,
    parts: Sequence[Part],
    task: PieceTask,
    settings: ScoringConfig,
    workers: int,
) -> _Done:
    """Scores parts in worker processes, or on a Dask cluster."""
    LOG.info("scoring in %s", f"{workers} processes" if workers else "workers of a Dask cluster")
    names = task.scorer.model.run.config.train.feature_names()
    results = run_tasks(
        task,
        source.pieces(names, parts, in_workers=True),
        kind=settings.executor,
        workers=workers,
        retry=Retry(settings.retries, settings.piece_timeout),
        scheduler=settings.dask_scheduler,
    )
    with closing(results):
        for piece, absent in results:
            yield piece.part, absent


@contextmanager
def _torch_threads(threads: int) -> Generator[None, None, None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
