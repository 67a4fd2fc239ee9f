"""``hepllm train``: trains a classifier on a dataset and writes a run folder."""

from __future__ import annotations

import functools
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from hepllm import __version__
from hepllm.cartography.records import MapUse
from hepllm.config import Config, changed_settings, dump_config, override_config
from hepllm.data.dataset import Dataset, overlap, read_dataset
from hepllm.data.signal_truth import signal_truth
from hepllm.errors import InputError, RunError
from hepllm.files import real_path
from hepllm.hypotheses.trained_range import TrainedRange
from hepllm.learning.capacity import cap_gpu_memory
from hepllm.learning.checkpoint import (
    best_checkpoint,
    load_weights,
    newest_checkpoint,
    step_of,
)
from hepllm.learning.distributed import Team, join
from hepllm.learning.inputs import model_inputs
from hepllm.learning.loop import TrainingResult, fit
from hepllm.learning.memory import SettledMemory, settle_memory
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.presentation import assign_own
from hepllm.learning.schedule import count_steps
from hepllm.learning.steps import TrainingData
from hepllm.logs import progress_bar
from hepllm.model.backbone import check_backbone
from hepllm.model.classifier import EventClassifier
from hepllm.model.devices import choose_device
from hepllm.model.encoding import PromptEncoder
from hepllm.model.scoring import score_events
from hepllm.provenance import Call, this_call
from hepllm.report.records import RunRecord, UnlabelledEvents
from hepllm.runs.folder import (
    Run,
    count_classes,
    make_classifier,
    open_run,
    training_events,
    training_masses,
    validation_events,
)
from hepllm.runs.hypotheses import training_truth, with_hypotheses
from hepllm.runs.places import link_latest, log_folder
from hepllm.runs.pseudo_labels import AddEvents
from hepllm.runs.run_files import write_run_files, write_used_events, write_validation_scores
from hepllm.runs.training_checks import check_classes, check_features, check_output, check_particles
from hepllm.runs.unlabelled import unlabelled_events
from hepllm.runs.used_map import UsedMap, guide, read_used_map, use_map, uses_map
from hepllm.runs.weak_datasets import fold_origin

LOG = logging.getLogger(__name__)

_FIXED = (
    *("seed", "preprocess.", "backbone.name", "backbone.quantization", "backbone.lora."),
    *("prompt.", "fusion.", "train.features", "train.lora_optimizer"),
    *("train.hypothesis.enabled", "train.unsupervised.dataset", "train.dynamics"),
    *("train.map", "train.filter", "train.by_map.", "train.choose_by"),
)
"""Settings, or their beginnings, that a resumed training cannot change."""

_FREE = ("backbone.lora.dropout", "fusion.dropout")

_Made = tuple[EventClassifier, PromptEncoder]


@dataclass(frozen=True)
class TrainedRun:
    """A finished training and its wall-clock time in seconds."""

    folder: Path
    result: TrainingResult
    record: RunRecord
    seconds: float


def train(
    dataset_folder: Path,
    output: Path,
    config: Config,
    *,
    overwrite: bool,
    add: AddEvents | None = None,
) -> TrainedRun:
    """Trains a classifier from the start; under torchrun, together with the other processes.

    Args:
        dataset_folder: labelled dataset, made by ``hepllm preprocess``.
        output: run folder to make.
        config: settings of the whole experiment.
        overwrite: replace an existing run.
        add: adds the events of a round of self-training.

    Raises:
        InputError: if the dataset lacks a class, or the output exists.
        RunError: if the training fails.
    """
    config, output = config.with_layout(), real_path(output)
    if config.train.self_training.rounds and add is None:
        raise InputError("train.self_training.rounds needs 'hepllm train', which makes the rounds")
    with join(config.backbone.device) as team:
        with team.together():
            if team.is_first:
                check_output(output, overwrite)
            check_backbone(config.backbone)
            dataset = read_dataset(dataset_folder)
            dataset = dataset.with_variables(config.preprocess.variables())
            used = _used_map(dataset, config)
            data, pool = _load_all(dataset, config, used, add)
        config = with_hypotheses(config, data.truth)
        record = _record(dataset_folder.resolve(), dataset.digest, data, pool)
        further = {"used_map": None if used is None else used.use, "weak": fold_origin(dataset)}
        record = record.model_copy(update=further)
        _require_same(team, config, record, resume_from=None)
        made, memory = _prepare(config, record, data, team)
        if team.is_first:
            if overwrite:  # only now, when nothing can fail by the settings any more
                shutil.rmtree(log_folder(output), ignore_errors=True)
                shutil.rmtree(output, ignore_errors=True)
            try:
                output.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RunError(
                    f"{output}: cannot be made: {error.strerror or error}; choose another --output"
                ) from None
            write_run_files(output, dump_config(config), record)
            if used is not None:
                used.write(output)
        return _train(output, made, memory, record, data, team=team)


def resume(
    output: Path,
    overrides: Sequence[str],
    *,
    dataset_folder: Path | None = None,
    add: AddEvents | None = None,
) -> TrainedRun:
    """Continues a training that was stopped, with as many processes as there are now.

    Args:
        output: run folder.
        overrides: settings to change from here on, like ``train.lr=1e-4``.
        dataset_folder: the run's own dataset, if it is named again.
        add: adds the events of a round of self-training.

    Raises:
        InputError: if there is no such run, its dataset has changed or is not ``dataset_folder``,
            or a setting is changed that cannot change.
    """
    output = real_path(output)
    run = open_run(output)
    if run.config.train.self_training.rounds and add is None:
        raise InputError(
            f"{output}: is a round of self-training; continue with: hepllm train --resume "
            f"--output {output.parent}"
        )
    if dataset_folder is not None and dataset_folder.resolve() != run.record.dataset.resolve():
        raise InputError(
            f"{output}: is trained on {run.record.dataset}, not on {dataset_folder}; "
            "leave the dataset out, or train another run"
        )
    config = run.config
    if config.train.hypothesis.enabled == "auto":  # of a version that had no hypotheses
        config = with_hypotheses(config, None)
    config = override_config(config, overrides)
    changes = changed_settings(run.config, config)
    wrong = [path for path in changes if path.startswith(_FIXED) and path not in _FREE]
    if wrong:
        raise InputError(
            f"{output}: {', '.join(wrong)} cannot change in a training that has begun; "
            "keep the setting, or train another run"
        )
    with join(config.backbone.device) as team:
        with team.together():
            check_backbone(config.backbone)
            used = read_used_map(output) if uses_map(config.train) else None
            data, pool = _load_all(run.dataset(), config, used, add, run)
        earlier, starts = run.record, run.record.starts
        record = _record(earlier.dataset, earlier.dataset_digest, data, pool, starts)
        record = record.model_copy(update={"used_map": earlier.used_map, "weak": earlier.weak})
        resume_from = newest_checkpoint(run.checkpoints)
        if resume_from is not None and "train.epochs" in changes:
            _refuse_fewer_steps(output, config, len(data.train), done=step_of(resume_from))
        _require_same(team, config, record, resume_from)
        made, memory = _prepare(config, record, data, team, earlier=output)
        if team.is_first:
            for path, (before, now) in changes.items():
                LOG.info("from here on %s is %s (it was %s)", path, now, before)
            write_run_files(output, dump_config(config), record)
        return _train(output, made, memory, record, data, team=team, resume_from=resume_from)


def _refuse_fewer_steps(output: Path, config: Config, n_events: int, *, done: int) -> None:
    """Raises InputError where a training has done more steps than the epochs that are asked for."""
    steps = count_steps(n_events, config.train)
    if steps < done:
        epochs = done * config.train.epochs / steps
        raise InputError(
            f"{output}: has done {done} steps, about {epochs:.3g} epochs, more than the {steps} of "
            f"train.epochs={config.train.epochs:g}; give more epochs, or train another run"
        )


def _record(
    dataset: Path,
    digest: str,
    data: TrainingData,
    pool: UnlabelledEvents | None,
    earlier: tuple[Call, ...] = (),
) -> RunRecord:
    return RunRecord(
        hepllm=__version__,
        dataset=dataset,
        dataset_digest=digest,
        n_train=count_classes(data.train),
        n_validation=count_classes(data.validation),
        hypotheses=None if data.truth is None else TrainedRange.of(data.truth.signals),
        unlabelled=pool,
        starts=(*earlier, this_call()),
    )


def _require_same(team: Team, config: Config, record: RunRecord, resume_from: Path | None) -> None:
    """Checks that all processes train the same.

    The first process writes its files only after this, when all others have read theirs.
    """
    team.require_same(
        {
            "configuration": dump_config(config),
            "dataset": record.dataset_digest,
            "version of hepllm": __version__,
            "newest checkpoint": "none" if resume_from is None else resume_from.name,
        }
    )


def _prepare(
    config: Config, record: RunRecord, data: TrainingData, team: Team, earlier: Path | None = None
) -> tuple[_Made, SettledMemory]:
    """Loads the classifier and decides how to use the device; writes nothing.

    Everything that can fail by the user's settings fails here. ``earlier`` is the run folder of a
    resumed training.
    """
    torch.set_num_threads(team.threads(config.train.threads))
    LOG.info(
        "training on %d %s and %d %s events, %s; loading %s",
        record.n_train["signal"],
        "signal" if record.weak is None else "data",
        record.n_train["background"],
        "background" if record.weak is None else "template",
        "without hypotheses"
        if data.truth is None
        else f"with the hypotheses of {len(data.truth.signals)} signals",
        config.backbone.name,
    )
    with team.together():
        cap_gpu_memory(choose_device(config.backbone.device), config.train.memory_limit_gib)
        made = make_classifier(config)
        memory = settle_memory(*made, data, TrainingPlan.of(config), team=team, earlier=earlier)
    # "auto" depends on the GPU, and all processes must scale the loss, or none.
    team.require_same({"precision (set backbone.dtype)": str(made[0].autocast_dtype)})
    return made, memory


def _train(
    output: Path,
    made: _Made,
    memory: SettledMemory,
    record: RunRecord,
    data: TrainingData,
    *,
    team: Team,
    resume_from: Path | None = None,
) -> TrainedRun:
    started = time.perf_counter()
    if team.is_first:
        seen = [data.train, data.validation, *([data.unlabelled] if data.unlabelled else [])]
        write_used_events(output, record.dataset_digest, *seen)
        memory.write(output)
    result = fit(
        *made,
        data,
        memory.plan,
        folder=output,
        resume_from=resume_from,
        team=team,
        logs=log_folder(output),
        on_saved=functools.cache(functools.partial(link_latest, output)),  # once
    )
    if team.is_first:
        _finish(output, memory.plan, record, made)
    return TrainedRun(output, result, record, time.perf_counter() - started)


def _finish(output: Path, plan: TrainingPlan, record: RunRecord, made: _Made) -> None:
    """Scores validation events with the best weights and makes the run the latest."""
    load_weights(best_checkpoint(output / "checkpoints"), made[0])
    dataset, limit = open_run(output).dataset(), plan.train.final_validation_events
    constituents = 0 if made[0].nfa is None else made[0].nfa.n_constituents
    table = validation_events(dataset, plan.train, limit, plan.seed, particles=constituents)
    write_used_events(output, record.dataset_digest, table)
    with progress_bar(len(table), "score validation events") as bar:
        scores = score_events(
            *made,
            model_inputs(table),
            batch_size=plan.evaluation.batch_size,
            on_batch=bar.update,
        )
    write_validation_scores(output, record.dataset_digest, table, scores)
    link_latest(output)


def preview_filter(dataset_folder: Path, config: Config) -> MapUse:
    """Tells which training events a filter would drop, and trains nothing.

    Raises:
        InputError: if there is no filter, or it cannot be applied.
    """
    dataset = read_dataset(dataset_folder).with_variables(config.preprocess.variables())
    used = _used_map(dataset, config)
    if used is None or used.use is None:
        raise InputError(
            "--dry-run tells what train.filter drops; set train.filter or train.by_map"
        )
    return used.use


def _used_map(dataset: Dataset, config: Config) -> UsedMap | None:
    if not uses_map(config.train):
        return None
    return use_map(training_events(dataset, config.train, config.seed, ()), config.train)


def _load_all(
    dataset: Dataset,
    config: Config,
    used: UsedMap | None,
    add: AddEvents | None,
    resumed: Run | None = None,
) -> tuple[TrainingData, UnlabelledEvents | None]:
    """The events of a training, and the record of those without labels; None without them."""
    data = _load_data(dataset, config, used)
    pool = unlabelled_events(dataset, config, data.validation, resumed)
    if pool is None:
        return data, None
    data = replace(data, unlabelled=pool.table)
    return (data if add is None else add(data)), pool.record


def _load_data(dataset: Dataset, config: Config, used: UsedMap | None = None) -> TrainingData:
    settings, seed, hypothesis = config.train, config.seed, None
    limit, constituents = settings.validation_events, config.fusion.constituents
    kept = None if used is None else used.kept_digests
    train = training_events(dataset, settings, seed, particles=constituents, kept=kept)
    guidance = None
    if used is not None:
        guidance = guide(used, train, settings.by_map)
        train = replace(train, weight=guidance.weight)
    validation = validation_events(dataset, settings, limit, seed, particles=constituents)
    truth = training_truth(dataset, train, config)
    if truth is not None:
        hypothesis = assign_own(validation, signal_truth(dataset, validation), seed)
    data = TrainingData(
        train,
        validation,
        truth=truth,
        validation_hypothesis=hypothesis,
        m_jj=training_masses(dataset, settings, seed, kept),
        soft_targets=None if guidance is None else guidance.soft_targets,
        rank=None if guidance is None else guidance.rank,
    )
    if data.rank is not None and truth is not None:
        raise InputError(
            "train.by_map.curriculum orders events, and so do hypotheses: "
            "set train.hypothesis.enabled=false"
        )
    if settings.loss.needs_both_classes:
        check_classes(dataset, "train", data.train, settings.balance)
    check_classes(dataset, "val", data.validation, settings.balance)
    check_features(dataset, data.train)
    check_particles(dataset, data.train)
    shared = overlap(data.train.event_digest, data.validation.event_digest)
    if shared:
        raise RunError(
            f"{dataset.folder}: {shared} events are in both the training and validation split"
        )
    return data
