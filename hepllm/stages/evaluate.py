"""``hepllm eval``: scores a run on one or more sets, and writes tables and pictures."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from hepllm.arrays import Floats
from hepllm.baselines.boosting import BOOSTING
from hepllm.config import Config, EvaluationConfig, PreprocessConfig
from hepllm.data.dataset import Dataset
from hepllm.errors import InputError
from hepllm.executor import resolve_threads
from hepllm.files import locked, write_errors
from hepllm.physics.sources import MasterKey
from hepllm.report.sets import EvaluatedSet
from hepllm.runs.asking import ask
from hepllm.runs.box_search import (
    wants_search,
)
from hepllm.runs.cascade import open_cascade
from hepllm.runs.comparison import Contest, name_retrained, score_retrained
from hepllm.runs.ensemble_model import open_model
from hepllm.runs.folder import Run, open_run, tell_classes
from hepllm.runs.kept_scores import KeptScores
from hepllm.runs.questions import Question
from hepllm.runs.run_baselines import RunBaselines
from hepllm.runs.samples import EvaluationSet, collect_sets
from hepllm.runs.score_files import calibrate
from hepllm.runs.set_results import VALIDATION, Bench, evaluate_set, validation_set
from hepllm.runs.signals import open_signal_grid, score_signal_grid
from hepllm.search.signal_grid import SignalGrid
from hepllm.stages.blackbox import open_blackbox


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
    reading: PreprocessConfig | None = None,
    rescore: bool = False,
    hypotheses: Sequence[str] = (),
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
        reading: how a black box that is an event file is read; None: as the training events were.
        rescore: score again also what is kept from earlier evaluations.
        hypotheses: hypotheses in words, or ``own``, under each of which all events are scored; the
            name of the set then ends with it.

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
    model = open_model(run, config.evaluation.batch_size)  # before a black box is clustered
    tell_classes(run)
    sets = collect_sets(
        run,
        dataset=dataset,
        blackbox=open_blackbox(run, blackbox, masterkey, reading),
        all_blackboxes=all_blackboxes,
        seen_by=[*others.values(), *map(open_run, beside)],
    )
    settings, seed = config.evaluation, config.seed
    signals = settings.search.signal_grid
    signal_grid = None if signals is None else open_signal_grid(run, Path(signals))
    searched = [chosen.name for chosen in sets if wants_search(settings.search, chosen)]
    threads = resolve_threads(config.train.threads)
    torch.set_num_threads(threads)
    asked = _asked(run, sets, hypotheses, seed, by_signal=settings.by_signal)
    names = [chosen.name for of_question in asked.values() for chosen in of_question]
    found: list[EvaluatedSet] = []
    with _locked_folders(run, names):
        kept = KeptScores.of(run, settings.scoring, threads=threads, rescore=rescore)
        members = {one.name for one in run.record.members}
        baselines = RunBaselines.of(
            run, [name for name in settings.baselines if name not in members]
        )
        for question, of_question in asked.items():
            theirs = ask(model.of(run), question, kept)
            contest = Contest(settings, seed, theirs, kept)
            plan = _Plan(contest, kept, baselines, others, signal_grid, searched)
            found += _evaluate_sets(plan, of_question)
            model = theirs
    return found


def _asked(
    run: Run,
    sets: Sequence[EvaluationSet],
    texts: Sequence[str],
    seed: int,
    *,
    by_signal: bool,
) -> dict[Question, list[EvaluationSet]]:
    """The sets by question, each under its name for that question."""
    trained = run.record.hypotheses
    asked: dict[Question, list[EvaluationSet]] = {}
    stated: dict[str, str | None] = {}
    for text in texts or (None,):
        question = run.read_question(text)
        if question.suffix in stated:
            same = stated[question.suffix]
            raise InputError(f"--hypothesis {text!r} states the same as {same!r}; give it once")
        stated[question.suffix] = text
        asked[question] = [chosen.asked(question, seed) for chosen in sets]
    own = [chosen for chosen in sets if not chosen.is_blind]  # the test split
    if not texts and trained is not None and own:
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
    validation = validation_set(run)
    of_baselines = _score_baselines(plan, validation, sets)
    boosting = baselines.fitted(BOOSTING) if _needs_boosting(settings) else None
    contest = replace(contest, cascade=open_cascade(run, settings, boosting))
    inputs = {VALIDATION: validation.inputs, **{chosen.name: chosen.inputs for chosen in sets}}
    retrained = score_retrained(plan.others, contest, inputs)
    cascade, grid = contest.cascade, None
    calibration = calibrate(run, settings.calibration) if cascade is None else cascade.calibration
    if plan.signal_grid is not None and searched:
        grid = _score_signal_grid(contest, plan.signal_grid)
    bench = Bench(contest, validation.table, of_baselines, retrained, calibration, searched, grid)
    return [evaluate_set(bench, chosen) for chosen in sets]


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
    scores = {VALIDATION: baselines.score(validation, reread, plan.kept)}
    for chosen in labelled:
        reread = functools.partial(chosen.reread, labels=False)
        scores[chosen.name] = baselines.score(chosen, reread, plan.kept)
    return scores
