"""``hepllm train --weak signal-region``: data of a signal region against a template, fold by fold.

runs/<name>/  weak_runs.json  config.yaml
              data/fold-0/ (a dataset)  data/fold-1/ ...
              fold-0/ (a run on it, that has not seen the events of fold 0)  fold-1/ ...
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hepllm.arrays import Floats
from hepllm.config import Config, changed_settings, dump_config, load_config, override_config
from hepllm.errors import InputError
from hepllm.executor import resolve_threads
from hepllm.files import real_path, write_errors, write_text
from hepllm.learning.checkpoint import best_validation
from hepllm.learning.inputs import model_inputs
from hepllm.learning.schedule import count_steps
from hepllm.logs import progress_bar
from hepllm.model.backbone import check_backbone
from hepllm.model.scoring import score_events
from hepllm.runs import CONFIG, WEAK_RUNS, can_go_on, has_ended
from hepllm.runs.folder import Run, open_run
from hepllm.runs.places import find_dataset
from hepllm.runs.training_checks import check_output
from hepllm.runs.weak_box import WeakInputs, open_weak_inputs
from hepllm.runs.weak_datasets import origin_of, write_fold_dataset
from hepllm.stages.train import resume, train
from hepllm.weak.folds import FoldTask
from hepllm.weak.origin import FoldRecord, WeakRuns

LOG = logging.getLogger(__name__)

_FIXED = (
    *("seed", "preprocess.", "backbone.name", "backbone.quantization", "backbone.lora."),
    *("prompt.", "fusion.", "train."),
)
"""Beginnings of settings that all folds share."""

_FREE = ("train.threads", "train.memory_limit_gib", "train.micro_batch_size", "train.log_every")

_MEND = "train it again with 'hepllm train --weak signal-region'"


@dataclass(frozen=True)
class WeakTrained:
    """Finished runs on a signal region, one for each fold."""

    folder: Path
    record: WeakRuns


def train_weakly(dataset: Path, output: Path, config: Config, *, overwrite: bool) -> WeakTrained:
    """Trains a model around each fold of a box, without its labels.

    Args:
        dataset: the box.
        output: folder to make.
        config: settings of the whole experiment; ``evaluation.search.weak`` has the one region.
        overwrite: replace an existing folder.

    Raises:
        InputError: if the settings or datasets do not allow it, or the output exists.
        RunError: if a training fails.
    """
    output = real_path(output)
    if config.evaluation.search.weak.region is None:
        raise InputError(
            "--weak signal-region trains for one region: give --region LOW HIGH; 'hepllm search "
            "DATASET --weak sidebands --classifier model' trains for each of several"
        )
    if overwrite and (output / WEAK_RUNS).is_file():
        shutil.rmtree(output)
    check_output(output, overwrite)
    models = FoldModels(output, model_config(config))
    inputs = open_weak_inputs(dataset, models.config, all_columns=True)
    tell_cost(inputs)
    return models.train_all(inputs)


def resume_weakly(output: Path) -> WeakTrained:
    """Goes on with the fold that was stopped; finished ones stay as they are.

    Raises:
        InputError: if there are no such runs, or their box has changed.
    """
    models = open_fold_models(output)
    dataset = find_dataset(*models.dataset, models.folder)
    inputs = open_weak_inputs(dataset, models.config, all_columns=True)
    return models.train_all(inputs)


def open_fold_models(
    folder: Path, config: Config | None = None, *, is_trained: bool = False
) -> FoldModels:
    """Opens the folder of a weak training, whose runs may be unfinished.

    Args:
        folder: the folder.
        config: settings on top of its own, as ``model_config`` makes them; None: its own.
        is_trained: use only finished runs.

    Raises:
        InputError: if it is none.
    """
    folder = real_path(folder)
    WeakRuns.read(folder / WEAK_RUNS, _MEND)
    return FoldModels(folder, config or load_config(folder / CONFIG), is_trained=is_trained)


def model_config(config: Config) -> Config:
    """The settings with which a language model tells data from a template.

    Raises:
        InputError: if a setting does not go with it.
    """
    train, weak = config.train, config.evaluation.search.weak
    for name, is_set in (
        ("fusion.inputs", config.fusion.constituents > 0),
        ("train.decorrelate, train.loss.disco", train.needs_masses),
        ("train.self_training.rounds", train.self_training.rounds > 0),
        ("train.unsupervised.weight", train.unsupervised.weight > 0),
        ("train.map", train.map is not None),
    ):
        if is_set:
            raise InputError(f"{name}: not with --weak, which trains on features without labels")
    changes = [
        f"train.features={json.dumps(list(weak.feature_names()))}",
        "train.balance=natural",  # the weights of the template balance the classes
        "train.hypothesis.enabled=false",
        "evaluation.search.weak.classifier=model",
    ]
    if train.choose_by == "auto":
        changes.append("train.choose_by=argos")
    return override_config(config, changes)


def tell_cost(inputs: WeakInputs) -> None:
    """Says how many events go through the model, before it begins."""
    config, settings = inputs.config, inputs.config.evaluation.search.weak
    share = (1 - 1 / settings.folds) * (1 - settings.validation)
    sizes = [max(1, round(_size(inputs, task) * share)) for task in inputs.tasks]
    LOG.info(
        "%d trainings of %s on %s events: %s steps of %d events, and %s events to score; "
        "what is done is kept, and the same command goes on",
        len(sizes),
        config.backbone.name,
        " to ".join(f"{size:,}" for size in sorted({min(sizes), max(sizes)})),
        f"{sum(count_steps(size, config.train) for size in sizes):,}",
        config.train.batch_size,
        f"{len(inputs.data) * len(inputs.regions):,}",
    )


def _size(inputs: WeakInputs, task: FoldTask) -> int:
    """Events of data and template, of all folds."""
    below, inside, above = task.region.counts(inputs.data.m_jj)
    if inputs.background is not None:
        return inside + task.region.counts(inputs.background.sample.m_jj)[1]
    if inputs.training.maker.kind == "density":
        return inside * (1 + inputs.training.maker.oversampling)
    return below + inside + above


@dataclass(frozen=True)
class FoldModels:
    """Language models around the folds of a signal region, which are trained on demand.

    Attributes:
        folder: their folder.
        config: settings of the whole experiment, as ``model_config`` makes them.
        is_trained: whether only finished runs are used.
    """

    folder: Path
    config: Config
    is_trained: bool = False

    @property
    def record(self) -> WeakRuns:
        """The content of ``weak_runs.json``."""
        return WeakRuns.read(self.folder / WEAK_RUNS, _MEND)

    @property
    def dataset(self) -> tuple[Path, str]:
        """Path and digest of the box."""
        origin = self.record.origin
        return origin.dataset, origin.dataset_digest

    @property
    def identity(self) -> str:
        """Digest of what decides the scores, besides ``evaluation.search``."""
        return _identity(self.config)

    def tell_cost(self, inputs: WeakInputs) -> None:
        """Says how many events there are to score."""
        LOG.info("%d folds of %d events are scored", len(inputs.tasks), len(inputs.data))

    def train_all(self, inputs: WeakInputs) -> WeakTrained:
        """Trains what is missing."""
        for task in inputs.tasks:
            self.trained(inputs, task)
        return WeakTrained(self.folder, self.record)

    def trained(self, inputs: WeakInputs, task: FoldTask) -> Run:
        """The run around a fold, which is trained now if it is not.

        Raises:
            InputError: if it is not trained and cannot be, or its box is another.
        """
        self._begin(inputs, task)
        folder, data = self.folder / f"fold-{task.fold}", self.folder / "data" / f"fold-{task.fold}"
        if not has_ended(folder):
            if self.is_trained:
                raise InputError(
                    f"{folder}: the training is not finished; go on with: hepllm train --resume "
                    f"--output {self.folder}"
                )
            LOG.info("%s", task)
            if can_go_on(folder):
                resume(folder, [])
            else:
                write_fold_dataset(inputs, task, data)
                train(data, folder, self._config_of(task), overwrite=folder.exists())
        run = open_run(folder)
        self._keep(run, task)
        return run

    def __call__(self, inputs: WeakInputs, task: FoldTask) -> Floats:
        """Scores the events of a fold, in their order, by the run that has not seen them.

        Raises:
            InputError: if it has seen one of them, because the search has other folds.
        """
        run = self.trained(inputs, task)
        table = inputs.table.take(inputs.fold == task.fold)
        if n_seen := int(np.isin(table.event_digest, run.used_events()).sum()):
            raise InputError(
                f"{run.folder}: has seen {n_seen} of the {len(table)} events that it is to score, "
                "because seed, mass range or selection are not those of its training; leave them"
            )
        torch.set_num_threads(resolve_threads(self.config.train.threads))
        classifier, encoder = run.load_classifier()
        with progress_bar(len(table), f"score fold {task.fold + 1}") as bar:
            return score_events(
                classifier,
                encoder,
                model_inputs(table, run.config.train.feature_names()),
                batch_size=self.config.evaluation.batch_size,
                on_batch=bar.update,
            )

    def _begin(self, inputs: WeakInputs, task: FoldTask) -> None:
        """Makes the folder, or checks that it is of the same box, region and settings."""
        origin, config = origin_of(inputs, task.region), self._config_of(task)
        if not (self.folder / WEAK_RUNS).is_file():
            check_backbone(config.backbone)
            with write_errors(self.folder, "choose another --output"):
                self.folder.mkdir(parents=True, exist_ok=True)
                write_text(self.folder / CONFIG, dump_config(config))
                WeakRuns(origin=origin).write(self.folder / WEAK_RUNS)
            return
        known = self.record.origin
        if known.model_copy(update={"dataset": origin.dataset}) != origin:
            raise InputError(
                f"{self.folder}: has runs on {known} in {known.folds} folds, of the dataset "
                f"{known.dataset}; name it and leave these settings, or give --overwrite"
            )
        changes = changed_settings(load_config(self.folder / CONFIG), config)
        wrong = [path for path in changes if path.startswith(_FIXED) and path not in _FREE]
        if wrong:
            raise InputError(
                f"{self.folder}: {', '.join(wrong)} cannot change in trainings that have begun; "
                "keep the setting, or give --overwrite"
            )

    def _config_of(self, task: FoldTask) -> Config:
        region = f"evaluation.search.weak.region={json.dumps([task.region.low, task.region.high])}"
        return override_config(self.config, [region]).with_layout()

    def _keep(self, run: Run, task: FoldTask) -> None:
        """Adds a finished run to the record."""
        record = self.record
        if any(one.fold == task.fold for one in record.finished):
            return
        best = best_validation(run.checkpoints)
        found = FoldRecord(
            fold=task.fold,
            n_data=run.record.n_train["signal"],
            n_template=run.record.n_train["background"],
            validation_auc=best["auc"],
            validation_argos=best.get("argos"),
        )
        finished = sorted((*record.finished, found), key=lambda one: one.fold)
        record = record.model_copy(update={"finished": tuple(finished)})
        record.write(self.folder / WEAK_RUNS)


@dataclass(frozen=True)
class BoxModels:
    """Language models for all signal regions of a search, in a folder for each.

    Attributes:
        folder: folder of these folders.
        config: settings of the whole experiment, as ``model_config`` makes them.
    """

    folder: Path
    config: Config

    @property
    def identity(self) -> str:
        """Digest of what decides the scores, besides ``evaluation.search``."""
        return _identity(self.config)

    def tell_cost(self, inputs: WeakInputs) -> None:
        """Says how many events go through the models."""
        tell_cost(inputs)

    def __call__(self, inputs: WeakInputs, task: FoldTask) -> Floats:
        """Scores the events of a fold, in their order, by the run that has not seen them."""
        name = f"{task.region.low:.0f}-{task.region.high:.0f}"
        return FoldModels(self.folder / name, self.config)(inputs, task)


def _identity(config: Config) -> str:
    text = dump_config(config.model_copy(update={"evaluation": Config().evaluation}))
    return hashlib.sha256(text.encode()).hexdigest()
