"""The training loop: steps, validations, checkpoints, and when it ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from hepllm.errors import InputError, StoppedError
from hepllm.learning.adapter_alone import train_adapter_alone
from hepllm.learning.averaging import WeightAverage
from hepllm.learning.checkpoint import (
    Progress,
    load_average,
    load_loss_scale,
    load_optimizers,
    load_weights,
    mark_best,
    merit,
    save_checkpoint,
    warn_of_precision,
)
from hepllm.learning.distributed import ALONE, Team
from hepllm.learning.dynamics import DynamicsRecorder
from hepllm.learning.listeners import Listener
from hepllm.learning.monitor import Monitor
from hepllm.learning.optimizers import build_groups
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.steps import Trainer, TrainingData
from hepllm.learning.stopping import StopRequest, StopRequestedError
from hepllm.learning.validation import validate
from hepllm.learning.watchdogs import proving_step
from hepllm.logs import progress_bar
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training.

    Attributes:
        steps: optimizer steps done.
        validations: results of each validation, oldest first.
        events_per_second: training events per second, without validation; 0 if no step was left.
    """

    steps: int
    validations: tuple[Mapping[str, float], ...]
    events_per_second: float

    @property
    def best(self) -> Mapping[str, float]:
        """The best validation, by ``train.choose_by``."""
        return max(self.validations, key=merit)


def fit(
    classifier: EventClassifier,
    encoder: PromptEncoder,
    data: TrainingData,
    plan: TrainingPlan,
    *,
    folder: Path,
    resume_from: Path | None = None,
    team: Team = ALONE,
    listeners: Sequence[Listener] = (),
    logs: Path | None = None,
    on_saved: Callable[[], None] = lambda: None,
) -> TrainingResult:
    """Trains a classifier.

    All random numbers of a step are functions of the seed and the step, so a run that was killed
    and resumed does the same steps as an unbroken one.

    The classifier has fresh weights, or any weights if a checkpoint ``resume_from`` replaces them.
    The first process of ``team`` writes to the run ``folder``, and for TensorBoard to ``logs``
    (None: ``tensorboard`` in that folder); all get the result. After each checkpoint it calls
    ``on_saved``.

    Raises:
        RunError: if the loss or a gradient is not finite, a group of weights does not learn, or
            another process of the team fails.
        StoppedError: if Ctrl-C or SIGTERM ended it; a checkpoint has been saved.
    """
    groups = build_groups(classifier, plan.train)
    weights, decay = classifier.trained_parameters(), plan.train.ema_decay
    progress = Progress(0)
    if resume_from is not None:
        progress = load_weights(resume_from, classifier, averaged=False)
        load_optimizers(resume_from, groups)
        if team.is_first:
            mark_best(folder / "checkpoints", progress)
        LOG.info("continuing after step %d", progress.step)
    elif classifier.nfa is not None:
        classifier.nfa.fit(data.inputs_to_scale)
    classifier.train()
    recorder = DynamicsRecorder(data.train, plan) if plan.train.dynamics else None
    heard: tuple[Listener, ...] = (*listeners, *(() if recorder is None else (recorder,)))
    trainer = Trainer(classifier, encoder, data, plan, tuple(groups), team=team, listeners=heard)
    if resume_from is None:
        train_adapter_alone(trainer, recorder)
    elif recorder is not None:
        recorder.load(resume_from, team)
        if team.is_first:
            recorder.save(folder)  # that of the folder may be of other steps, or of none
    average = None if decay is None else WeightAverage(weights, decay)
    if average is not None and resume_from is not None:
        load_average(resume_from, average)
    trainer = replace(trainer, average=average)
    if resume_from is not None:
        load_loss_scale(resume_from, trainer.scaler)
        warn_of_precision(resume_from, classifier)
    steps = plan.train.warmup_fusion_steps
    if steps >= trainer.total_steps:
        raise InputError(
            f"train.warmup_fusion_steps: {steps} leaves none of the {trainer.total_steps} steps "
            "for the LoRA weights; lower it"
        )
    with (
        Monitor(folder, progress.step, logs) if team.is_first else nullcontext() as monitor,
        StopRequest(team) as stop,
    ):
        return _Loop(trainer, folder, monitor, stop, on_saved, recorder).run(progress)


@dataclass(frozen=True)
class _Loop:
    """Runs the steps of a trainer; only the first process has a monitor."""

    trainer: Trainer
    folder: Path
    monitor: Monitor | None
    stop: StopRequest
    on_saved: Callable[[], None]
    recorder: DynamicsRecorder | None = None

    def run(self, progress: Progress) -> TrainingResult:
        trainer, total = self.trainer, self.trainer.total_steps
        trainer.team.require_same_weights(trainer.classifier.trained_parameters().values())
        if progress.step == 0:
            if self.monitor is not None:
                table = trainer.data.train
                first = dict(zip(table.names, table.features[0].tolist(), strict=True))
                self.monitor.text("prompt", trainer.encoder.write(first))
        elif trainer.is_validated(progress.step) and not progress.is_validated:
            progress = self._after_step(progress)  # a signal came before this validation
        proofs = {group.name: proving_step(group, progress.step, total) for group in trainer.groups}
        seconds, events = 0.0, 0
        with progress_bar(total, "train", "steps") as bar:
            bar.update(progress.step)
            while progress.step < total and not self._is_exhausted(progress):
                step = progress.step
                measure = trainer.is_logged(step + 1) or step + 1 in proofs.values()
                # In float16 the step that is checked may be skipped, so earlier ones count too.
                is_proving = trainer.scaler.is_enabled() and step < max(proofs.values())
                outcome = trainer.step(step, measure=measure or is_proving)
                seconds, events = seconds + outcome.seconds, events + outcome.n_events
                progress = replace(progress, step=step + 1)
                if measure and self.monitor is not None:
                    scalars = trainer.scalars(step, outcome)
                    self.monitor.step(progress.step, scalars, trainer.groups)
                for group in trainer.groups:
                    if proofs[group.name] == progress.step:
                        group.check_learning()
                bar.set_postfix(loss=f"{outcome.loss:.3f}", refresh=False)
                bar.update(1)
                progress = self._after_step(progress)
        if events and progress.best is not None and self.monitor is not None:
            self.monitor.hyper_parameters(trainer.plan.hyper_parameters, progress.best)
        return TrainingResult(progress.step, progress.validations, events / max(seconds, 1e-9))

    def _after_step(self, progress: Progress) -> Progress:
        """Validates and saves when due, and stops on request."""
        trainer = self.trainer
        try:
            if trainer.is_validated(progress.step):
                progress = self._validate(progress)
            self.stop.check_together()
        except StopRequestedError:
            self.stop.agree()
            self._save(progress)
            trainer.team.wait()  # a process that ends would end the one that still saves
            raise StoppedError(
                f"stopped by {self.stop.name} after step {progress.step} of "
                f"{trainer.total_steps}, which is saved; continue with: "
                f"hepllm train --resume --output {self.folder}",
                self.stop.signal_number or 0,
            ) from None
        ends = self._is_exhausted(progress)
        if trainer.is_checkpointed(progress.step) or progress.is_best or ends:
            self._save(progress)
        if ends:
            LOG.info(
                "stopping after step %d: no better %s in %d validations",
                progress.step,
                {"loss": "loss", "argos": "ARGOS"}.get(trainer.plan.train.choose_by, "AUC"),
                progress.validations_since_best,
            )
        return progress

    def _validate(self, progress: Progress) -> Progress:
        trainer, average = self.trainer, self.trainer.average
        trainer.team.require_same_weights(trainer.classifier.trained_parameters().values())
        with average.in_place() if average is not None else nullcontext():
            validation = validate(
                trainer.classifier,
                trainer.encoder,
                trainer.data.validation,
                trainer.plan.evaluation,
                hypothesis=trainer.data.validation_hypothesis,
                log_odds=trainer.log_odds,
                on_batch=self.stop.check,
                team=trainer.team,
                choose_by=trainer.plan.train.choose_by,
            )
        if self.monitor is not None:
            self.monitor.validation(
                progress.step,
                validation,
                trainer.classifier.nfa_parameters(),
                trainer.plan.evaluation.min_background,
            )
        found = validation.found
        LOG.info(
            "step %d of %d: validation loss %.4f, AUC %.4f",
            progress.step,
            trainer.total_steps,
            found["loss"],
            found["auc"],
        )
        validations = (*progress.validations, {"step": progress.step, **found})
        return Progress(progress.step, validations)

    def _save(self, progress: Progress) -> None:
        recorder = self.recorder
        if recorder is not None:
            recorder.gather(self.trainer.team)
        if not self.trainer.team.is_first:
            return
        save_checkpoint(
            self.folder / "checkpoints",
            self.trainer.classifier,
            self.trainer.groups,
            progress,
            keep=self.trainer.plan.train.keep_checkpoints,
            average=self.trainer.average,
            scaler=self.trainer.scaler,
            beside=None if recorder is None else recorder.save,
        )
        if recorder is not None:
            recorder.save(self.folder)
        self.on_saved()

    def _is_exhausted(self, progress: Progress) -> bool:
        patience = self.trainer.plan.train.patience
        return patience is not None and progress.validations_since_best >= patience
