"""``hepllm eval``: scores of a run on one or more sets, with tables and pictures."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hepllm.config import Config
from hepllm.dataset import Dataset, EventTable, read_dataset
from hepllm.errors import InputError
from hepllm.evaluation.assessment import evaluate_scores
from hepllm.evaluation.baselines import Scorer, fit_boosting
from hepllm.evaluation.plots import plot_roc, plot_scores, plot_sic
from hepllm.evaluation.report import results_tree
from hepllm.evaluation.results import EvaluationResults, ScoreTable
from hepllm.evaluation.tables import format_table, format_working_points
from hepllm.executor import resolve_workers
from hepllm.learning.encoding import PromptEncoder
from hepllm.learning.scoring import score_events
from hepllm.logs import progress_bar
from hepllm.model.classifier import EventClassifier
from hepllm.schema import UNKNOWN, is_search_safe
from hepllm.stages.preprocess import preprocess
from hepllm.stages.runs import (
    Run,
    open_run,
    training_events,
    validation_events,
    write_table,
    write_text,
)

LOG = logging.getLogger(__name__)

Scores = NDArray[np.float64]

MODEL = "llm"
"""What the run's own classifier is called in tables."""


@dataclass(frozen=True)
class EvaluationSet:
    """Events to evaluate on.

    Attributes:
        name: of the output folder.
        table: the events.
        is_blackbox: whether they come from a black box.
        n_excluded: events left out because the run has seen them.
    """

    name: str
    table: EventTable
    is_blackbox: bool
    n_excluded: int = 0


@dataclass(frozen=True)
class SetReport:
    """What was found on one set.

    Attributes:
        name: of the set.
        metrics: the content of ``metrics.json``.
        text: the same for a person.
        files: what was written, pictures included.
    """

    name: str
    metrics: dict[str, Any]
    text: str
    files: tuple[Path, ...]


def evaluate(
    run_folder: Path,
    *,
    dataset: Path | None = None,
    blackbox: Path | None = None,
    all_blackboxes: bool = False,
    masterkey: Path | None = None,
    config: Config | None = None,
) -> list[SetReport]:
    """Evaluates a run.

    Without ``dataset`` and ``blackbox``, on the test split of the dataset that it was trained on.

    Args:
        run_folder: made by ``hepllm train``.
        dataset: another dataset, of which all events that the run has not seen are taken.
        blackbox: a black box, as an event file or a dataset.
        all_blackboxes: the test split, and every other dataset beside the training one.
        masterkey: labels of the black box, if it is an event file.
        config: settings in place of the run's own, of which ``evaluation`` counts.

    Raises:
        InputError: if the run or a set cannot be used.
    """
    run = open_run(run_folder)
    config = config or run.config
    sets = _collect_sets(run, dataset, blackbox, all_blackboxes, masterkey)
    torch.set_num_threads(resolve_workers(config.train.threads))
    baselines = _fit_baselines(run, config)
    classifier, encoder = run.load_classifier()
    contest = _Contest(run, config, classifier, encoder, baselines)
    return [_report(contest, chosen) for chosen in sets]


@dataclass(frozen=True)
class _Contest:
    """The run's classifier and those that it is compared with, all ready to score."""

    run: Run
    config: Config
    classifier: EventClassifier
    encoder: PromptEncoder
    baselines: Mapping[str, Scorer]

    def score(self, text_rows: Scores, number_rows: Scores, description: str) -> Scores:
        """Scores of the language model; the two rows differ in ablations only."""
        with progress_bar(len(text_rows), description) as bar:
            return score_events(
                self.classifier,
                self.encoder,
                text_rows,
                number_rows=number_rows,
                batch_size=self.config.evaluation.batch_size,
                on_batch=bar.update,
            )

    def score_baselines(self, rows: Scores) -> dict[str, Scores]:
        """Scores of the others."""
        return {name: fitted.score(rows) for name, fitted in self.baselines.items()}


def _collect_sets(
    run: Run,
    dataset: Path | None,
    blackbox: Path | None,
    all_blackboxes: bool,
    masterkey: Path | None,
) -> list[EvaluationSet]:
    if masterkey is not None and blackbox is None:
        msg = "--masterkey belongs to --blackbox FILE"
        raise InputError(msg)
    sets: list[EvaluationSet] = []
    if all_blackboxes or (dataset is None and blackbox is None):
        sets.append(_test_set(run))
    if dataset is not None:
        sets.append(_other_set(run, read_dataset(dataset), is_blackbox=False))
    if blackbox is not None:
        sets.append(_other_set(run, _open_blackbox(run, blackbox, masterkey), is_blackbox=True))
    if all_blackboxes:
        beside = sorted(run.record.dataset.parent.glob("*/manifest.json"))
        others = [file.parent for file in beside if file.parent != run.record.dataset]
        if not others:
            msg = (
                f"no black box beside {run.record.dataset}: preprocess one, "
                "or name it with --blackbox FILE"
            )
            raise InputError(msg)
        sets += [_other_set(run, read_dataset(folder), is_blackbox=True) for folder in others]
    return sets


def _test_set(run: Run) -> EvaluationSet:
    dataset = run.dataset()
    table = dataset.load(run.config.train.feature_names(), "test")
    return _without_seen(run, EvaluationSet(f"{dataset.folder.name}-test", table, False))


def _other_set(run: Run, dataset: Dataset, *, is_blackbox: bool) -> EvaluationSet:
    table = dataset.load(run.config.train.feature_names())
    return _without_seen(run, EvaluationSet(dataset.folder.name, table, is_blackbox))


def _without_seen(run: Run, chosen: EvaluationSet) -> EvaluationSet:
    """Leaves out events that the run was trained or validated on, by content."""
    seen = np.isin(chosen.table.event_digest, run.used_events())
    n_seen = int(seen.sum())
    if n_seen:
        LOG.warning(
            "%s: %d of %d events were seen in training or validation and are left out",
            chosen.name,
            n_seen,
            len(seen),
        )
    table = chosen.table.take(~seen)
    if not len(table):
        msg = f"{chosen.name}: no event is left to evaluate on"
        raise InputError(msg)
    unlabelled = table.label == UNKNOWN
    if unlabelled.any() and not is_search_safe(run.config.train.feature_names()):
        msg = (
            f"{chosen.name}: has no labels, and {run.folder} was trained on features that follow "
            "m_jj; a cut on its score carves a bump into QCD: train with train.features=search"
        )
        raise InputError(msg)
    return EvaluationSet(chosen.name, table, chosen.is_blackbox, n_seen)


def _open_blackbox(run: Run, path: Path, masterkey: Path | None) -> Dataset:
    """A dataset, or an event file that is clustered as the training events were."""
    if path.is_dir():
        if masterkey is not None:
            msg = f"{path}: a dataset holds its labels; give --masterkey to preprocess"
            raise InputError(msg)
        return read_dataset(path)
    if not path.exists():
        msg = f"{path}: no such black box"
        raise InputError(msg)
    trained_with = run.dataset().manifest.config["preprocess"]
    settings = run.config.preprocess.model_copy(
        update={
            "jets": type(run.config.preprocess.jets).model_validate(trained_with["jets"]),
            "select": None,
        }
    )
    config = run.config.model_copy(update={"preprocess": settings})
    output = run.folder / "eval" / path.stem / path.stem
    made = preprocess([path], output, config, masterkey=masterkey, overwrite=True)
    return made[0].dataset


def _fit_baselines(run: Run, config: Config) -> dict[str, Scorer]:
    """Fits each baseline to the very events and features that the run was trained on."""
    if not config.evaluation.baselines:
        return {}
    events = training_events(run.dataset(), run.config)
    LOG.info("fitting a boosting to the same %d training events", len(events))
    return {"boosting": fit_boosting(events.features, events.label, events.weight, config.seed)}


def _report(contest: _Contest, chosen: EvaluationSet) -> SetReport:
    folder = contest.run.folder / "eval" / chosen.name
    folder.mkdir(parents=True, exist_ok=True)
    rows = chosen.table.features
    started = time.perf_counter()
    scores = contest.score(rows, rows, f"score {chosen.name}")
    rate = len(rows) / (time.perf_counter() - started)
    files = [_write_scores(folder, chosen.table, scores)]
    about = _describe(contest.run, chosen, rate)
    if (chosen.table.label == UNKNOWN).any():
        metrics = {**about, "n_events": len(rows), "n_signal": None, "n_background": None}
        text = f"{chosen.name}: {len(rows)} events without labels are scored; nothing to compare"
    else:
        results = _compare(contest, chosen, scores)
        metrics = {**results_tree(results), **about}
        text = f"{format_table(results)}\n\n{format_working_points(results)}"
        files += _draw(folder, results)
    metrics_file = folder / "metrics.json"
    write_text(metrics_file, json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    write_text(folder / "table.txt", text + "\n")
    return SetReport(chosen.name, metrics, text, (metrics_file, *files))


def _describe(run: Run, chosen: EvaluationSet, rate: float) -> dict[str, Any]:
    """What the numbers belong to."""
    config = run.config
    return {
        "run": run.folder.name,
        "trained_on": {"dataset": run.record.dataset.name, **run.record.n_train},
        "backbone": config.backbone.name,
        "features": list(config.train.feature_names()),
        "prompt": config.prompt.layout,
        "fusion": config.fusion.enabled,
        "n_excluded_as_seen": chosen.n_excluded,
        "events_per_second": rate,
        "probability_prior": f"training balance {config.train.balance}",
    }


def _compare(contest: _Contest, chosen: EvaluationSet, scores: Scores) -> EvaluationResults:
    run, table = contest.run, chosen.table
    validation = validation_events(run.dataset(), run.config)
    ablate = contest.config.evaluation.ablations and not chosen.is_blackbox
    return evaluate_scores(
        ScoreTable(
            label=table.label,
            scores={MODEL: scores, **contest.score_baselines(table.features)},
            ablations=_ablate(contest, table.features) if ablate else {},
            weight=table.weight,
        ),
        ScoreTable(
            label=validation.label,
            scores={
                MODEL: run.validation_scores(),
                **contest.score_baselines(validation.features),
            },
            weight=validation.weight,
        ),
        contest.config.evaluation,
        contest.config.seed,
        sample=chosen.name,
    )


def _ablate(contest: _Contest, rows: Scores) -> dict[str, Scores]:
    """Scores with one part of the input exchanged between events or taken away.

    A part that the model does not have is not ablated.
    """
    order = np.random.default_rng([contest.config.seed, 4]).permutation(len(rows))
    exchanged = rows[order]
    ablations: dict[str, Scores] = {}
    if contest.classifier.nfa is not None:
        ablations["nfa_permuted"] = contest.score(rows, exchanged, "permute numbers")
        with contest.classifier.silenced_fusion():
            ablations["nfa_zeroed"] = contest.score(rows, rows, "zero soft tokens")
    if contest.encoder.prints_numbers:
        ablations["text_permuted"] = contest.score(exchanged, rows, "permute text")
    return ablations


def _write_scores(folder: Path, table: EventTable, scores: Scores) -> Path:
    file = folder / "scores.parquet"
    columns = {
        "event_id": table.event_id,
        "source": table.source.tolist(),
        "label": table.label,
        "score": scores,
        "probability": 1 / (1 + np.exp(-scores)),
    }
    write_table(file, columns)
    return file


def _draw(folder: Path, results: EvaluationResults) -> Sequence[Path]:
    pictures = {"sic.png": plot_sic, "roc.png": plot_roc, "scores.png": plot_scores}
    for name, draw in pictures.items():
        draw(results, folder / name)
    return [folder / name for name in pictures]
