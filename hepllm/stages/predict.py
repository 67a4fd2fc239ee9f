"""``hepllm predict``: scores of any supported input in a file, chunk by chunk.

Scored chunks lie in ``<output>.partial`` until all are there; a run that was stopped goes on with
those that are missing. The file appears under its own name only when it is complete. Of the
input, one chunk at a time is in memory, beside what its reader needs.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from hepllm.arrays import Floats, Ints, Labels
from hepllm.baselines.boosting import BOOSTING
from hepllm.config import Config, EvaluationConfig, PreprocessConfig
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.data.work_folder import WorkFolder
from hepllm.errors import InputError, RunError
from hepllm.evaluation.probabilities import Prior, choose_prior
from hepllm.executor import Retry, run_tasks
from hepllm.files import file_digest
from hepllm.learning.checkpoint import best_checkpoint
from hepllm.logs import progress_bar
from hepllm.model.inputs import ModelInputs
from hepllm.model.prompts import read_event
from hepllm.physics.chunks import Chunk, ChunkResult, make_chunks, process_chunk
from hepllm.physics.readers import EventFile, open_event_file
from hepllm.physics.readers.features import FeatureFile
from hepllm.runs.folder import Run
from hepllm.runs.predictor import Predictor
from hepllm.runs.samples import check_jets
from hepllm.runs.score_files import CASCADED, SUFFIXES, ScoreWriter
from hepllm.schema import UNKNOWN

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """A file of scores that was made.

    Attributes:
        path: where.
        n_events: rows in it.
        n_scored: events that this run scored; fewer when it resumed another.
        seconds: wall-clock time of this run.
        prior: what the probabilities assume, in words.
        n_kept: events in it that a cascade left to the model; None without one.
    """

    path: Path
    n_events: int
    n_scored: int
    seconds: float
    prior: str
    n_kept: int | None = None


@dataclass(frozen=True)
class _Part:
    """Rows of the input, start included and stop not."""

    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.start:012d}-{self.stop:012d}"


@dataclass(frozen=True, eq=False)
class _Rows:
    """Events on their way to the model; (N, F) features, all else of length N."""

    features: Floats
    event_id: Ints
    source: list[str]
    label: Labels
    weight: Floats

    def __len__(self) -> int:
        return len(self.event_id)


@dataclass(frozen=True)
class _Source:
    """An input that can be scored piece by piece."""

    content: EventFile | Dataset
    parts: tuple[_Part, ...]
    fingerprint: dict[str, object]


def prediction_config(run: Run) -> Config:
    """The run's configuration, whose section ``preprocess`` is that of its training dataset.

    Where the dataset is gone, as on another machine, the section is that of the run, with a
    warning.
    """
    section = run.config.preprocess.model_dump() | {"select": None}
    try:
        section |= run.dataset().manifest.config["preprocess"] | {"select": None}
    except InputError as error:
        LOG.warning("%s; jets are taken from %s/config.yaml", error, run.folder)
    settings = PreprocessConfig.model_validate(section)
    return run.config.model_copy(update={"preprocess": settings})


def predict(
    predictor: Predictor, source: Path, output: Path, config: Config, *, overwrite: bool = False
) -> Prediction:
    """Scores all events of an input.

    Args:
        predictor: a loaded run.
        source: an event file as ``preprocess`` takes it, a feature table, or a dataset.
        output: ``.parquet``, ``.csv`` or ``.root``.
        config: ``preprocess`` says how the input is read, ``evaluation`` which prior is meant.
        overwrite: replace an output, and discard an unfinished one.

    Raises:
        InputError: the input cannot be read or lacks the model's features, or the output exists.
        ChunkError: a worker failed; scored chunks are kept for the next run.
        RunError: the output cannot be written.
    """
    _check_output(output, overwrite)
    opened = _open(predictor, source, config.preprocess)
    started = time.monotonic()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with WorkFolder(output, opened.fingerprint, overwrite) as work:
            n_scored = _score_parts(predictor, opened, config.preprocess, work)
            prior = _choose_prior(predictor, config.evaluation, config.seed, work, opened.parts)
            n_events, n_kept = _assemble(predictor, prior, work, opened.parts, output)
    except OSError as error:
        raise RunError(
            f"{error.filename or output}: cannot be written: {error.strerror or error}"
        ) from None
    seconds = time.monotonic() - started
    return Prediction(output, n_events, n_scored, seconds, prior.name, n_kept)


def predict_texts(
    predictor: Predictor, texts: Sequence[str], prior: float | str
) -> list[tuple[float, float]]:
    """Score and probability of events that are written as prompts.

    Args:
        predictor: a loaded run.
        texts: the events.
        prior: signal fraction that the probability assumes, as ``evaluation.prior`` states it.

    Raises:
        InputError: as for ``rows_of_texts``, or where a prior is to be estimated from them.
    """
    if prior == "estimate":
        raise InputError("a prior cannot be estimated from pasted events; state one")
    scores = predictor.score(ModelInputs(rows_of_texts(texts, predictor.names)))
    fraction = prior if isinstance(prior, float) else None
    probabilities = predictor.probability(scores, fraction)
    return list(zip(scores.tolist(), probabilities.tolist(), strict=True))


def rows_of_texts(texts: Sequence[str], names: Sequence[str]) -> Floats:
    """Feature rows of events that are written as prompts, shape (N, F).

    Args:
        texts: prompts of any layout, as ``hepllm.model.prompts.render`` writes them.
        names: the F features; NaN where a text lacks one.

    Raises:
        InputError: for a text without any of these features, or with an impossible value.
    """
    rows = np.full((len(texts), len(names)), np.nan)
    for row, text in zip(rows, texts, strict=True):
        try:
            event = read_event(text)
        except ValueError as error:
            raise InputError(str(error)) from None
        missing = [name for name in names if name not in event]
        if len(missing) == len(names):
            raise InputError(f"the text names {', '.join(event)}, but none of the model's features")
        if not any(np.isfinite(event[name]) for name in names if name in event):
            raise InputError("the text gives none of the model's features a value")
        if missing:
            LOG.warning("not in the text, so taken as missing: %s", ", ".join(missing))
        row[:] = [event.get(name, np.nan) for name in names]
    return rows


def _check_output(output: Path, overwrite: bool) -> None:
    if output.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{output}: the ending says how scores are written: one of {', '.join(SUFFIXES)}"
        )
    if output.is_dir() or (output.exists() and not overwrite):
        hint = "is a folder" if output.is_dir() else "exists; give --overwrite to replace it"
        raise InputError(f"{output}: {hint}")


def _open(predictor: Predictor, source: Path, config: PreprocessConfig) -> _Source:
    """Opens the input and says what its scores depend on."""
    run = predictor.run
    checkpoint = best_checkpoint(run.checkpoints)
    digest = hashlib.sha256()
    for file in sorted(checkpoint.glob("*.safetensors")):
        if not file.name.startswith("optimizer"):
            digest.update(file_digest(file).encode())
    model = {"weights": digest.hexdigest(), "chunk_size": config.chunk_size}
    if predictor.cascade is not None:
        model["cascade"] = repr(predictor.cascade.cut)
    if source.is_dir():
        dataset = read_dataset(source)
        dataset.require_events()
        check_jets(run, dataset)
        n_events, content = dataset.n_events, {"dataset": dataset.digest}
        opened: EventFile | Dataset = dataset
    else:
        opened = open_event_file(source, config)
        n_events = opened.n_events
        content = {"file": source.name, "sha256": file_digest(source)}
        content |= {"preprocess": config.model_dump_json(include=_CONTENT)}
    size = config.chunk_size
    parts = (_Part(start, min(start + size, n_events)) for start in range(0, n_events, size))
    return _Source(opened, tuple(parts), model | content)


_CONTENT = {"format", "label", "weight", "energy_unit", "columns", "root", "jets", "on_bad_event"}


def _score_parts(
    predictor: Predictor, source: _Source, config: PreprocessConfig, work: WorkFolder
) -> int:
    """Scores what is not scored yet; returns the number of events."""
    missing = [part for part in source.parts if work.cut_flow(str(part)) is None]
    total = source.parts[-1].stop if source.parts else 0
    n_missing = sum(part.stop - part.start for part in missing)
    if n_missing < total:
        LOG.info("%s: goes on with %d of %d events", work.folder, n_missing, total)
    chunks = _read(predictor, source.content, missing, config)
    n_scored = 0
    bar = progress_bar(total, "predict", initial=total - n_missing)
    with closing(chunks), bar as progress:
        for part, table in chunks:
            if not n_scored:
                _check_features(predictor, table, part)
            columns = {
                "event_id": table.event_id,
                "source": pa.array(table.source, pa.string()),
                "label": table.label,
                "weight": table.weight,
                "score": predictor.score(ModelInputs(table.features)),
            }
            if predictor.cascade is not None:
                columns[BOOSTING] = predictor.cascade.boosting.score(table.features)
            work.save(str(part), pa.table(columns), [("scored", len(table))])
            n_scored += len(table)
            progress.update(part.stop - part.start)
    return n_scored


def _check_features(predictor: Predictor, table: _Rows, part: _Part) -> None:
    """Tells of features that no event of the first piece has."""
    absent = np.flatnonzero(np.isnan(table.features).all(axis=0))
    names = [predictor.names[column] for column in absent]
    if len(table) and len(names) == len(predictor.names):
        raise InputError(
            f"rows {part.start}-{part.stop - 1} have none of the model's features "
            f"{', '.join(names)}; say which column holds what in preprocess.columns"
        )
    if len(table) and names:
        LOG.warning("missing in all of the first %d events: %s", len(table), ", ".join(names))


def _read(
    predictor: Predictor,
    content: EventFile | Dataset,
    parts: Sequence[_Part],
    config: PreprocessConfig,
) -> Generator[tuple[_Part, _Rows], None, None]:
    if isinstance(content, Dataset):
        return _read_dataset(predictor, content, parts, config)
    return _read_file(predictor, content, parts, config)


def _read_dataset(
    predictor: Predictor, dataset: Dataset, parts: Sequence[_Part], config: PreprocessConfig
) -> Generator[tuple[_Part, _Rows], None, None]:
    wanted = {part.start: part for part in parts}
    start = 0
    for table in dataset.batches(predictor.names, config.chunk_size):
        if start in wanted:
            yield (
                wanted[start],
                _Rows(
                    table.features, table.event_id, table.source.tolist(), table.label, table.weight
                ),
            )
        start += len(table)


def _read_file(
    predictor: Predictor, file: EventFile, parts: Sequence[_Part], config: PreprocessConfig
) -> Generator[tuple[_Part, _Rows], None, None]:
    wanted = {part.start: part for part in parts}
    chunks = [chunk for chunk in make_chunks([file], config.chunk_size) if chunk.start in wanted]
    # What a table's features imply is quickly found; only clustering is worth processes.
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
            yield wanted[chunk.start], _rows_of_chunk(chunk, result, predictor.names)


def _rows_of_chunk(chunk: Chunk, result: ChunkResult, names: Sequence[str]) -> _Rows:
    label = np.nan_to_num(result.rows["label_raw"], nan=UNKNOWN)
    n_events = len(label)
    return _Rows(
        features=np.stack([result.features[name] for name in names], axis=1),
        event_id=result.rows["event_id"],
        source=[chunk.file.path.stem] * n_events,
        label=np.sign(label).astype(np.int8),
        weight=result.rows["weight"],
    )


def _choose_prior(
    predictor: Predictor,
    config: EvaluationConfig,
    seed: int,
    work: WorkFolder,
    parts: Sequence[_Part],
) -> Prior:
    score = weight = np.empty(0)
    used, column = predictor.calibration, "score"
    if predictor.cascade is not None:
        used, column = predictor.cascade.prior_calibration, BOOSTING
    if config.prior == "estimate":
        tables = [work.load(str(part)).select([column, "weight"]) for part in parts]
        whole = pa.concat_tables(tables)
        score, weight = whole[column].to_numpy(), whole["weight"].to_numpy()
    return choose_prior(
        config,
        predictor.run.config.train.balance,
        used.map,
        used.validation,
        (score, weight),
        seed=seed,
    )


def _assemble(
    predictor: Predictor, prior: Prior, work: WorkFolder, parts: Sequence[_Part], output: Path
) -> tuple[int, int | None]:
    """Writes the file from its pieces and puts it in place; returns its events and those kept."""
    aside = work.result / output.name
    cascade = predictor.cascade
    n_events = n_cascaded = 0
    with ScoreWriter(aside, prior.name, cascade is not None) as writer:
        for part in parts:
            table = work.load(str(part))
            score = table["score"].to_numpy()
            probability = predictor.probability(score, prior.fraction)
            table = table.append_column("probability", pa.array(probability))
            if cascade is not None:
                cascaded = cascade.cut.is_cascaded(score)
                n_cascaded += int(np.count_nonzero(cascaded))
                table = table.append_column(CASCADED, pa.array(cascaded))
            writer.write(table)
            n_events += table.num_rows
    work.publish_file()
    return n_events, None if cascade is None else n_events - n_cascaded
