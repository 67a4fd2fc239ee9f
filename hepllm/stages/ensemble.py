"""``hepllm ensemble``: averages calibrated scores of several runs, and measures the mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hepllm import __version__
from hepllm.config import Config
from hepllm.data.notes import NotesRecord, write_notes
from hepllm.errors import InputError
from hepllm.evaluation.assessment import evaluate_scores
from hepllm.evaluation.averaging import (
    ENSEMBLE,
    Combined,
    EnsembleRecord,
    MemberRecord,
    combine,
)
from hepllm.evaluation.records import ResultsRecord
from hepllm.evaluation.scores import ScoreTable
from hepllm.executor import resolve_threads
from hepllm.files import write_errors
from hepllm.provenance import this_call
from hepllm.report.ensembles import ensemble_chapter
from hepllm.report.text import as_text
from hepllm.runs.folder import open_run
from hepllm.runs.members import Members, score_members

TABLE, RECORD = "scores.parquet", "ensemble.json"
"""Files in the folder of the results."""


@dataclass(frozen=True)
class EnsembleReport:
    """An ensemble on a set.

    Attributes:
        name: name of the set.
        record: the content of ``ensemble.json``.
        text: the same in words.
        files: the written files.
    """

    name: str
    record: EnsembleRecord
    text: str
    files: tuple[Path, ...]


def is_ensemble(folder: Path) -> bool:
    """Whether a folder is one that ``average_runs`` has written."""
    return (folder / RECORD).is_file()


def read_members(folder: Path) -> tuple[list[Path], list[str]]:
    """Reads the runs of an ensemble and the baselines of the first.

    Raises:
        InputError: if the record is damaged.
    """
    record = EnsembleRecord.read(folder / RECORD, "make it again with 'hepllm ensemble RUN RUN'")
    runs = [folder / one.run for one in record.members if one.baseline is None]
    return runs, [one.baseline for one in record.members if one.baseline is not None]


def average_runs(
    folders: Sequence[Path],
    config: Config,
    output: Path,
    *,
    dataset: Path | None = None,
    baselines: Sequence[str] = (),
) -> EnsembleReport:
    """Averages the calibrated logits of runs, and of baselines of the first, event by event.

    Every member scores every event: there is no cascade.

    Args:
        folders: the runs.
        config: settings of the evaluation, and the seed of the bootstrap.
        output: folder of the results.
        dataset: dataset of the events; None for the test split that the runs share.
        baselines: names of baselines.

    Raises:
        InputError: if there are fewer than two members, or they cannot be joined.
        ChunkError: if a worker that scores failed; what is scored is kept.
        RunError: if the results cannot be written.
    """
    if len(folders) + len(baselines) < 2:
        raise InputError("an ensemble has at least two members: name another RUN, or --with NAME")
    settings = config.evaluation
    if settings.cascade is not None:
        raise InputError(
            "evaluation.cascade: the members of an ensemble score all events; set it to null"
        )
    threads = resolve_threads(config.train.threads)
    torch.set_num_threads(threads)
    runs = [open_run(folder) for folder in folders]
    found = score_members(runs, baselines, dataset, settings, threads=threads)
    combined = combine(np.stack([one.logits for one in found.members]))
    results, problem = _measure(found, combined, config)
    record = EnsembleRecord(
        sample=found.chosen.name,
        n_events=len(combined.score),
        n_excluded_as_seen=found.chosen.n_excluded,
        prior_fraction=found.prior,
        members=tuple(
            MemberRecord(
                name=one.name,
                run=Path(os.path.relpath(one.run.folder.resolve(), output.resolve())).as_posix(),
                baseline=one.baseline,
                calibration=one.calibration.method,
            )
            for one in found.members
        ),
        median_spread=float(np.median(combined.spread)),
        results=results,
        problem=problem,
        made=this_call(),
    )
    with write_errors(output, "choose another --output"):
        output.mkdir(parents=True, exist_ok=True)
        _write_scores(output / TABLE, found, combined)
        record.write(output / RECORD)
    files = (output / TABLE, output / RECORD)
    return EnsembleReport(record.sample, record, as_text(ensemble_chapter(record)), files)


def _measure(
    found: Members, combined: Combined, config: Config
) -> tuple[ResultsRecord | None, str | None]:
    """Measures the ensemble and its members by the labels; without them, says why not."""
    if not found.chosen.has_labels:
        return None, "the events have no labels"
    shared = found.shared_validation()
    if len(np.unique(shared.label)) < 2:
        return None, "the members share no validation events of both classes, to choose cuts on"
    chosen, names = found.chosen.with_labels(), [one.name for one in found.members]
    logits = [one.logits for one in found.members]
    test = ScoreTable(
        label=chosen.table.label,
        scores={ENSEMBLE: combined.score, **dict(zip(names, logits, strict=True))},
        weight=chosen.table.weight,
    )
    mean = combine(shared.logits).score
    cuts = ScoreTable(
        label=shared.label,
        scores={ENSEMBLE: mean, **dict(zip(names, shared.logits, strict=True))},
        weight=shared.weight,
    )
    measured = evaluate_scores(test, cuts, config.evaluation, config.seed, sample=chosen.name)
    return measured.record, None


def _write_scores(file: Path, found: Members, combined: Combined) -> None:
    table, dataset = found.chosen.table, found.chosen.dataset
    columns: dict[str, NDArray[Any]] = {
        "event_id": table.event_id,
        "source": table.source,
        "score": combined.score,
        "spread": combined.spread,
        **{f"score_{one.name}": one.logits for one in found.members},
    }
    record = NotesRecord(
        holds="scores of an ensemble and of its members",
        made_by=f"hepllm ensemble, version {__version__}",
        dataset_digest=dataset.digest,
    )
    write_notes(file, table.event_digest, columns, record)
