"""``hepllm train``: a dataset in, a run folder with a classifier out."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hepllm import __version__
from hepllm.config import Config, TrainConfig, changed_settings, dump_config, override_config
from hepllm.data.dataset import Dataset, EventTable, overlap, read_dataset
from hepllm.errors import InputError, RunError
from hepllm.files import write_aside
from hepllm.learning.capacity import cap_gpu_memory
from hepllm.learning.checkpoint import best_checkpoint, load_weights, newest_checkpoint
from hepllm.learning.distributed import Team, join
from hepllm.learning.loop import TrainingResult, fit
from hepllm.learning.memory import SettledMemory, settle_memory
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.steps import TrainingData
from hepllm.logs import progress_bar
from hepllm.model.classifier import EventClassifier
from hepllm.model.devices import choose_device
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import score_events
from hepllm.provenance import this_call
from hepllm.report.records import RunRecord
from hepllm.runs import LATEST, RUNS_FOLDER
from hepllm.runs.folder import (
    count_classes,
    make_classifier,
    open_run,
    training_events,
    validation_events,
    write_run_files,
    write_used_events,
    write_validation_scores,
)

LOG = logging.getLogger(__name__)

_FIXED = (
    "seed",
    "preprocess.",
    "backbone.name",
    "backbone.quantization",
    "backbone.lora.",
    "prompt.",
    "fusion.",
    "train.features",
    "train.lora_optimizer",
)
"""Settings, or their beginnings, that stay as they are on resume."""

_FREE = ("backbone.lora.dropout", "fusion.dropout")


@dataclass(frozen=True)
class TrainedRun:
    """A finished training.

    Attributes:
        folder: of the run.
        result: steps and validations.
        record: what it was trained on.
        seconds: wall-clock time.
    """

    folder: Path
    result: TrainingResult
    record: RunRecord
    seconds: float


def train(dataset_folder: Path, output: Path, config: Config, *, overwrite: bool) -> TrainedRun:
    """Trains a classifier from the start; under torchrun, together with the other processes.

    Args:
        dataset_folder: made by ``hepllm preprocess``, with labels.
        output: the run folder to make.
        config: of the whole experiment.
        overwrite: replace a run that is there already.

    Raises:
        InputError: if the dataset has no two classes, or the output exists.
        RunError: if the training fails.
    """
    with join(config.backbone.device) as team:
        with team.together():
            if team.is_first:
                _check_output(output, overwrite)
            dataset = read_dataset(dataset_folder)
            data = _load_data(dataset, config.train, config.seed)
        record = RunRecord(
            hepllm=__version__,
            dataset=dataset_folder.resolve(),
            dataset_digest=dataset.digest,
            n_train=count_classes(data.train),
            n_validation=count_classes(data.validation),
            starts=(this_call(),),
        )
        _require_same(team, config, record, resume_from=None)
        ready = _prepare(config, record, data, team)
        if team.is_first:
            if overwrite:  # only now, when all that a start can fail of has been done
                shutil.rmtree(output, ignore_errors=True)
            _make(output)
            write_run_files(output, dump_config(config), record)
        return _train(output, ready, record, data, team=team, resume_from=None)


def resume(
    output: Path, overrides: Sequence[str], *, dataset_folder: Path | None = None
) -> TrainedRun:
    """Goes on with a training that was stopped, with as many processes as there are now.

    Args:
        output: the run folder.
        overrides: settings to change from here on, like ``train.lr=1e-4``.
        dataset_folder: the run's own dataset, if it is named again.

    Raises:
        InputError: if there is no such run, its dataset has changed or is another than the one
            named, or a setting is changed that must stay.
    """
    run = open_run(output)
    if dataset_folder is not None and dataset_folder.resolve() != run.record.dataset:
        raise InputError(
            f"{output}: is trained on {run.record.dataset}, not on {dataset_folder}; "
            "leave the dataset out, or train another run"
        )
    config = override_config(run.config, overrides)
    changes = changed_settings(run.config, config)
    _check_changes(output, changes)
    with join(config.backbone.device) as team:
        with team.together():
            data = _load_data(run.dataset(), config.train, config.seed)
        record = RunRecord(
            hepllm=__version__,
            dataset=run.record.dataset,
            dataset_digest=run.record.dataset_digest,
            n_train=count_classes(data.train),
            n_validation=count_classes(data.validation),
            starts=(*run.record.starts, this_call()),
        )
        resume_from = newest_checkpoint(run.checkpoints)
        _require_same(team, config, record, resume_from)
        ready = _prepare(config, record, data, team, earlier=output)
        if team.is_first:
            for path, (before, now) in changes.items():
                LOG.info("from here on %s is %s (it was %s)", path, now, before)
            write_run_files(output, dump_config(config), record)
        return _train(output, ready, record, data, team=team, resume_from=resume_from)


def _require_same(team: Team, config: Config, record: RunRecord, resume_from: Path | None) -> None:
    """Refuses processes that would train something else than the first one does.

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


def _check_changes(output: Path, changes: Mapping[str, tuple[Any, Any]]) -> None:
    """Refuses changes under which the weights so far would mean something else.

    Raises:
        InputError: naming them.
    """
    wrong = [path for path in changes if path.startswith(_FIXED) and path not in _FREE]
    if wrong:
        raise InputError(
            f"{output}: {', '.join(wrong)} cannot change in a training that has begun; "
            "leave it as it was, or train another run"
        )


@dataclass(frozen=True)
class _Ready:
    """A loaded classifier and how it will use its device; nothing is written yet."""

    classifier: EventClassifier
    encoder: PromptEncoder
    memory: SettledMemory


def _prepare(
    config: Config,
    record: RunRecord,
    data: TrainingData,
    team: Team,
    *,
    earlier: Path | None = None,
) -> _Ready:
    """Does all of a start that can fail by the user's settings.

    Args:
        config: of the experiment.
        record: what will be trained on.
        data: its events.
        team: of processes.
        earlier: run folder of a training that goes on.
    """
    torch.set_num_threads(team.threads(config.train.threads))
    LOG.info(
        "training on %d signal and %d background events; loading %s",
        record.n_train["signal"],
        record.n_train["background"],
        config.backbone.name,
    )
    with team.together():
        cap_gpu_memory(choose_device(config.backbone.device), config.train.memory_limit_gib)
        classifier, encoder = make_classifier(config)
        plan = TrainingPlan.of(config)
        memory = settle_memory(classifier, encoder, data, plan, team=team, earlier=earlier)
    # "auto" depends on the card, and a loss that is scaled does not go with one that is not.
    team.require_same({"precision (set backbone.dtype)": str(classifier.autocast_dtype)})
    return _Ready(classifier, encoder, memory)


def _train(
    output: Path,
    ready: _Ready,
    record: RunRecord,
    data: TrainingData,
    *,
    team: Team,
    resume_from: Path | None,
) -> TrainedRun:
    started = time.perf_counter()
    classifier, encoder, plan = ready.classifier, ready.encoder, ready.memory.plan
    if team.is_first:
        write_used_events(output, record.dataset_digest, data.train, data.validation)
        ready.memory.write(output)
    result = fit(classifier, encoder, data, plan, folder=output, resume_from=resume_from, team=team)
    if team.is_first:
        _finish(output, plan, record, ready)
    return TrainedRun(output, result, record, time.perf_counter() - started)


def _finish(output: Path, plan: TrainingPlan, record: RunRecord, ready: _Ready) -> None:
    """Scores validation events with the best weights and makes the run the latest."""
    load_weights(best_checkpoint(output / "checkpoints"), ready.classifier)
    dataset, limit = read_dataset(record.dataset), plan.train.final_validation_events
    table = validation_events(dataset, plan.train, limit, plan.seed)
    write_used_events(output, record.dataset_digest, table)
    with progress_bar(len(table), "score validation events") as bar:
        scores = score_events(
            ready.classifier,
            ready.encoder,
            ModelInputs(table.features),
            batch_size=plan.evaluation.batch_size,
            on_batch=bar.update,
        )
    write_validation_scores(output, record.dataset_digest, table, scores)
    _link_latest(output)


def _load_data(dataset: Dataset, config: TrainConfig, seed: int) -> TrainingData:
    data = TrainingData(
        training_events(dataset, config, seed),
        validation_events(dataset, config, config.validation_events, seed),
    )
    if config.loss.needs_both_classes:
        _check_classes(dataset, "train", data.train)
    _check_classes(dataset, "val", data.validation)
    _check_features(dataset, data.train)
    shared = overlap(data.train.event_digest, data.validation.event_digest)
    if shared:
        raise RunError(
            f"{dataset.folder}: {shared} events are in both the training and validation split"
        )
    return data


def _check_classes(dataset: Dataset, split: str, table: EventTable) -> None:
    counts = count_classes(table)
    missing = [name for name, number in counts.items() if number == 0]
    if missing:
        raise InputError(
            f"{dataset.folder}: no {' and no '.join(missing)} events in its {split} split; "
            "training needs both classes: give a labelled file, or its --masterkey, to preprocess"
        )


def _check_features(dataset: Dataset, table: EventTable) -> None:
    """Tells of features that no training event has, and refuses to train on nothing else."""
    is_missing = [bool(np.isnan(column).all()) for column in table.features.T]
    names = [name for name, missing in zip(table.names, is_missing, strict=True) if missing]
    if len(names) == len(table.names):
        raise InputError(
            f"{dataset.folder}: all of the features {', '.join(names)} are missing in every "
            "training event; choose others with train.features"
        )
    if names:
        LOG.warning("missing in every training event, so of no use: %s", ", ".join(names))


def _make(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{output}: cannot be made: {error.strerror or error}; choose another --output"
        ) from None


def _check_output(output: Path, overwrite: bool) -> None:
    """Refuses, before the model is loaded, what cannot become a run."""
    above = next(parent for parent in output.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(
            f"{output}: {above} is not a folder that can be written to; choose another --output"
        )
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: exists and is not a folder")
    if output.is_dir() and any(output.iterdir()):
        if not overwrite:
            raise InputError(
                f"{output}: exists; go on with --resume, or start anew with --overwrite"
            )
        if not (output / "run.json").is_file():
            raise InputError(
                f"{output}: holds something that is not a run; choose another --output"
            )


def _link_latest(output: Path) -> None:
    """Points ``runs/latest`` at a run that lies beside it."""
    if output.resolve().parent != RUNS_FOLDER.resolve():
        return
    with write_aside(LATEST) as aside:
        aside.symlink_to(output.name)
