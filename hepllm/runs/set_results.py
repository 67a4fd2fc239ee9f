"""One set of events, scored, searched and compared; its results in the run folder."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hepllm.arrays import Floats
from hepllm.baselines.boosting import BOOSTING
from hepllm.baselines.stacking import STACK, describe_gain
from hepllm.data.event_table import EventTable
from hepllm.data.views import balanced_view
from hepllm.errors import HepllmError
from hepllm.evaluation.assessment import EvaluationResults, evaluate_scores
from hepllm.evaluation.averaging import SPREAD, combine
from hepllm.evaluation.cascade import CascadeScores
from hepllm.evaluation.probabilities import (
    CalibrationCheck,
    CalibrationRecord,
    Prior,
    check_calibration,
    choose_prior,
)
from hepllm.evaluation.records import ResultsRecord
from hepllm.evaluation.scores import ScoreTable
from hepllm.evaluation.seed_intervals import RunScores
from hepllm.files import write_text
from hepllm.pictures.reliability import plot_reliability
from hepllm.pictures.results import plot_roc, plot_scores, plot_sic
from hepllm.pictures.sculpting import plot_sculpting
from hepllm.provenance import present_date, this_call
from hepllm.report.records import LabelledMetrics, SetMetrics, TrainedOn, UnlabelledMetrics
from hepllm.report.sets import EvaluatedSet
from hepllm.runs import CURVES, METRICS
from hepllm.runs.ablation import add_ablations
from hepllm.runs.box_search import (
    UNBLINDING,
    FoundInBoxes,
    box_of_run,
    forget_search,
    search_and_write,
    unblind,
)
from hepllm.runs.by_signal import results_by_signal
from hepllm.runs.cascade import RunCascade
from hepllm.runs.comparison import Contest, add_stack
from hepllm.runs.folder import Run
from hepllm.runs.samples import EvaluationSet
from hepllm.runs.score_files import CASCADED, RunCalibration, write_scores
from hepllm.runs.sculpting import add_sculpting
from hepllm.runs.top_events import draw_top_events
from hepllm.schema import UNKNOWN
from hepllm.search.records import NoSearch
from hepllm.search.signal_grid import SignalGrid

LOG = logging.getLogger(__name__)

VALIDATION = " validation"
"""Key of the validation events among the sets, whose names never begin with a space."""


@dataclass(frozen=True)
class Bench:
    """Everything that the evaluation of a set needs besides the set.

    Attributes:
        contest: the run's classifier and its cascade.
        validation: validation events, on which cuts are chosen.
        baselines: scores of the baselines, by name of a set with labels and of the baseline.
        retrained: scores of the runs to compare with, by name of the set and of the run.
        calibration: map from scores to probabilities.
        searched: names of the sets in which a resonance is searched for.
        grid: signals of many masses, for limits by mass.
        found: what was found in the boxes that were searched.
    """

    contest: Contest
    validation: EventTable
    baselines: Mapping[str, Mapping[str, Floats]]
    retrained: Mapping[str, Mapping[str, Floats]]
    calibration: RunCalibration
    searched: frozenset[str]
    grid: SignalGrid | None
    found: FoundInBoxes = field(default_factory=FoundInBoxes)


def validation_set(run: Run) -> EvaluationSet:
    """The validation events of a run, for the question that it is asked."""
    names, constituents = run.config.train.feature_names(), run.config.fusion.constituents
    table = run.validation_table(names, particles=constituents)
    dataset = run.dataset()
    whole = EvaluationSet(VALIDATION, table, dataset, is_blackbox=False, is_blind=False)
    return whole.asked(run.question, run.config.seed)


def evaluate_set(bench: Bench, chosen: EvaluationSet) -> EvaluatedSet:
    """Scores a set, searches it where it is to be searched, and writes all results.

    Raises:
        ChunkError: if a worker that scores failed.
        RunError: if results cannot be written.
    """
    contest = bench.contest
    run, config, seed, cascade = contest.run, contest.config, contest.seed, contest.cascade
    folder = run.folder / "eval" / chosen.name
    measured = contest.measure(chosen.name, chosen.inputs)
    scores, members = measured.score, measured.members
    chosen, of_search, search_files = _search_and_unblind(bench, chosen, scores, folder)
    prior = _choose_prior(bench, chosen, scores)
    files = [folder / METRICS, _write_scores(folder, bench, chosen, measured, prior)]
    files += draw_top_events(chosen, scores, folder)
    results, curves, views, kept = None, None, dict[str, ResultsRecord](), None
    if not (chosen.table.label == UNKNOWN).any():
        results, views = _compare(bench, chosen, scores, members)
        curves = results.curves
        kept = RunScores(results, chosen.table.event_digest)
        curves.write(folder / CURVES, indent=None)
        files += [folder / CURVES, *_draw(folder, results, cascade)]
    calibration, pictures = _check_probabilities(folder, bench, results, prior)
    known = _describe(run, chosen, len(scores) / max(measured.seconds, 1e-9), prior) | of_search
    known["calibration"] = calibration
    if results is not None and run.question.hypothesis is None and contest.config.by_signal:
        known["by_signal"] = results_by_signal(
            contest, chosen, _tables(bench, chosen, scores, members)[1]
        )
    if cascade is not None:
        record = None if results is None else results.record
        known["cascade"] = cascade.record(measured, chosen.table, record, config, seed)
    metrics = _metrics(results, views, known, len(scores))
    metrics.write(folder / METRICS)
    found = EvaluatedSet(chosen.name, metrics, curves, (*files, *search_files, *pictures), kept)
    write_text(folder / "table.txt", f"{found.text}\n")
    return found


def _search_and_unblind(
    bench: Bench, chosen: EvaluationSet, scores: Floats, folder: Path
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
        submission, files = search_and_write(box, search, seed, folder, bench.found)
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
        "weak": run.record.weak,
        "n_excluded_as_seen": chosen.n_excluded,
        "select": None if run.selection is None else run.selection.text,
        "n_unselected": chosen.n_unselected,
        "events_per_second": rate,
        "probability_prior": prior.name,
        "made": this_call(),
    }


def _choose_prior(bench: Bench, chosen: EvaluationSet, scores: Floats) -> Prior:
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
    bench: Bench, chosen: EvaluationSet, scores: Floats, members: Mapping[str, Floats]
) -> tuple[EvaluationResults, dict[str, ResultsRecord]]:
    """Evaluates all classifiers on the set, and on its other views if the classes allow it."""
    config, seed, sample = bench.contest.config, bench.contest.seed, chosen.name
    test, cuts = _tables(bench, chosen, scores, members)
    pairs: tuple[tuple[str, str], ...] = ()
    if config.stack:
        model = bench.contest.shown
        test, cuts = add_stack(test, cuts, seed, model)
        pairs = ((STACK, model), (STACK, BOOSTING))
    results = evaluate_scores(test, cuts, config, seed, sample=sample, pairs=pairs)
    results = add_sculpting(results, chosen, config.search, seed)
    if config.ablations and bench.contest.run.is_ensemble:
        LOG.warning("%s: an ensemble has no ablations; evaluate a member for them", sample)
    elif config.ablations and not chosen.is_blackbox:
        results = add_ablations(results, bench.contest, chosen, scores, cuts)
    names = config.views if results.model.problem is None else ()
    views = {}
    for view in names:
        if view != "natural":
            table = test.take(balanced_view(chosen.table.label, view, seed))
            found = evaluate_scores(table, cuts, config, seed, sample=sample, view=view)
            views[view] = found.record
    return results, views


def _tables(
    bench: Bench, chosen: EvaluationSet, scores: Floats, members: Mapping[str, Floats]
) -> tuple[ScoreTable, ScoreTable]:
    """Scores the set and the validation events by all classifiers.

    Members of an ensemble are compared with it as baselines are, but not behind a cascade.
    """
    contest, table, validation = bench.contest, chosen.table, bench.validation
    others, of_validation = bench.retrained[chosen.name], contest.run.validation_members()
    if contest.cascade is not None:
        members, of_validation = {}, {}
    test = ScoreTable(
        label=table.label,
        scores={contest.shown: scores, **bench.baselines[chosen.name], **members, **others},
        weight=table.weight,
        retrained=tuple(others),
    )
    cuts = ScoreTable(
        label=validation.label,
        scores={
            contest.shown: contest.validation_scores(),
            **bench.baselines[VALIDATION],
            **of_validation,
            **bench.retrained[VALIDATION],
        },
        weight=validation.weight,
    )
    return test, cuts


def _check_probabilities(
    folder: Path, bench: Bench, results: EvaluationResults | None, prior: Prior
) -> tuple[CalibrationRecord, list[Path]]:
    """Checks the probabilities against labels, and draws the reliability."""
    calibration, check, own = bench.calibration.map, None, None
    if results is not None:
        own = float(np.mean(results.model.is_signal))
        check = check_calibration(calibration, prior, results.model, bench.contest.seed)
    pictures = []
    if check is not None:
        _warn_of_probabilities(folder.name, check)
        pictures.append(folder / "reliability.png")
        title = f"{folder.name} sample, calibration: {calibration.method}"
        plot_reliability(check, title, pictures[0])
    return CalibrationRecord.of(calibration, prior, check, own), pictures


def _warn_of_probabilities(name: str, check: CalibrationCheck) -> None:
    if check.is_worse:
        LOG.warning(
            "%s: calibration makes the probabilities worse (expected calibration error %.4f, %.4f "
            "without it): its classes are not distributed as in the validation data; "
            "evaluation.calibration=none leaves the scores as they are",
            name,
            check.calibrated.ece,
            check.uncalibrated.ece,
        )
    elif check.is_off:
        top = check.top[0] if check.top else None
        LOG.warning(
            "%s: do not trust the probabilities here (expected calibration error %.4f, %.4f if "
            "they were exact%s): its classes are not distributed as in the validation data, as "
            "under a hypothesis of another signal; the order of the scores is not affected",
            name,
            check.calibrated.ece,
            check.calibrated.ece_if_perfect,
            ""
            if top is None
            else f"; {top.observed:.3g} signal events among the highest scores, "
            f"{top.expected:.3g} expected",
        )


def _write_scores(
    folder: Path, bench: Bench, chosen: EvaluationSet, measured: CascadeScores, prior: Prior
) -> Path:
    table, cascade, scores = chosen.table, bench.contest.cascade, measured.score
    columns: dict[str, object] = {
        "event_id": table.event_id,
        "source": table.source.tolist(),
        "label": table.label,
        "score": scores,
        "probability": bench.calibration.map.probabilities(scores, prior.fraction),
    }
    if measured.members:
        columns[SPREAD] = combine(measured.members)[1]
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
