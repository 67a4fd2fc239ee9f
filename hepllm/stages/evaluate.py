"""``hepllm eval``: scores a run on one or more sets, and writes tables and pictures."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hepllm.arrays import Floats
from hepllm.baselines.boosting import BOOSTING
from hepllm.baselines.stacking import STACK, describe_gain
from hepllm.config import Config, EvaluationConfig
from hepllm.data.dataset import Dataset, EventTable
from hepllm.data.views import balanced_view
from hepllm.errors import HepllmError, InputError
from hepllm.evaluation.assessment import EvaluationResults, evaluate_scores
from hepllm.evaluation.probabilities import (
    CalibrationRecord,
    Prior,
    check_calibration,
    choose_prior,
)
from hepllm.evaluation.records import ResultsRecord
from hepllm.evaluation.scores import ScoreTable
from hepllm.evaluation.seed_intervals import RunScores
from hepllm.executor import resolve_workers
from hepllm.files import locked, write_errors, write_text
from hepllm.physics.sources import MasterKey
from hepllm.pictures.reliability import plot_reliability
from hepllm.pictures.results import plot_roc, plot_scores, plot_sic
from hepllm.pictures.sculpting import plot_sculpting
from hepllm.provenance import present_date, this_call
from hepllm.report.records import LabelledMetrics, SetMetrics, TrainedOn, UnlabelledMetrics
from hepllm.report.sets import EvaluatedSet
from hepllm.runs.ablation import add_ablations
from hepllm.runs.asking import ask
from hepllm.runs.box_search import (
    UNBLINDING,
    box_of_run,
    forget_search,
    search_and_write,
    unblind,
    wants_search,
)
from hepllm.runs.by_signal import results_by_signal
from hepllm.runs.cascade import MODEL, RunCascade, open_cascade
from hepllm.runs.comparison import Contest, add_stack, name_retrained, score_retrained
from hepllm.runs.folder import Run, open_run
from hepllm.runs.kept_scores import KeptScores
from hepllm.runs.questions import Question, read_question
from hepllm.runs.run_baselines import RunBaselines
from hepllm.runs.run_model import RunModel
from hepllm.runs.samples import EvaluationSet, collect_sets
from hepllm.runs.score_files import CASCADED, RunCalibration, calibrate, write_scores
from hepllm.runs.sculpting import add_sculpting
from hepllm.runs.signals import open_signal_grid, score_signal_grid
from hepllm.schema import UNKNOWN
from hepllm.search.records import NoSearch
from hepllm.search.signal_grid import SignalGrid
from hepllm.stages.blackbox import open_blackbox

LOG = logging.getLogger(__name__)

METRICS, CURVES = "metrics.json", "curves.json"
"""Files with the numbers and curves of an evaluated set."""

_VALIDATION = " validation"
"""Key of the validation events among the sets, whose names never begin with a space."""


def evaluate(
    run_folder: Path,
    *,
    dataset: Path | None = None,
    blackbox: Path | None = None,
    all_blackboxes: bool = False,
    masterkey: MasterKey = None,
    compare: Sequence[Path] = (),
    beside: Sequence[Path] = (),
    config: Config | None = None,
    rescore: bool = False,
    hypothesis: str | None = None,
) -> list[EvaluatedSet]:
    """Evaluates a run, by default on the test split of the dataset that it was trained on.

    A run that was trained with hypotheses is evaluated without one, and on its test split also with
    each signal under its own.

    Args:
        run_folder: run made by ``hepllm train``.
        dataset: another dataset, evaluated on all events that the run has not seen.
        blackbox: black box, as an event file or a dataset.
        all_blackboxes: evaluate on the test split and on every other dataset in the folder of the
            training dataset.
        masterkey: labels of the black box, if it is an event file; None: those beside it, if there
            are any; ``none``: no labels.
        compare: runs of the same model trained with part of its input.
        beside: runs that are evaluated on the same sets, whose training and validation events are
            left out as well, so that all are measured on the same events.
        config: replaces the run's settings of ``evaluation``.
        rescore: score again also what is kept from earlier evaluations.
        hypothesis: hypothesis in words under which all events are scored, or ``own``; the name of
            the set then ends with it.

    Raises:
        InputError: if the run or a set cannot be used.
        ChunkError: if a worker that scores failed; what is scored is kept for the next evaluation.
        RunError: if results cannot be written, or another process evaluates the same set.
    """
    run = open_run(run_folder)
    config = config or run.config
    if config.evaluation.stack and config.evaluation.cascade is not None:
        raise InputError(
            "--stack needs the model's score of every event, which --cascade avoids; drop one"
        )
    run, *retrained_runs = (
        one.selecting(config.evaluation.select) for one in (run, *map(open_run, compare))
    )
    others = name_retrained(run, retrained_runs)
    sets = collect_sets(
        run,
        dataset=dataset,
        blackbox=open_blackbox(run, blackbox, masterkey),
        all_blackboxes=all_blackboxes,
        seen_by=[*others.values(), *map(open_run, beside)],
    )
    settings, seed = config.evaluation, config.seed
    signals = settings.search.signal_grid
    signal_grid = None if signals is None else open_signal_grid(run, Path(signals))
    searched = [chosen.name for chosen in sets if wants_search(settings.search, chosen)]
    threads = resolve_workers(config.train.threads)
    torch.set_num_threads(threads)
    asked = _asked(run, sets, hypothesis, seed, by_signal=settings.by_signal)
    names = [chosen.name for of_question in asked.values() for chosen in of_question]
    found: list[EvaluatedSet] = []
    with _locked_folders(run, names):
        kept = KeptScores.of(run, settings.scoring, threads=threads, rescore=rescore)
        model, baselines = (
            RunModel(run, settings.batch_size),
            RunBaselines.of(run, settings.baselines),
        )
        for question, of_question in asked.items():
            theirs = ask(model.of(run), question, kept)
            contest = Contest(settings, seed, theirs, kept)
            plan = _Plan(contest, kept, baselines, others, signal_grid, searched)
            found += _evaluate_sets(plan, of_question)
            model = theirs
    return found


def _asked(
    run: Run, sets: Sequence[EvaluationSet], text: str | None, seed: int, *, by_signal: bool
) -> dict[Question, list[EvaluationSet]]:
    """The sets by question, each under its name for that question."""
    trained = run.record.hypotheses
    question = read_question(text, trained, str(run.folder))
    asked = {question: [chosen.asked(question, seed) for chosen in sets]}
    own = [chosen for chosen in sets if not chosen.is_blind]  # the test split
    if text is None and trained is not None and own:
        each = Question(None)
        asked[each] = [chosen.asked(each, seed) for chosen in own]
    if by_signal and Question(None) not in asked:
        raise InputError(
            "--by-signal measures each signal under its own hypothesis: give --hypothesis own as "
            "well, or evaluate the test split of a run that was trained with hypotheses"
        )
    return asked


@dataclass(frozen=True)
class _Plan:
    """What sets are evaluated with.

    Attributes:
        contest: the run's classifier, without its cascade.
        kept: scores of earlier evaluations.
        baselines: the classifiers that it is compared with.
        others: runs to compare with, by name.
        signal_grid: signals of many masses, for limits by mass.
        searched: names of the sets in which a resonance is searched for, without a question.
    """

    contest: Contest
    kept: KeptScores
    baselines: RunBaselines
    others: Mapping[str, Run]
    signal_grid: Dataset | None
    searched: Sequence[str]


def _evaluate_sets(plan: _Plan, sets: Sequence[EvaluationSet]) -> list[EvaluatedSet]:
    """Evaluates sets for one question."""
    contest, baselines = plan.contest, plan.baselines
    run, settings = contest.run, contest.config
    searched = frozenset(f"{name}{run.question.suffix}" for name in plan.searched)
    validation = _validation_set(run)
    of_baselines = _score_baselines(plan, validation, sets)
    boosting = baselines.fitted(BOOSTING) if _needs_boosting(settings) else None
    contest = replace(contest, cascade=open_cascade(run, settings, boosting))
    inputs = {_VALIDATION: validation.inputs, **{chosen.name: chosen.inputs for chosen in sets}}
    retrained = score_retrained(plan.others, contest, inputs)
    cascade, grid = contest.cascade, None
    calibration = calibrate(run, settings.calibration) if cascade is None else cascade.calibration
    if plan.signal_grid is not None and searched:
        grid = _score_signal_grid(contest, plan.signal_grid)
    bench = _Bench(contest, validation.table, of_baselines, retrained, calibration, searched, grid)
    return [_evaluate_set(bench, chosen) for chosen in sets]


def _validation_set(run: Run) -> EvaluationSet:
    """The validation events of a run, for the question that it is asked."""
    names, constituents = run.config.train.feature_names(), run.config.fusion.constituents
    table = run.validation_table(names, particles=constituents)
    dataset = run.dataset()
    whole = EvaluationSet(_VALIDATION, table, dataset, is_blackbox=False, is_blind=False)
    return whole.asked(run.question, run.config.seed)


def _score_signal_grid(contest: Contest, dataset: Dataset) -> SignalGrid:
    """Scores signals of many masses by the run's classifier, and keeps the scores."""
    name = f"signal-grid-{dataset.folder.name}{contest.run.question.suffix}"
    return score_signal_grid(
        contest.run,
        dataset,
        lambda inputs: contest.measure(name, inputs).score,
        contest.config.search.mass,
    )


def _needs_boosting(settings: EvaluationConfig) -> bool:
    return settings.cascade is not None and BOOSTING in settings.baselines


@contextmanager
def _locked_folders(run: Run, names: Sequence[str]) -> Iterator[None]:
    """Makes the folders of the sets, and holds their locks, so that none is evaluated twice."""
    with ExitStack() as stack:
        for name in names:
            folder = run.folder / "eval" / name
            with write_errors(folder, "the results of an evaluation lie in the run folder"):
                folder.mkdir(parents=True, exist_ok=True)
            refusal = f"{folder}: another evaluation of this set is at work; wait until it ends"
            stack.enter_context(locked(folder, refusal))
        yield


def _score_baselines(
    plan: _Plan, validation: EvaluationSet, sets: Sequence[EvaluationSet]
) -> dict[str, dict[str, Floats]]:
    """Scores validation events and sets with labels; by name of the set and the baseline."""
    labelled = [chosen for chosen in sets if chosen.has_labels]
    if not labelled:
        return {}
    baselines, reread = plan.baselines, plan.contest.run.validation_table
    scores = {_VALIDATION: baselines.score(validation, reread, plan.kept)}
    for chosen in labelled:
        reread = functools.partial(chosen.reread, labels=False)
        scores[chosen.name] = baselines.score(chosen, reread, plan.kept)
    return scores


@dataclass(frozen=True)
class _Bench:
    """Everything that the evaluation of a set needs besides the set.

    Attributes:
        contest: the run's classifier and its cascade.
        validation: validation events, on which cuts are chosen.
        baselines: scores of the baselines, by name of a set with labels and of the baseline.
        retrained: scores of the runs to compare with, by name of the set and of the run.
        calibration: map from scores to probabilities.
        searched: names of the sets in which a resonance is searched for.
        grid: signals of many masses, for limits by mass.
    """

    contest: Contest
    validation: EventTable
    baselines: Mapping[str, Mapping[str, Floats]]
    retrained: Mapping[str, Mapping[str, Floats]]
    calibration: RunCalibration
    searched: frozenset[str]
    grid: SignalGrid | None


def _evaluate_set(bench: _Bench, chosen: EvaluationSet) -> EvaluatedSet:
    contest = bench.contest
    run, config, seed, cascade = contest.run, contest.config, contest.seed, contest.cascade
    folder = run.folder / "eval" / chosen.name
    measured = contest.measure(chosen.name, chosen.inputs)
    scores = measured.score
    chosen, of_search, search_files = _search_and_unblind(bench, chosen, scores, folder)
    prior = _choose_prior(bench, chosen, scores)
    files = [folder / METRICS, _write_scores(folder, bench, chosen, scores, prior)]
    results, curves, views, kept = None, None, dict[str, ResultsRecord](), None
    if not (chosen.table.label == UNKNOWN).any():
        results, views = _compare(bench, chosen, scores)
        curves = results.curves
        kept = RunScores(results, chosen.table.event_digest)
        curves.write(folder / CURVES, indent=None)
        files += [folder / CURVES, *_draw(folder, results, cascade)]
    calibration, pictures = _check_probabilities(folder, bench, results, prior)
    known = _describe(run, chosen, len(scores) / max(measured.seconds, 1e-9), prior) | of_search
    known["calibration"] = calibration
    if results is not None and run.question.hypothesis is None and contest.config.by_signal:
        known["by_signal"] = results_by_signal(contest, chosen, _tables(bench, chosen, scores)[1])
    if cascade is not None:
        record = None if results is None else results.record
        known["cascade"] = cascade.record(measured, chosen.table, record, config, seed)
    metrics = _metrics(results, views, known, len(scores))
    metrics.write(folder / METRICS)
    found = EvaluatedSet(chosen.name, metrics, curves, (*files, *search_files, *pictures), kept)
    write_text(folder / "table.txt", f"{found.text}\n")
    return found


def _search_and_unblind(
    bench: _Bench, chosen: EvaluationSet, scores: Floats, folder: Path
) -> tuple[EvaluationSet, dict[str, Any], Sequence[Path]]:
    """Searches a set, and reads its labels only when the submission is on the disk.

    Where the set cannot be searched, the record says why; its scores have other uses.

    Returns:
        The set with its labels, the keys of its record about the search, and written files.
    """
    contest, validation = bench.contest, bench.calibration.validation
    forget_search(folder)
    if chosen.name not in bench.searched:
        return chosen.with_labels(), {}, ()
    try:
        box = box_of_run(
            contest.run,
            contest.config,
            chosen,
            scores=scores,
            validation=validation,
            grid=bench.grid,
        )
        search, seed = contest.config.search, contest.seed
        submission, files = search_and_write(box, search, seed, folder)
    except HepllmError as error:
        LOG.warning("%s: no search: %s", chosen.name, error)
        return chosen.with_labels(), {"search": NoSearch(problem=str(error))}, ()
    labels_read = present_date()
    opened = chosen.with_labels()
    if not opened.has_labels:
        return opened, {"search": submission}, files
    unblinding = unblind(folder, box, opened.table.label, labels_read)
    files = (*files, folder / UNBLINDING)
    return opened, {"search": submission, "unblinding": unblinding}, files


def _metrics(
    results: EvaluationResults | None,
    views: Mapping[str, ResultsRecord],
    known: Mapping[str, Any],
    n_events: int,
) -> SetMetrics:
    """Makes the record of a set from its results and what is ``known`` about any set."""
    if results is None:
        return UnlabelledMetrics(n_events=n_events, n_signal=None, n_background=None, **known)
    contrasts = results.record.contrasts.items()
    gain = {pair.removeprefix(f"{STACK}-"): found.auc for pair, found in contrasts}
    stack = describe_gain(gain) if gain else None
    return LabelledMetrics(
        **dict(results.record), **known, views=views, stack=stack, sculpting=results.sculpting
    )


def _describe(run: Run, chosen: EvaluationSet, rate: float, prior: Prior) -> dict[str, Any]:
    """Which run and which events the numbers belong to."""
    config, n_train = run.config, run.record.n_train
    return {
        "run": run.folder.name,
        "trained_on": TrainedOn(dataset=run.record.dataset.name, **n_train),
        "backbone": config.backbone.name,
        "features": config.train.feature_names(),
        "prompt": config.prompt_layout,
        "fusion": config.fusion.enabled,
        "hypothesis": run.question.text,
        "n_excluded_as_seen": chosen.n_excluded,
        "select": None if run.selection is None else run.selection.text,
        "n_unselected": chosen.n_unselected,
        "events_per_second": rate,
        "probability_prior": prior.name,
        "made": this_call(),
    }


def _choose_prior(bench: _Bench, chosen: EvaluationSet, scores: Floats) -> Prior:
    contest, used, cascade = bench.contest, bench.calibration, bench.contest.cascade
    if cascade is not None:
        used, scores = cascade.prior_calibration, cascade.boosting.score(chosen.table.features)
    return choose_prior(
        contest.config,
        contest.run.config.train.balance,
        used.validation,
        (scores, chosen.table.weight),
    )


def _compare(
    bench: _Bench, chosen: EvaluationSet, scores: Floats
) -> tuple[EvaluationResults, dict[str, ResultsRecord]]:
    """Evaluates all classifiers on the set, and on its other views if the classes allow it."""
    config, seed, sample = bench.contest.config, bench.contest.seed, chosen.name
    test, cuts = _tables(bench, chosen, scores)
    pairs: tuple[tuple[str, str], ...] = ()
    if config.stack:
        test, cuts = add_stack(test, cuts, seed)
        pairs = ((STACK, MODEL), (STACK, BOOSTING))
    results = evaluate_scores(test, cuts, config, seed, sample=sample, pairs=pairs)
    results = add_sculpting(results, chosen, config.search, seed)
    if config.ablations and not chosen.is_blackbox:
        results = add_ablations(results, bench.contest, chosen, scores, cuts)
    names = config.views if results.model.problem is None else ()
    views = {}
    for view in names:
        if view != "natural":
            table = test.take(balanced_view(chosen.table.label, view, seed))
            found = evaluate_scores(table, cuts, config, seed, sample=sample, view=view)
            views[view] = found.record
    return results, views


def _tables(bench: _Bench, chosen: EvaluationSet, scores: Floats) -> tuple[ScoreTable, ScoreTable]:
    """Scores the set and the validation events by all classifiers."""
    contest, table, validation = bench.contest, chosen.table, bench.validation
    others = bench.retrained[chosen.name]
    test = ScoreTable(
        label=table.label,
        scores={MODEL: scores, **bench.baselines[chosen.name], **others},
        weight=table.weight,
        retrained=tuple(others),
    )
    cuts = ScoreTable(
        label=validation.label,
        scores={
            MODEL: contest.validation_scores(),
            **bench.baselines[_VALIDATION],
            **bench.retrained[_VALIDATION],
        },
        weight=validation.weight,
    )
    return test, cuts


def _check_probabilities(
    folder: Path, bench: _Bench, results: EvaluationResults | None, prior: Prior
) -> tuple[CalibrationRecord, list[Path]]:
    """Checks the probabilities against labels, and draws the reliability."""
    calibration, check, own = bench.calibration.map, None, None
    if results is not None:
        own = float(np.mean(results.model.is_signal))
        check = check_calibration(calibration, prior, results.model, bench.contest.seed)
    pictures = []
    if check is not None:
        pictures.append(folder / "reliability.png")
        title = f"{folder.name} sample, calibration: {calibration.method}"
        plot_reliability(check, title, pictures[0])
    return CalibrationRecord.of(calibration, prior, check, own), pictures


def _write_scores(
    folder: Path, bench: _Bench, chosen: EvaluationSet, scores: Floats, prior: Prior
) -> Path:
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
    write_scores(folder / "scores.parquet", columns, prior.name, bench.contest.run.question.text)
    return folder / "scores.parquet"


def _draw(folder: Path, results: EvaluationResults, cascade: RunCascade | None) -> Sequence[Path]:
    files = [folder / name for name in ("sic.png", "roc.png", "scores.png")]
    plot_sic(results, files[0], -math.inf if cascade is None else cascade.cut.floor)
    plot_roc(results, files[1])
    plot_scores(results, files[2])
    sculpted = folder / "sculpting.png"
    sculpted.unlink(missing_ok=True)
    if plot_sculpting(results, sculpted):
        files.append(sculpted)
    return files
