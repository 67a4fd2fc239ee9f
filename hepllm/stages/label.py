"""``hepllm label``: labels for events that have none, from what a language model finds coherent.

Predictions are kept in ``<output>.partial`` until the labels are complete, so that a command that
was stopped continues. Labels of the dataset are read after that, to compare.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from hepllm import __version__
from hepllm.arrays import Labels
from hepllm.config import Config
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.data.event_table import EventTable
from hepllm.data.notes import NotesRecord, find_events, write_notes
from hepllm.data.work_folder import work_folder
from hepllm.errors import InputError
from hepllm.files import write_errors
from hepllm.hypotheses.hypothesis import OPEN, Hypothesis, parse_hypothesis
from hepllm.labelling.averaged import (
    HEAVIER,
    LIGHTER,
    SHARE,
    STEP,
    HypothesisAverage,
    with_likeliest,
)
from hepllm.labelling.kept import kept_predictions
from hepllm.labelling.methods import EventLabels, label_pool
from hepllm.labelling.predictions import Key, Predictions
from hepllm.labelling.records import LabellingRecord, Truth, compare_with_truth, is_collapsed
from hepllm.logs import progress_bar
from hepllm.runs.label_sources import LabelSource, open_label_source
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
            lines.append(
                f"the labels are best explained by masses of {masses}, of pairs in steps of "
                f"{record.details[STEP] - 1:.0%} ({record.details[SHARE]:.2f} of their likelihood)"
            )
        if record.mean_log_probability is not None:
            lines.append(
                f"mean log-probability {record.mean_log_probability:.4f} (chance -0.6931), "
                f"{record.inconsistencies} inconsistencies in {record.n_views} views"
            )
        if record.collapsed:
            expected = record.expected_share * record.n_events
            lines.append(
                f"COLLAPSED: {record.n_signal} signal events, where about {expected:.3g} are "
                "expected: the labels say nothing"
            )
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
    source = open_label_source(dataset, config, stated)
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
            _warn(record)
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


def _find(
    source: LabelSource, config: Config, known: Mapping[Key, float], keep: Any
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
    source: LabelSource,
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
        collapsed=is_collapsed(labels, settings.collapse, settings.expected_share),
        expected_share=settings.expected_share,
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


def _true_labels(dataset: Dataset, table: EventTable, split: str | None) -> Labels:
    """Labels of the pool's events, which are read here for the first time."""
    known = dataset.load((), split)
    return known.label[find_events(table.event_digest, known.event_digest)]


def _warn(record: LabellingRecord) -> None:
    if record.collapsed:
        LOG.warning(
            "%d of %d events are labelled signal, where %.3g %% are expected: the labelling has "
            "collapsed, and says nothing of them; if the pool has such a share, state it with "
            "label.prior, or else try label.names exchanged, more label.context, another backend",
            record.n_signal,
            record.n_signal + record.n_background,
            100 * record.expected_share,
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
