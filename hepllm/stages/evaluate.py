"""``hepllm eval``: scores of a run on one or more sets, with tables and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hepllm.arrays import Floats
from hepllm.baselines.boosting import BOOSTING
from hepllm.baselines.stacking import STACK, describe_gain
from hepllm.config import Config, PreprocessConfig
from hepllm.data.dataset import Dataset, EventTable, read_dataset
from hepllm.data.views import balanced_view
from hepllm.errors import InputError
from hepllm.evaluation.assessment import evaluate_scores
from hepllm.evaluation.cascade import CascadeRecord, cuts_beyond
from hepllm.evaluation.curves import CurvesRecord
from hepllm.evaluation.probabilities import (
    CalibrationRecord,
    Prior,
    check_calibration,
    choose_prior,
)
from hepllm.evaluation.records import ResultsRecord
from hepllm.evaluation.results import EvaluationResults, ScoreTable
from hepllm.executor import resolve_workers
from hepllm.files import write_text
from hepllm.model.inputs import ModelInputs
from hepllm.pictures.reliability import plot_reliability
from hepllm.pictures.results import plot_roc, plot_scores, plot_sic
from hepllm.provenance import this_call
from hepllm.report.records import LabelledMetrics, SetMetrics, TrainedOn, UnlabelledMetrics
from hepllm.report.sets import result_section
from hepllm.report.text import as_text
from hepllm.runs.box_search import forget_search, search_blackbox, wants_search
from hepllm.runs.cascade import MODEL, CascadeScores, RunCascade, open_cascade
from hepllm.runs.comparison import (
    Contest,
    add_stack,
    fit_baselines_of,
    name_retrained,
    score_retrained,
)
from hepllm.runs.folder import Run, open_run
from hepllm.runs.samples import EvaluationSet, collect_sets
from hepllm.runs.score_files import CASCADED, RunCalibration, calibrate, write_scores
from hepllm.runs.set_report import SetReport
from hepllm.schema import UNKNOWN
from hepllm.stages.preprocess import preprocess

METRICS, CURVES = "metrics.json", "curves.json"
"""What an evaluated set is recorded in."""

_VALIDATION = " validation"
"""Key of the validation events beside the sets; no folder begins with a space."""


def evaluate(
    run_folder: Path,
    *,
    dataset: Path | None = None,
    blackbox: Path | None = None,
    all_blackboxes: bool = False,
    masterkey: Path | None = None,
    compare: Sequence[Path] = (),
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
        compare: runs of the same model trained with part of its input, to be reported beside it.
        config: settings in place of the run's own, of which ``evaluation`` counts.

    Raises:
        InputError: if the run or a set cannot be used.
    """
    run = open_run(run_folder)
    config = config or run.config
    if config.evaluation.stack and config.evaluation.cascade is not None:
        raise InputError(
            "--stack needs the model's score of every event, which --cascade saves; drop one"
        )
    others = name_retrained(run, [open_run(folder) for folder in compare])
    sets = collect_sets(
        run,
        dataset=dataset,
        blackbox=_open_blackbox(run, blackbox, masterkey),
        all_blackboxes=all_blackboxes,
        seen_by=list(others.values()),
    )
    settings, seed = config.evaluation, config.seed
    searched = frozenset(chosen.name for chosen in sets if wants_search(settings.search, chosen))
    torch.set_num_threads(resolve_workers(config.train.threads))
    validation = run.validation_table(run.config.train.feature_names())
    tables = {_VALIDATION: validation, **{chosen.name: chosen.table for chosen in sets}}
    baselines = fit_baselines_of(run, settings.baselines, seed)
    cascade = open_cascade(run, settings, seed, baselines.get(BOOSTING))
    retrained = score_retrained(others, settings, seed, tables, cascade)
    contest = Contest(run, settings, seed, *run.load_classifier(), baselines, cascade)
    calibration = calibrate(run, settings.calibration) if cascade is None else cascade.calibration
    bench = _Bench(contest, validation, retrained, calibration, searched)
    return [_report(bench, chosen) for chosen in sets]


def _open_blackbox(run: Run, path: Path | None, masterkey: Path | None) -> Dataset | None:
    """A dataset, or an event file that is clustered as the training events were."""
    if path is None:
        if masterkey is not None:
            raise InputError("--masterkey belongs to --blackbox FILE")
        return None
    if path.is_dir():
        if masterkey is not None:
            raise InputError(f"{path}: a dataset holds its labels; give --masterkey to preprocess")
        return read_dataset(path)
    if not path.exists():
        raise InputError(f"{path}: no such black box")
    # What decides the contents comes from the training dataset, whatever the run's config says.
    content = run.dataset().manifest.config["preprocess"] | {"select": None}
    settings = run.config.preprocess.model_dump() | content
    config = run.config.model_copy(update={"preprocess": PreprocessConfig.model_validate(settings)})
    output = run.folder / "eval" / path.stem / path.stem
    made = preprocess([path], output, config, masterkey=masterkey, overwrite=True)
    return made[0].dataset


@dataclass(frozen=True)
class _Bench:
    """All that a set meets: who competes, on what cuts are chosen, what scores mean.

    ``searched`` names the sets in which a resonance is looked for.
    """

    contest: Contest
    validation: EventTable
    retrained: Mapping[str, Mapping[str, Floats]]
    calibration: RunCalibration
    searched: frozenset[str]


def _report(bench: _Bench, chosen: EvaluationSet) -> SetReport:
    contest, folder = bench.contest, bench.contest.run.folder / "eval" / chosen.name
    folder.mkdir(parents=True, exist_ok=True)
    rows = chosen.table.features
    measured = contest.measure(ModelInputs(rows), f"score {chosen.name}")
    scores = measured.score
    prior = _choose_prior(bench, chosen, scores)
    files = [_write_scores(bench, chosen, scores, prior)]
    results, curves = None, None
    views: list[EvaluationResults] = []
    if not (chosen.table.label == UNKNOWN).any():
        results, views = _compare(bench, chosen, scores)
        curves = CurvesRecord.of(results)
        curves.write(folder / CURVES, indent=None)
        files += [folder / CURVES, *_draw(folder, results, contest.cascade)]
    calibration, pictures = _judge_probabilities(bench, chosen, results, prior)
    known = _describe(contest.run, chosen, len(rows) / measured.seconds, prior)
    known["calibration"] = calibration
    if contest.cascade is not None:
        known["cascade"] = _judge_cascade(contest, contest.cascade, chosen, measured, results)
    forget_search(folder)
    if chosen.name in bench.searched:
        known["search"], written = search_blackbox(
            contest.run,
            contest.config,
            contest.seed,
            chosen,
            scores=scores,
            validation=bench.calibration.validation,
            folder=folder,
        )
        files += written
    metrics = _metrics(chosen, results, views, known)
    text = as_text(result_section(chosen.name, metrics))
    metrics.write(folder / METRICS)
    write_text(folder / "table.txt", f"{text}\n")
    return SetReport(chosen.name, metrics, text, (folder / METRICS, *files, *pictures), curves)


def _metrics(
    chosen: EvaluationSet,
    results: EvaluationResults | None,
    views: Sequence[EvaluationResults],
    known: Mapping[str, Any],
) -> SetMetrics:
    """The record of a set.

    Args:
        chosen: the set.
        results: of the set as it is; None without labels.
        views: of its other views.
        known: what is recorded about any set.
    """
    if results is None:
        n_events = len(chosen.table)
        return UnlabelledMetrics(n_events=n_events, n_signal=None, n_background=None, **known)
    gain = {pair[1]: found["auc"] for pair, found in results.contrasts.items()}
    return LabelledMetrics.of_results(
        results,
        views={view.view: ResultsRecord.of_results(view) for view in views},
        stack=describe_gain(gain) if gain else None,
        **known,
    )


def _describe(run: Run, chosen: EvaluationSet, rate: float, prior: Prior) -> dict[str, Any]:
    """What the numbers belong to."""
    config, n_train = run.config, run.record.n_train
    return {
        "run": run.folder.name,
        "trained_on": TrainedOn(dataset=run.record.dataset.name, **n_train),
        "backbone": config.backbone.name,
        "features": config.train.feature_names(),
        "prompt": config.prompt_layout,
        "fusion": config.fusion.enabled,
        "n_excluded_as_seen": chosen.n_excluded,
        "events_per_second": rate,
        "probability_prior": prior.name,
        "made": this_call(),
    }


def _choose_prior(bench: _Bench, chosen: EvaluationSet, scores: Floats) -> Prior:
    contest, used = bench.contest, bench.calibration
    cascade = contest.cascade
    if cascade is not None:
        used, scores = cascade.prior_calibration, cascade.boosting.score(chosen.table.features)
    return choose_prior(
        contest.config,
        contest.run.config.train.balance,
        used.map,
        used.validation,
        (scores, chosen.table.weight),
        seed=contest.seed,
    )


def _compare(
    bench: _Bench, chosen: EvaluationSet, scores: Floats
) -> tuple[EvaluationResults, list[EvaluationResults]]:
    """Results of the set as it is, and of its other views."""
    contest, table, validation = bench.contest, chosen.table, bench.validation
    config, seed = contest.config, contest.seed
    others = bench.retrained[chosen.name]
    test = ScoreTable(
        label=table.label,
        scores={MODEL: scores, **contest.score_baselines(table.features), **others},
        ablations=contest.ablate(ModelInputs(table.features))
        if config.ablations and not chosen.is_blackbox
        else {},
        weight=table.weight,
        retrained=tuple(others),
    )
    cuts = ScoreTable(
        label=validation.label,
        scores={
            MODEL: contest.validation_scores(),
            **contest.score_baselines(validation.features),
            **bench.retrained[_VALIDATION],
        },
        weight=validation.weight,
    )
    pairs: tuple[tuple[str, str], ...] = ()
    if config.stack:
        test, cuts = add_stack(test, cuts, seed)
        pairs = ((STACK, MODEL), (STACK, BOOSTING))
    whole = evaluate_scores(test, cuts, config, seed, sample=chosen.name, pairs=pairs)
    views = [
        evaluate_scores(
            test.take(balanced_view(table.label, view, seed)),
            cuts,
            config,
            seed,
            sample=chosen.name,
            view=view,
        )
        for view in config.views
        if view != "natural" and whole.model.events.problem is None
    ]
    return whole, views


def _judge_probabilities(
    bench: _Bench, chosen: EvaluationSet, results: EvaluationResults | None, prior: Prior
) -> tuple[CalibrationRecord, list[Path]]:
    """How well the probabilities hold, and pictures of it."""
    calibration, seed = bench.calibration.map, bench.contest.seed
    events = None if results is None else results.model.events
    own = None if events is None else float(np.mean(events.is_signal))
    check = None if events is None else check_calibration(calibration, prior, events, seed)
    pictures: list[Path] = []
    if check is not None:
        pictures = [bench.contest.run.folder / "eval" / chosen.name / "reliability.png"]
        title = f"{chosen.name} sample, calibration: {calibration.method}"
        plot_reliability(check, title, pictures[0])
    return CalibrationRecord.of(calibration, prior, check, own), pictures


def _judge_cascade(
    contest: Contest,
    cascade: RunCascade,
    chosen: EvaluationSet,
    measured: CascadeScores,
    results: EvaluationResults | None,
) -> CascadeRecord:
    """What the cascade saved and may have lost."""
    use = cascade.use(measured, chosen.table, contest.config.confidence)
    if results is not None:
        use = replace(use, beyond=cuts_beyond(cascade.cut, results))
    return CascadeRecord.of(cascade.cut, cascade.loss(contest.config, contest.seed), use)


def _write_scores(bench: _Bench, chosen: EvaluationSet, scores: Floats, prior: Prior) -> Path:
    file = bench.contest.run.folder / "eval" / chosen.name / "scores.parquet"
    table, cascade = chosen.table, bench.contest.cascade
    columns: dict[str, object] = {
        "event_id": table.event_id,
        "source": table.source.tolist(),
        "label": table.label,
        "score": scores,
        "probability": bench.calibration.map.probabilities(scores, prior.fraction),
    }
    if cascade is not None:
        columns[CASCADED] = cascade.cut.is_cascaded(scores)
    write_scores(file, columns, prior.name)
    return file


def _draw(folder: Path, results: EvaluationResults, cascade: RunCascade | None) -> Sequence[Path]:
    files = [folder / name for name in ("sic.png", "roc.png", "scores.png")]
    plot_sic(results, files[0], -math.inf if cascade is None else cascade.cut.floor)
    plot_roc(results, files[1])
    plot_scores(results, files[2])
    return files
