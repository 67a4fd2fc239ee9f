"""``hepllm predict``: scores of any supported input in a file, chunk by chunk.

Scored chunks lie in ``<output>.partial`` until all are there; a run that was stopped goes on with
those that are missing. The file appears under its own name only when it is complete. Of the
input, one chunk at a time is in memory, beside what its reader needs.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from hepllm.arrays import Floats
from hepllm.baselines.boosting import BOOSTING
from hepllm.config import Config, EvaluationConfig, PreprocessConfig
from hepllm.data.work_folder import WorkFolder
from hepllm.errors import InputError, RunError
from hepllm.evaluation.probabilities import Prior, choose_prior
from hepllm.files import file_digest
from hepllm.learning.checkpoint import best_checkpoint
from hepllm.logs import progress_bar
from hepllm.model.inputs import ModelInputs
from hepllm.model.prompts import read_event
from hepllm.runs.folder import Run
from hepllm.runs.predictor import Predictor
from hepllm.runs.score_files import CASCADED, SUFFIXES, ScoreWriter
from hepllm.runs.scored_input import InputRows, Part, ScoredInput, open_input

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
    opened = open_input(predictor.run, source, config.preprocess)
    fingerprint = _fingerprint(predictor, opened, config.preprocess.chunk_size)
    started = time.monotonic()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with WorkFolder(output, fingerprint, overwrite) as work:
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


def _fingerprint(predictor: Predictor, opened: ScoredInput, chunk_size: int) -> dict[str, object]:
    """What unfinished work must have in common with a run that takes it up."""
    digest = hashlib.sha256()
    for file in sorted(best_checkpoint(predictor.run.checkpoints).glob("*.safetensors")):
        if not file.name.startswith("optimizer"):
            digest.update(file_digest(file).encode())
    model: dict[str, object] = {"weights": digest.hexdigest(), "chunk_size": chunk_size}
    if predictor.cascade is not None:
        model["cascade"] = repr(predictor.cascade.cut)
    return model | opened.fingerprint


def _score_parts(
    predictor: Predictor, source: ScoredInput, config: PreprocessConfig, work: WorkFolder
) -> int:
    """Scores what is not scored yet; returns the number of events."""
    missing = [part for part in source.parts if work.cut_flow(str(part)) is None]
    total = source.parts[-1].stop if source.parts else 0
    n_missing = sum(part.stop - part.start for part in missing)
    if n_missing < total:
        LOG.info("%s: goes on with %d of %d events", work.folder, n_missing, total)
    chunks = source.read(predictor.names, missing, config)
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


def _check_features(predictor: Predictor, table: InputRows, part: Part) -> None:
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


def _choose_prior(
    predictor: Predictor,
    config: EvaluationConfig,
    seed: int,
    work: WorkFolder,
    parts: Sequence[Part],
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
    predictor: Predictor, prior: Prior, work: WorkFolder, parts: Sequence[Part], output: Path
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
