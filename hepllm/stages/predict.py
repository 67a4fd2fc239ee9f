"""``hepllm predict``: scores any supported input in chunks and writes the scores to a file.

Scored chunks are in ``<output>.partial`` until all are done; a run that was stopped continues with
the missing ones. The file appears under its final name only when it is complete. One chunk of the
input per worker is in memory at a time, besides what its reader needs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from hepllm.arrays import Floats
from hepllm.baselines.boosting import BOOSTING
from hepllm.config import Config, EvaluationConfig, PreprocessConfig
from hepllm.data.dataset import Dataset, overlap
from hepllm.data.work_folder import Parts, WorkFolder, work_folder
from hepllm.errors import InputError
from hepllm.evaluation.probabilities import Prior, choose_prior
from hepllm.executor import resolve_threads
from hepllm.files import write_errors
from hepllm.model.inputs import ModelInputs
from hepllm.model.prompts import read_event
from hepllm.physics.first_look import report_first_rows
from hepllm.runs.folder import Run, tell_classes
from hepllm.runs.pieces import score_missing
from hepllm.runs.predictor import Predictor
from hepllm.runs.score_files import CASCADED, SUFFIXES, ScoreWriter, score_schema
from hepllm.runs.scored_input import ScoredInput, open_input

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """A new file of scores.

    Attributes:
        path: the file.
        n_events: its rows.
        n_scored: events that this run scored; fewer when it continued another.
        seconds: wall-clock time of this run.
        prior: prior of the probabilities, in words.
        n_kept: events that a cascade left to the model; None without a cascade.
    """

    path: Path
    n_events: int
    n_scored: int
    seconds: float
    prior: str
    n_kept: int | None = None


def prediction_config(run: Run) -> Config:
    """The run's configuration with the section ``preprocess`` of its training dataset.

    Without the dataset, as on another machine, the section is that of the run, with a warning.
    """
    section = run.config.preprocess.model_dump() | {"select": None}
    try:
        section |= run.dataset().manifest.config["preprocess"] | {"select": None}
    except InputError as error:
        LOG.warning("%s; jet settings are read from %s/config.yaml", error, run.folder)
    settings = PreprocessConfig.model_validate(section | run.own_columns())
    return run.config.model_copy(update={"preprocess": settings})


def predict(
    predictor: Predictor,
    source: Path,
    output: Path,
    config: Config,
    *,
    keep: Sequence[str] = (),
    overwrite: bool = False,
) -> Prediction:
    """Scores all events of an input.

    Args:
        predictor: a run.
        source: an event file or feature table that ``preprocess`` accepts, or a dataset.
        output: ``.parquet``, ``.csv`` or ``.root``.
        config: ``preprocess`` for reading the input, ``evaluation`` for the prior and for where
            events are scored.
        keep: features of the events that are written beside their scores.
        overwrite: replace an output, and discard an unfinished one.

    Raises:
        InputError: the input cannot be read or lacks the model's features, or the output exists.
        ChunkError: a worker failed; scored chunks are kept for the next run.
        RunError: the output cannot be written.
    """
    _check_output(output, overwrite)
    opened = open_input(predictor.run, source, config.preprocess, keep)
    _refuse_own_box(predictor.run, opened, source)
    if not isinstance(opened.content, Dataset):
        report_first_rows(opened.content, opened.config)
    fingerprint = _fingerprint(predictor, opened)
    started = time.monotonic()
    with write_errors(output, "choose another --output"):
        output.parent.mkdir(parents=True, exist_ok=True)
        with work_folder(output, fingerprint, overwrite) as work:
            done = score_missing(
                opened,
                opened.parts,
                predictor.scorer,
                work,
                config.evaluation.scoring,
                threads=resolve_threads(config.train.threads),
                description="predict",
                tells_missing=True,
            )
            tables = [str(part) for part in opened.parts]
            prior = _choose_prior(predictor, config.evaluation, work.parts, tables)
            schema = score_schema(
                prior.name,
                predictor.cascade is not None,
                predictor.run.question.text,
                opened.keep,
                spread=predictor.run.is_ensemble,
            )
            file = work.result / work.output.name
            with ScoreWriter(file, output.suffix, schema) as writer:
                n_events, n_kept = _assemble(predictor, prior, work, tables, writer)
            work.publish_file()
    seconds = time.monotonic() - started
    return Prediction(output, n_events, done.n_scored, seconds, prior.name, n_kept)


def predict_texts(
    predictor: Predictor, texts: Sequence[str], prior: float | str
) -> list[tuple[float, float]]:
    """Scores and probabilities of prompts, with a prior as in ``evaluation.prior``.

    Raises:
        InputError: as for ``rows_of_texts``, or if the prior is ``estimate``.
    """
    if prior == "estimate":
        raise InputError("a prior cannot be estimated from single events; give a number")
    if predictor.run.config.fusion.constituents:
        raise InputError(f"{predictor.run.folder}: reads particles, which a text does not have")
    scores = predictor.score(ModelInputs(rows_of_texts(texts, predictor.names)))
    fraction = prior if isinstance(prior, float) else None
    probabilities = predictor.probability(scores, fraction)
    return list(zip(scores.tolist(), probabilities.tolist(), strict=True))


def rows_of_texts(texts: Sequence[str], names: Sequence[str]) -> Floats:
    """Values of the F features ``names`` in N prompts of any layout, shape (N, F).

    A feature that a prompt lacks is NaN.

    Raises:
        InputError: a text has none of these features, or a value that is not valid.
    """
    rows = np.full((len(texts), len(names)), np.nan)
    for row, text in zip(rows, texts, strict=True):
        try:
            event = read_event(text, own=names)
        except ValueError as error:
            raise InputError(str(error)) from None
        missing = [name for name in names if name not in event]
        if len(missing) == len(names):
            raise InputError(f"the text has {', '.join(event)}, but none of the model's features")
        if not any(np.isfinite(event[name]) for name in names if name in event):
            raise InputError("the text has no values of the model's features")
        if missing:
            LOG.warning("not in the text, so treated as missing: %s", ", ".join(missing))
        row[:] = [event.get(name, np.nan) for name in names]
    return rows


def _refuse_own_box(run: Run, opened: ScoredInput, source: Path) -> None:
    """Refuses a box with events that a run without labels has seen: as data, or as background."""
    weak, content = run.record.weak, opened.content
    if weak is None:
        return
    tell_classes(run)
    if isinstance(content, Dataset):
        n_seen = overlap(content.load((), labels=False).event_digest, run.used_events())
    else:
        sources = run.dataset().manifest.sources
        n_seen = int(opened.fingerprint["sha256"] in [one.sha256 for one in sources])
    if n_seen:
        raise InputError(
            f"{source}: has events that {run.folder} was trained on; search the box with all "
            f"folds, which writes scores.parquet too: hepllm search {weak.dataset} --run "
            f"{run.folder.parent}"
        )


def _check_output(output: Path, overwrite: bool) -> None:
    if output.suffix.lower() not in SUFFIXES:
        raise InputError(f"{output}: the name must end with one of {', '.join(SUFFIXES)}")
    if output.is_dir() or (output.exists() and not overwrite):
        hint = "is a folder" if output.is_dir() else "exists; give --overwrite to replace it"
        raise InputError(f"{output}: {hint}")


def _fingerprint(predictor: Predictor, opened: ScoredInput) -> dict[str, object]:
    """Model, input and settings that unfinished work and a run that continues it must share."""
    model: dict[str, object] = {
        "model": predictor.model.identity,
        "chunk_size": opened.config.chunk_size,
    }
    if predictor.cascade is not None:
        model["cascade"] = repr(predictor.cascade.cut)
    if not predictor.run.question.is_open:
        model["hypothesis"] = list(predictor.hypothesis.pieces)
    return model | opened.fingerprint


def _choose_prior(
    predictor: Predictor, config: EvaluationConfig, parts: Parts, names: Sequence[str]
) -> Prior:
    sample = np.empty(0), np.empty(0)
    used, column = predictor.calibration, "score"
    if predictor.cascade is not None:
        used, column = predictor.cascade.prior_calibration, BOOSTING
    if config.prior == "estimate":
        table = pa.concat_tables(parts.load(name).select([column, "weight"]) for name in names)
        sample = table[column].to_numpy(), table["weight"].to_numpy()
    balance = predictor.run.config.train.balance
    return choose_prior(config, balance, used.validation, sample)


def _assemble(
    predictor: Predictor,
    prior: Prior,
    work: WorkFolder,
    names: Sequence[str],
    writer: ScoreWriter,
) -> tuple[int, int | None]:
    """Writes the file from its parts; returns its number of events and of those kept."""
    cascade = predictor.cascade
    n_events = n_cascaded = 0
    for name in names:
        table = work.parts.load(name)
        score = table["score"].to_numpy()
        probability = predictor.probability(score, prior.fraction)
        table = table.append_column("probability", pa.array(probability))
        if cascade is not None:
            cascaded = cascade.cut.is_cascaded(score)
            n_cascaded += int(np.count_nonzero(cascaded))
            table = table.append_column(CASCADED, pa.array(cascaded))
        writer.write(table)
        n_events += table.num_rows
    return n_events, None if cascade is None else n_events - n_cascaded
