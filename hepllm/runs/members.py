"""The members of an ensemble: several runs, and baselines of the first, on the same events."""

from __future__ import annotations

import functools
import gc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hepllm.arrays import Digests, Floats, Labels
from hepllm.baselines.fitting import BASELINES, OWN_FEATURES
from hepllm.baselines.particles import PARTICLES
from hepllm.config import EvaluationConfig
from hepllm.data.notes import find_events
from hepllm.errors import InputError
from hepllm.evaluation.averaging import ENSEMBLE
from hepllm.evaluation.calibration import Calibration
from hepllm.evaluation.scores import ScoredEvents
from hepllm.model.backbone import check_backbone
from hepllm.runs.cascade import MODEL
from hepllm.runs.folder import Run
from hepllm.runs.kept_scores import KeptScores
from hepllm.runs.run_baselines import RunBaselines
from hepllm.runs.run_model import PieceScorer, RunModel
from hepllm.runs.samples import EvaluationSet, collect_sets
from hepllm.runs.score_files import calibrate, calibrate_scores
from hepllm.runs.set_results import validation_set


@dataclass(frozen=True, eq=False)
class Member:
    """A classifier with calibrated logits of N events and of the M that it was validated on.

    Attributes:
        name: its name in tables.
        run: its run, or the one whose training events a baseline was fitted to.
        baseline: name of the baseline; None for the run itself.
        calibration: map from its scores to logits.
        logits: shape (N,), valid for the prior of the ensemble.
        validation: the same of its validation events, shape (M,).
        validated_on: digests of these, shape (M,).
    """

    name: str
    run: Run
    baseline: str | None
    calibration: Calibration
    logits: Floats
    validation: Floats
    validated_on: Digests


@dataclass(frozen=True, eq=False)
class Validation:
    """Validation events that all K members share.

    Attributes:
        logits: calibrated logits, shape (K, M).
        label: labels, shape (M,).
        weight: weights, shape (M,).
    """

    logits: Floats
    label: Labels
    weight: Floats


@dataclass(frozen=True, eq=False)
class Members:
    """The members of an ensemble on one set of events.

    Attributes:
        chosen: the events, without those that a member has seen; labels may not be read yet.
        prior: signal fraction for which all logits are valid.
        members: the members, runs first.
    """

    chosen: EvaluationSet
    prior: float
    members: tuple[Member, ...]

    def shared_validation(self) -> Validation:
        """The validation events that all members have; there may be none."""
        first, *others = self.members
        shared = np.ones(len(first.validated_on), dtype=np.bool_)
        for other in others:
            shared &= np.isin(first.validated_on, other.validated_on)
        digests = first.validated_on[shared]
        rows = [find_events(digests, one.validated_on) for one in self.members]
        logits = [one.validation[place] for one, place in zip(self.members, rows, strict=True)]
        label, weight = first.run.validation_labels()
        return Validation(np.stack(logits), label[rows[0]], weight[rows[0]])


def score_members(
    runs: Sequence[Run],
    baselines: Sequence[str],
    dataset: Path | None,
    settings: EvaluationConfig,
    *,
    threads: int,
) -> Members:
    """Scores the same events by each run, and by baselines of the first one.

    Scores that a run has kept are not computed again, and new ones are kept.

    Args:
        runs: the runs.
        baselines: names of baselines that are fitted to the training events of the first run.
        dataset: dataset of the events; None for the test split that the runs share.
        settings: calibration, selection, and where events are scored.
        threads: threads of torch in this process.

    Raises:
        InputError: if the runs cannot be joined, or one cannot score the events.
        ChunkError: if a worker that scores failed; what is scored is kept.
    """
    runs = [run.selecting(settings.select) for run in runs]
    for run in runs:
        check_backbone(run.config.backbone)
    _check_joinable(runs, baselines, dataset)
    sets = [_open_set(run, runs, dataset) for run in runs]
    for run, one in zip(runs, sets, strict=True):
        if not np.array_equal(one.table.event_digest, sets[0].table.event_digest):
            raise InputError(
                f"{run.folder}: reads other events of {one.name} than {runs[0].folder}"
            )
    first = calibrate(runs[0], settings.calibration).map
    names = name_members([run.folder for run in runs], baselines)
    members = [
        _score_run(run, one, name, settings, (first.prior, threads))
        for run, one, name in zip(runs, sets, names, strict=True)
    ]
    if baselines:
        members += _score_baselines(runs[0], sets[0], baselines, settings, first.prior)
    return Members(sets[0], first.prior, tuple(members))


def name_members(folders: Sequence[Path], reserved: Sequence[str]) -> list[str]:
    """Names runs by their folders, with as many parents as tell them apart.

    Raises:
        InputError: if a run is given twice.
    """
    whole = [folder.resolve() for folder in folders]
    for folder, path in zip(folders, whole, strict=True):
        if whole.count(path) > 1:
            raise InputError(f"{folder}: given twice, so it would count twice; give each run once")
    depth = 1
    while True:
        names = ["-".join(path.parts[1:][-depth:]) for path in whole]
        counts = Counter([*names, *reserved, ENSEMBLE])
        if all(counts[name] == 1 for name in names):
            return names
        if depth > max(len(path.parts) for path in whole):
            raise InputError(f"{folders[0]}: rename it; its name has another meaning in tables")
        depth += 1


def _check_joinable(runs: Sequence[Run], baselines: Sequence[str], dataset: Path | None) -> None:
    """Refuses runs of which the mean would mean nothing, or that share no test split."""
    first, known = runs[0], (*BASELINES, PARTICLES)
    if unknown := [name for name in baselines if name not in known]:
        raise InputError(f"no baseline '{unknown[0]}'; there are {', '.join(known)}")
    safety = {str(run.folder): run.is_search_safe for run in runs}
    features = first.config.train.feature_names()
    for name in baselines:
        own = OWN_FEATURES.get(name, features)
        safety[f"the baseline {name}"] = first.config.preprocess.is_search_safe(own)
    unsafe = [name for name, is_safe in safety.items() if not is_safe]
    if unsafe and len(unsafe) < len(safety):
        safe = next(name for name, is_safe in safety.items() if is_safe)
        raise InputError(
            f"{unsafe[0]}: reads features that follow m_jj, and {safe} does not, so their mean "
            "would sculpt a bump; join runs that were trained with train.features=search, or none"
        )
    for run in runs:
        if dataset is None and run.record.dataset_digest != first.record.dataset_digest:
            raise InputError(
                f"{run.folder}: trained on another dataset than {first.folder}; name the events "
                "with --dataset"
            )


def _open_set(run: Run, runs: Sequence[Run], dataset: Path | None) -> EvaluationSet:
    """The events with what a run reads, without those that any run has seen."""
    others = [other for other in runs if other is not run]
    (chosen,) = collect_sets(
        run, dataset=dataset, blackbox=None, all_blackboxes=False, seen_by=others
    )
    return chosen


def _score_run(
    run: Run,
    chosen: EvaluationSet,
    name: str,
    settings: EvaluationConfig,
    scale: tuple[float, int],
) -> Member:
    """Scores events by a run; ``scale`` has the prior, and the threads of torch."""
    prior, threads = scale
    kept = KeptScores.of(run, settings.scoring, threads=threads)
    scorer = PieceScorer(RunModel(run, settings.batch_size))
    score = kept.by_model(chosen.name, MODEL, scorer, chosen.inputs).score
    del scorer  # one model in memory at a time
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    found = calibrate(run, settings.calibration)
    return Member(
        name=name,
        run=run,
        baseline=None,
        calibration=found.map,
        logits=found.map.logits(score, prior),
        validation=found.map.logits(found.validation.score, prior),
        validated_on=run.validation_table(()).event_digest,
    )


def _score_baselines(
    run: Run,
    chosen: EvaluationSet,
    names: Sequence[str],
    settings: EvaluationConfig,
    prior: float,
) -> list[Member]:
    """Scores events by baselines of a run, calibrated on its validation events as it is itself."""
    baselines = RunBaselines.of(run, names)
    kept, validation = KeptScores.of(run, settings.scoring), validation_set(run)
    of_set = baselines.score(chosen, functools.partial(chosen.reread, labels=False), kept)
    of_validation = baselines.score(validation, run.validation_table, kept)
    if lacking := [name for name in names if name not in of_set or name not in of_validation]:
        raise InputError(
            f"{run.folder}: no baseline '{lacking[0]}' for it: the datasets lack what it reads, or "
            "the run reads the same; -v tells why; leave it out"
        )
    label, weight = run.validation_labels()
    members = []
    for name in names:
        known = ScoredEvents(of_validation[name], label, weight)
        what = f"{run.folder}: {name}"
        calibration = calibrate_scores(known, settings.calibration, prior, what)
        members.append(
            Member(
                name=name,
                run=run,
                baseline=name,
                calibration=calibration,
                logits=calibration.logits(of_set[name]),
                validation=calibration.logits(of_validation[name]),
                validated_on=validation.table.event_digest,
            )
        )
    return members
