"""Makes an ensemble: joins runs and baselines, and scores the validation events of all."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hepllm import __version__
from hepllm.arrays import Floats
from hepllm.baselines.fitting import OWN_FEATURES, reads_hypotheses
from hepllm.baselines.particles import PARTICLES
from hepllm.baselines.stored import STORABLE, store_baseline
from hepllm.config import ByMapConfig, Config, dump_config, override_config
from hepllm.data.event_table import EventTable
from hepllm.data.notes import find_events
from hepllm.errors import InputError
from hepllm.evaluation.averaging import ENSEMBLE, LogitMap, MemberRecord, combine
from hepllm.evaluation.metrics import auc
from hepllm.evaluation.scores import ScoredEvents
from hepllm.files import file_digest, write_aside
from hepllm.hypotheses.trained_range import TrainedRange
from hepllm.learning.inputs import model_inputs
from hepllm.provenance import this_call
from hepllm.report.records import RunRecord
from hepllm.runs.cascade import MODEL
from hepllm.runs.ensemble_model import MEMBERS, Member, baseline_file, open_model
from hepllm.runs.folder import Run, count_classes
from hepllm.runs.kept_scores import KeptScores
from hepllm.runs.run_baselines import RunBaselines
from hepllm.runs.run_files import write_run_files, write_seen_events, write_validation_scores
from hepllm.runs.run_model import PieceScorer
from hepllm.runs.samples import check_jets
from hepllm.runs.score_files import calibrate_scores, prior_of

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Joined:
    """Runs and baselines that can be one ensemble; made by ``join``.

    Attributes:
        runs: the runs; the first has the dataset, and the events of the baselines.
        names: names of the runs that are members themselves; empty where none is.
        baselines: names of the baselines.
        config: settings of the ensemble, which reads what any member reads.
    """

    runs: tuple[Run, ...]
    names: tuple[str, ...]
    baselines: tuple[str, ...]
    config: Config

    @property
    def first(self) -> Run:
        """The first run."""
        return self.runs[0]


def join(
    runs: Sequence[Run], baselines: Sequence[str], config: Config, *, with_runs: bool = True
) -> Joined:
    """Checks that a mean of classifiers means something.

    Args:
        runs: the runs.
        baselines: names of baselines, which are fitted to the training events of the first run.
        config: settings of the ensemble, besides what it reads.
        with_runs: whether the runs are members themselves.

    Raises:
        InputError: if there are fewer than two members, or they cannot be joined.
    """
    for run in runs:
        if run.is_ensemble:
            raise InputError(f"{run.folder}: is an ensemble itself; name its members instead")
    if unknown := [name for name in baselines if name not in STORABLE]:
        raise InputError(
            f"no member '{unknown[0]}'; the baselines that can be one are {', '.join(STORABLE)}"
        )
    if len(baselines) > len(set(baselines)):
        raise InputError("--with: a baseline is named twice, so it would count twice")
    if len(runs) > 1 and not with_runs:
        raise InputError("--only-with: takes the baselines of one RUN; name one")
    names = name_runs([run.folder for run in runs], baselines) if with_runs else []
    if len(names) + len(baselines) < 2:
        raise InputError("an ensemble has at least two members: name another RUN, or --with NAME")
    for run in runs[1:]:
        _check_columns(runs[0], run)
        if run.record.weak != runs[0].record.weak:
            raise InputError(
                f"{run.folder}: learnt other classes than {runs[0].folder}: join runs with labels, "
                "or runs without that tell data of one region and part from one template"
            )
        check_jets(runs[0], run.dataset())
    _check_safety(runs, baselines, with_runs=with_runs)
    joined = Joined(tuple(runs), tuple(names), tuple(baselines), config)
    return replace(joined, config=_joint_config(joined))


def name_runs(folders: Sequence[Path], reserved: Sequence[str]) -> list[str]:
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
        counts = Counter([*names, *reserved, ENSEMBLE, MODEL])
        if all(counts[name] == 1 for name in names):
            return names
        if depth > max(len(path.parts) for path in whole):
            raise InputError(f"{folders[0]}: rename it; its name has another meaning in tables")
        depth += 1


def write_ensemble(joined: Joined, folder: Path, *, threads: int) -> RunRecord:
    """Scores the validation events by all members, and writes the ensemble as a run folder.

    These are the validation events of the first run that no other member was trained on. Each run
    is calibrated on its own validation events, and each baseline on those of the first run; scores
    that a run lacks are made, and kept in its folder.

    Args:
        joined: the members.
        folder: the final folder; an ensemble in it is replaced.
        threads: threads of torch in this process.

    Raises:
        InputError: if a dataset lacks what a member reads, labels differ between members, or a
            baseline cannot be fitted.
        ChunkError: if a worker that scores failed; what is scored is kept.
    """
    table = _validation_events(joined)
    digest = joined.first.record.dataset_digest
    with write_aside(folder) as aside:
        (aside / MEMBERS).mkdir(parents=True)
        members = [
            *_run_members(joined, table, folder, threads),
            *_baseline_members(joined, table, folder, aside),
        ]
        logits = {one.record.name: values for one, values in members}
        mean = combine(logits)[0]
        used = [run.used_events() for run in joined.runs]
        write_seen_events(aside, digest, np.unique(np.concatenate(used)))
        write_validation_scores(aside, digest, table, mean, logits)
        records = tuple(
            one.record.model_copy(update={"validation_auc": _auc(values, table)})
            for one, values in members
        )
        record = RunRecord(
            hepllm=__version__,
            dataset=joined.first.record.dataset,
            dataset_digest=digest,
            n_train=joined.first.record.n_train,
            n_validation=count_classes(table),
            hypotheses=_joint_range(joined),
            weak=joined.first.record.weak,
            members=records,
            starts=(this_call(),),
        )
        write_run_files(aside, dump_config(joined.config), record)
    return record


def _auc(scores: Floats, table: EventTable) -> float | None:
    found = ScoredEvents(scores, table.label, table.weight)
    return auc(found).value if len(np.unique(table.label)) > 1 else None


# ------------------------------------------------------------------- what can be joined


def _check_columns(first: Run, other: Run) -> None:
    ours, theirs = first.config.preprocess, other.config.preprocess
    for name in ("observers", "new_variables"):
        if getattr(ours, name) != getattr(theirs, name):
            raise InputError(
                f"{other.folder}: has another preprocess.{name} than {first.folder}; join runs "
                "with the same columns"
            )


def _check_safety(runs: Sequence[Run], baselines: Sequence[str], *, with_runs: bool) -> None:
    first = runs[0]
    safety = {str(run.folder): run.is_search_safe for run in (runs if with_runs else ())}
    for name in baselines:
        own = OWN_FEATURES.get(name, first.config.train.feature_names())
        safety[f"the baseline {name}"] = first.config.preprocess.is_search_safe(own)
    unsafe = [name for name, is_safe in safety.items() if not is_safe]
    if unsafe and len(unsafe) < len(safety):
        safe = next(name for name, is_safe in safety.items() if is_safe)
        raise InputError(
            f"{unsafe[0]}: reads features that follow m_jj, and {safe} does not, so their mean "
            "would sculpt a bump; join runs that were trained with train.features=search, or none"
        )


def _joint_config(joined: Joined) -> Config:
    """The settings of the first run, with what any member reads."""
    reads = [run.config.train.feature_names() for run in joined.runs]
    reads += [OWN_FEATURES[name] for name in joined.baselines if name in OWN_FEATURES]
    features = list(dict.fromkeys(name for names in reads for name in names))
    changes: dict[str, object] = {
        "train.features": features,
        "train.filter": [],
        "train.map": None,
        "train.by_map": ByMapConfig().model_dump(mode="json"),
        "evaluation.ablations": False,
        "evaluation.cascade": None,
    }
    deepest = max(_constituents(joined).values(), default=0)
    if deepest:
        changes |= {
            "fusion.enabled": True,
            "fusion.inputs": "both",
            "fusion.particles.max_constituents": deepest,
        }
    return override_config(
        joined.config, [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    )


def _constituents(joined: Joined) -> dict[str, int]:
    """Constituents of each leading jet that the members read, by name."""
    found = {
        name: run.config.fusion.constituents
        for name, run in zip(joined.names, joined.runs, strict=False)
    }
    if PARTICLES in joined.baselines:
        found[PARTICLES] = joined.first.config.fusion.particles.max_constituents
    return found


def _joint_range(joined: Joined) -> TrainedRange | None:
    """Signals under whose hypotheses all members were trained; None where one reads none."""
    ranges = [run.record.hypotheses for run in joined.runs]
    known = [one for one in ranges if one is not None]
    if len(known) < len(ranges) or not all(map(reads_hypotheses, joined.baselines)):
        return None
    first, *others = known
    shared = [one for one in first.decays if all(one in other.decays for other in others)]
    return TrainedRange(
        heavier_min=max(one.heavier_min for one in known),
        heavier_max=min(one.heavier_max for one in known),
        lighter_min=max(one.lighter_min for one in known),
        lighter_max=min(one.lighter_max for one in known),
        decays=tuple(shared),
    )


# ------------------------------------------------------------------- validation events


def _validation_events(joined: Joined) -> EventTable:
    """The validation events of the first run that no other member was trained on."""
    first, names = joined.first, joined.config.train.feature_names()
    table = first.validation_table(names, particles=joined.config.fusion.constituents)
    for run in joined.runs[1:]:
        own = run.validation_digests()
        trained = np.setdiff1d(run.used_events(), own)
        table = table.take(~np.isin(table.event_digest, trained))
        rows = find_events(table.event_digest, own)
        differing = (rows >= 0) & (run.validation_labels()[0][rows] != table.label)
        if differing.any():
            raise InputError(
                f"{run.folder}: has other labels of {int(differing.sum())} validation events than "
                f"{first.folder}; join runs that learnt the same classes"
            )
    if not len(table):
        raise InputError(
            f"{first.folder}: the other members were trained on all of its validation events, so "
            "nothing is left to choose cuts on; join runs of one dataset"
        )
    return table


# ------------------------------------------------------------------- members


_Scored = tuple[Member, Floats]
"""A member, and its calibrated logits of the validation events."""


def _run_members(joined: Joined, table: EventTable, folder: Path, threads: int) -> list[_Scored]:
    constituents = _constituents(joined)
    members = []
    for name, run in zip(joined.names, joined.runs, strict=False):
        settings = joined.config.evaluation
        model = open_model(run, settings.batch_size)
        own = ScoredEvents(run.validation_scores(), *run.validation_labels())
        fitted = calibrate_scores(own, settings.calibration, prior_of(run), str(run.folder))
        record = MemberRecord(
            name=name,
            run=Path(os.path.relpath(run.folder.resolve(), folder.resolve())).as_posix(),
            sha256=model.weights,
            features=run.config.train.feature_names(),
            constituents=constituents[name],
            reads_hypotheses=run.record.hypotheses is not None,
            logits=LogitMap.of(fitted),
        )
        member = _member(joined, record, joined.config)
        rows = find_events(table.event_digest, run.validation_digests())
        if (rows >= 0).all():
            score = run.validation_scores()[rows]
        else:
            kept = KeptScores.of(run, settings.scoring, threads=threads)
            inputs = member.inputs(model_inputs(table, joined.config.train.feature_names()))
            score = kept.by_model("validation", MODEL, PieceScorer(model), inputs).score
            model.release()
        members.append((member, member.logits(score)))
    return members


def _member(
    joined: Joined, record: MemberRecord, config: Config, file: Path | None = None
) -> Member:
    names = config.train.feature_names()
    columns = np.array([names.index(name) for name in record.features], dtype=np.int64)
    return Member(record, columns, prior_of(joined.first), None, file)


def _baseline_members(
    joined: Joined, table: EventTable, folder: Path, aside: Path
) -> list[_Scored]:
    """Fits baselines to the training events of the first run, and stores them in ``aside``."""
    first, inputs = joined.first, model_inputs(table, joined.config.train.feature_names())
    baselines = RunBaselines.of(first, joined.baselines)
    if lacking := [name for name in joined.baselines if name not in baselines.names]:
        raise InputError(
            f"{first.folder}: no baseline '{lacking[0]}' for it: the dataset lacks what it reads, "
            "or the run reads the same; -v tells why; leave it out"
        )
    members = []
    for name in joined.baselines:
        file = baseline_file(aside, name)
        record = MemberRecord(
            name=name,
            run=Path(os.path.relpath(first.folder.resolve(), folder.resolve())).as_posix(),
            baseline=name,
            sha256="",
            features=()
            if name == PARTICLES
            else OWN_FEATURES.get(name, first.config.train.feature_names()),
            constituents=_constituents(joined).get(name, 0),
            reads_hypotheses=reads_hypotheses(name),
            logits=LogitMap(method="none", prior=prior_of(first)),
        )
        member = _member(joined, record, joined.config, file)
        read = member.inputs(inputs)
        fitted = baselines.network if name == PARTICLES else baselines.fitted(name)
        store_baseline(file, fitted, read)
        score = member.score(read)
        events = ScoredEvents(score, table.label, table.weight)
        choice, what = joined.config.evaluation.calibration, f"{first.folder}: {name}"
        found = LogitMap.of(calibrate_scores(events, choice, prior_of(first), what))
        record = record.model_copy(update={"sha256": file_digest(file), "logits": found})
        member = replace(member, record=record)
        members.append((member, member.logits(score)))
    return members
