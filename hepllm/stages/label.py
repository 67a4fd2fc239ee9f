"""``hepllm label``: labels for events that have none, from what a language model finds coherent.

Predictions are kept in ``<output>.partial`` until the labels are complete, so that a command that
was stopped continues. Labels of the dataset are read after that, to compare.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from hepllm import __version__
from hepllm.arrays import Labels
from hepllm.config import Config, LabelConfig
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.data.event_table import EventTable
from hepllm.data.notes import NotesRecord, find_events, read_notes, write_notes
from hepllm.data.work_folder import work_folder
from hepllm.errors import InputError
from hepllm.executor import resolve_threads
from hepllm.files import write_errors
from hepllm.hypotheses.hypothesis import OPEN, Hypothesis, parse_hypothesis
from hepllm.labelling.averaged import (
    HEAVIER,
    LIGHTER,
    PROBABILITY,
    HypothesisAverage,
    with_likeliest,
)
from hepllm.labelling.kept import kept_predictions
from hepllm.labelling.methods import EventLabels, label_pool
from hepllm.labelling.pool import Pool, draw_events, make_pool
from hepllm.labelling.predictions import Key, LabelModel, Predictions
from hepllm.labelling.records import LabellingRecord, Truth, compare_with_truth, is_collapsed
from hepllm.labelling.wording import Wording, printed_features, write_items
from hepllm.learning.inputs import model_inputs
from hepllm.logs import progress_bar
from hepllm.runs import RECORD
from hepllm.schema import BACKGROUND, SIGNAL, UNKNOWN

LOG = logging.getLogger(__name__)

_SUFFIXES = (".parquet", ".csv")
_IDENTITY = ("pool", "split", "features", "layout", "names", "views", "backend")
"""Settings that decide what a prediction of given items is; others may change on resuming."""


@dataclass(frozen=True)
class LabelReport:
    """What a labelling made.

    Attributes:
        files: the table of labels and its record.
        record: how the labels were found.
    """

    files: tuple[Path, Path]
    record: LabellingRecord

    @property
    def text(self) -> str:
        """The record in a few lines."""
        record = self.record
        lines = [
            f"{record.n_events} events: {record.n_signal} signal, {record.n_background} background"
            + (f", {record.n_unlabelled} without a label" if record.n_unlabelled else ""),
            (
                f"method {record.method}, {record.n_predictions:,} of {record.budget:,} "
                f"predictions by {record.backend}"
            ),
        ]
        if LIGHTER in record.details:
            masses = f"{record.details[HEAVIER]:g} and {record.details[LIGHTER]:g} GeV"
            probability = record.details[PROBABILITY]
            lines.append(f"best explained by masses of {masses} (probability {probability:.2f})")
        if record.mean_log_probability is not None:
            lines.append(
                f"mean log-probability {record.mean_log_probability:.4f} (chance -0.6931), "
                f"{record.inconsistencies} inconsistencies in {record.n_views} views"
            )
        if record.collapsed:
            lines.append("COLLAPSED: nearly all events have one label, which says nothing")
        if record.start_truth is not None:
            before = record.start_truth.accuracy.value
            lines.append(f"accuracy of what it began with {before:.3f}")
        if record.truth is not None:
            truth, found = record.truth, record.truth.accuracy
            area = "" if truth.auc is None else f", AUC of soft labels {truth.auc:.3f}"
            lines.append(
                f"true labels, read afterwards: accuracy {found.value:.3f} "
                f"[{found.interval[0]:.3f}, {found.interval[1]:.3f}] of {found.n_events} events, "
                f"one label for all {truth.chance:.3f}{area}"
            )
        return "\n".join(lines)

    def tree(self) -> dict[str, Any]:
        """The record as a JSON tree."""
        return self.record.tree()


@dataclass(frozen=True, eq=False)
class _Source:
    """A pool and the model that predicts its labels."""

    pool: Pool
    model: LabelModel
    name: str
    identity: Mapping[str, Any]
    features: tuple[str, ...]


def label(
    folder: Path,
    config: Config,
    output: Path,
    *,
    hypothesis: str | None = None,
    overwrite: bool = False,
) -> LabelReport:
    """Labels events of a dataset, whose own labels are not used.

    Args:
        folder: the dataset.
        config: ``label``, ``backbone`` and ``seed``.
        output: table of the labels, ``.parquet`` or ``.csv``; its record, ``.json``, is beside it.
        hypothesis: what a signal is, in words that the model reads.
        overwrite: replace an output that exists, and discard an unfinished one.

    Raises:
        InputError: the dataset, the model or the settings do not fit, or the output exists.
        RunError: a server failed, or the output cannot be written.
    """
    beside = _check_output(output, overwrite)
    dataset = read_dataset(folder).with_variables(config.preprocess.variables())
    dataset.require_events()
    stated = OPEN if hypothesis is None else parse_hypothesis(hypothesis)
    for note in () if hypothesis is None else stated.notes:
        LOG.warning("hypothesis '%s': %s", stated.text, note)
    source = _open_source(dataset, config, stated)
    settings = config.label.model_dump(mode="json", include=set(_IDENTITY))
    fingerprint = {
        "dataset": dataset.digest,
        "seed": config.seed,
        "label": settings,
        "hypothesis": list(stated.pieces),
        "model": dict(source.identity),
    }
    with write_errors(output, "choose another --output"):
        output.parent.mkdir(parents=True, exist_ok=True)
        with work_folder(output, fingerprint, overwrite) as work:
            with kept_predictions(work.parts) as kept:
                predictions, found = _find(source, config, kept.load(), kept.add)
            record = _describe(dataset, config, source, (predictions, found), stated)
            _warn(record, config.label)
            _write_table(work.result / output.name, dataset, source.pool.table, found, record)
            record.write(work.result / beside.name)
            (work.result / beside.name).replace(beside)
            work.publish_file()
    return LabelReport((output, beside), record)


def _check_output(output: Path, overwrite: bool) -> Path:
    """Refuses an output that cannot be written; returns the file of its record."""
    if output.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{output}: the name must end with one of {', '.join(_SUFFIXES)}")
    if output.is_dir() or (output.exists() and not overwrite):
        hint = "is a folder" if output.is_dir() else "exists; give --overwrite to replace it"
        raise InputError(f"{output}: {hint}")
    beside = output.with_suffix(".json")
    if beside.exists() and not overwrite:
        raise InputError(
            f"{beside}: exists, and the record of {output.name} would replace it; name another "
            "output, or give --overwrite"
        )
    return beside


def _open_source(dataset: Dataset, config: Config, hypothesis: Hypothesis) -> _Source:
    backend = config.label.backend
    if config.label.is_server:
        return _open_server(dataset, config, hypothesis)
    if backend == "local":
        return _open_backbone(dataset, config, hypothesis)
    if (Path(backend) / RECORD).is_file():
        return _open_run(dataset, config, hypothesis, Path(backend))
    raise InputError(
        f"label.backend: {backend}: neither local, nor a run folder, nor the address of a server "
        "that begins with http:// or https://"
    )


def _text_pool(dataset: Dataset, config: Config, hypothesis: Hypothesis) -> tuple[Pool, Wording]:
    """A pool whose items are read as text, and the text."""
    settings = config.label
    names = printed_features(settings)
    table = draw_events(dataset, names, settings.pool, config.seed, split=settings.split)
    pool = make_pool(
        table,
        model_inputs(table, names),
        settings.views,
        config.seed,
        _landmarks(config, table),
    )
    return pool, write_items(pool.inputs.numbers, names, settings, hypothesis)


def _open_backbone(dataset: Dataset, config: Config, hypothesis: Hypothesis) -> _Source:
    import torch

    from hepllm.labelling.local import backbone_model
    from hepllm.model.devices import choose_device, choose_dtype
    from hepllm.model.sources import identify_model

    torch.set_num_threads(resolve_threads(config.train.threads))
    pool, wording = _text_pool(dataset, config, hypothesis)
    model = backbone_model(config.backbone, wording, seed=config.seed, serial=config.label.serial)
    device = choose_device(config.backbone.device)
    identity = {
        **identify_model(config.backbone.name),
        "quantization": config.backbone.quantization,
        "precision": str(choose_dtype(config.backbone.dtype, device)),
    }
    return _Source(pool, model, config.backbone.name, identity, pool.names)


def _open_run(dataset: Dataset, config: Config, hypothesis: Hypothesis, folder: Path) -> _Source:
    import torch

    from hepllm.labelling.local import run_model
    from hepllm.runs.averaged import averaged_run
    from hepllm.runs.folder import open_run
    from hepllm.runs.questions import fill, read_question
    from hepllm.runs.run_model import RunModel

    torch.set_num_threads(resolve_threads(config.train.threads))
    run, settings = open_run(folder), config.label
    run.require_one_model()
    if run.config.prompt.chat_template:
        raise InputError(
            f"{folder}: its prompts have a chat template, which shows one event; use another run"
        )
    if hypothesis is not OPEN:
        if settings.hypotheses.masses:
            raise InputError(
                "label.hypotheses.masses averages over hypotheses, and --hypothesis states one; "
                "leave one of them out"
            )
        read_question(hypothesis.text, run.record.hypotheses, str(folder))
    _tell_examples(settings, run.config.train.examples.most, folder)
    names = run.config.train.feature_names()
    table = draw_events(
        run.known(dataset),
        names,
        settings.pool,
        config.seed,
        split=settings.split,
        particles=run.config.fusion.constituents,
        used=run.used_events(),
    )
    inputs = model_inputs(table, names)
    if hypothesis is not OPEN:
        inputs = replace(inputs, hypothesis=fill(hypothesis, len(table)))
    pool = make_pool(table, inputs, settings.views, config.seed, _landmarks(config, table))
    scored = RunModel(run, None)
    classifier, encoder = scored.loaded
    if settings.hypotheses.masses:
        average = averaged_run(run, scored.loaded, pool.inputs, settings.hypotheses)
        identity = {**scored.identity, "hypotheses": settings.hypotheses.model_dump(mode="json")}
        return _Source(pool, average, f"{folder}, averaged over hypotheses", identity, names)
    model = run_model(
        classifier,
        encoder,
        pool.inputs,
        settings.names,
        names,
        serial=settings.serial,
        name=str(folder),
    )
    return _Source(pool, model, str(folder), scored.identity, names)


def _tell_examples(settings: LabelConfig, most: int, folder: Path) -> None:
    """Warns where contexts are used that are no part of a run's training."""
    is_alone = settings.method in {"zero-shot", "k-means"} or settings.hypotheses.masses
    if is_alone or most >= settings.context:
        return
    if most:
        LOG.warning(
            "%s: its training showed at most %d labelled events, and label.context=%d; set "
            "label.context=%d, or train with more train.examples.most",
            *(folder, most, settings.context, most),
        )
        return
    LOG.warning(
        "%s: its training never showed it labelled events, so they may mislead it: set "
        "label.hypotheses.masses=12 if it reads hypotheses, train with train.examples.most=%d, or "
        "give --method zero-shot",
        *(folder, settings.context),
    )


def _open_server(dataset: Dataset, config: Config, hypothesis: Hypothesis) -> _Source:
    from hepllm.labelling.server import ServerModel

    settings = config.label
    pool, wording = _text_pool(dataset, config, hypothesis)
    model = ServerModel(wording, settings.backend, settings.server, serial=settings.serial)
    identity = {
        "url": settings.backend,
        "model": model.name,
        "interface": settings.server.interface,
        "top": settings.server.top,
    }
    return _Source(pool, model, f"{model.name} at {settings.backend}", identity, pool.names)


def _find(
    source: _Source, config: Config, known: Mapping[Key, float], keep: Any
) -> tuple[Predictions, EventLabels]:
    once = config.label.method in {"zero-shot", "k-means"}  # the others end when nothing changes
    total, what = (
        (len(source.pool.event), "label") if once else (config.label.budget, "label, at most")
    )
    with progress_bar(total, what, "predictions") as bar:

        def on_new(answers: Any) -> None:
            keep(answers)
            bar.update(len(answers))

        predictions = Predictions(source.model, config.label.budget, known, on_new)
        found = label_pool(source.pool, predictions, config.label, config.seed)
    if isinstance(source.model, HypothesisAverage):
        found = with_likeliest(found, source.model, source.pool.event)
    if known:
        n_again = predictions.n_used - predictions.n_asked
        LOG.info("%d of %d predictions were kept by an earlier run", n_again, predictions.n_used)
    return predictions, found


def _describe(
    dataset: Dataset,
    config: Config,
    source: _Source,
    made: tuple[Predictions, EventLabels],
    hypothesis: Hypothesis,
) -> LabellingRecord:
    predictions, found = made
    labels, settings = found.labels, config.label
    truth = _true_labels(dataset, source.pool.table, settings.split)
    truth = np.where(source.pool.landmarks == UNKNOWN, truth, UNKNOWN)  # those were given
    return LabellingRecord(
        hepllm=__version__,
        method=settings.method,
        backend=source.name,
        dataset=str(dataset.folder),
        dataset_digest=dataset.digest,
        seed=config.seed,
        names=settings.names,
        features=source.features,
        hypothesis=None if hypothesis.signal.is_open else hypothesis.text,
        n_events=len(labels),
        n_views=source.pool.n_views,
        n_predictions=predictions.n_used,
        budget=predictions.budget,
        n_signal=int((labels == SIGNAL).sum()),
        n_background=int((labels == BACKGROUND).sum()),
        n_unlabelled=int((labels == UNKNOWN).sum()),
        collapsed=is_collapsed(labels, settings.collapse),
        mean_log_probability=found.mean_log_probability,
        inconsistencies=found.inconsistencies,
        details=dict(found.details),
        start_truth=_compare_start(found, truth, config.evaluation.confidence),
        truth=compare_with_truth(labels, found.soft, truth, config.evaluation.confidence),
    )


def _compare_start(found: EventLabels, truth: Labels, confidence: float) -> Truth | None:
    odds = found.start_log_odds
    if odds is None:
        return None
    return compare_with_truth((odds > 0).astype(np.int8), odds, truth, confidence)


def _landmarks(config: Config, table: EventTable) -> Labels:
    """Labels of the user's few landmarks among the events; -1 elsewhere.

    Raises:
        InputError: the table cannot be read, has other labels, or no event of the pool.
    """
    unknown = np.full(len(table), UNKNOWN, dtype=np.int8)
    file = config.label.soft.landmarks
    if file is None or config.label.method != "soft":
        return unknown
    notes = read_notes(Path(file), "name a table with the columns event_digest and label")
    given = notes.column("label")
    if not np.isin(given, (BACKGROUND, SIGNAL, UNKNOWN)).all():
        raise InputError(f"{file}: labels must be {SIGNAL}, {BACKGROUND}, or {UNKNOWN} for none")
    rows = find_events(table.event_digest, notes.event_digest)
    found = unknown
    found[rows >= 0] = given[rows[rows >= 0]]
    if (found == UNKNOWN).all():
        raise InputError(
            f"{file}: has no label of the {len(table)} events of the pool; raise label.pool, or "
            "set label.soft.landmarks=null"
        )
    return found


def _true_labels(dataset: Dataset, table: EventTable, split: str | None) -> Labels:
    """Labels of the pool's events, which are read here for the first time."""
    known = dataset.load((), split)
    return known.label[find_events(table.event_digest, known.event_digest)]


def _warn(record: LabellingRecord, settings: LabelConfig) -> None:
    if record.collapsed:
        LOG.warning(
            "at least %.0f %% of the events have one label: the labelling has collapsed, and says "
            "nothing of them; try label.names exchanged, more label.context, or another backend",
            100 * settings.collapse,
        )
    if record.n_unlabelled:
        LOG.warning(
            "the budget of %d predictions left %d events without a label; raise label.budget and "
            "run again",
            record.budget,
            record.n_unlabelled,
        )


def _write_table(
    file: Path, dataset: Dataset, table: EventTable, found: EventLabels, record: LabellingRecord
) -> None:
    columns: dict[str, Any] = {
        "event_id": table.event_id,
        "source": table.source.astype(str),
        "label": found.labels,
        "soft_label": found.soft,
        "log_odds": found.log_odds,
    }
    if file.suffix.lower() == ".csv":
        pacsv.write_csv(pa.table({"event_digest": table.event_digest, **columns}), file)
        return
    holds = f"labels by {record.method}, of {np.count_nonzero(found.labels != UNKNOWN)} events"
    made_by = f"hepllm label, version {__version__}"
    note = NotesRecord(holds=holds, made_by=made_by, dataset_digest=dataset.digest)
    write_notes(file, table.event_digest, columns, note)
