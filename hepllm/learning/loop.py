"""The training loop: steps, validations, checkpoints."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hepllm.config import Config
from hepllm.dataset import EventTable
from hepllm.errors import RunError
from hepllm.evaluation.metrics import auc, roc, sic_at
from hepllm.evaluation.scores import scored_events
from hepllm.learning.checkpoint import Progress, load_optimizers, load_weights, save_checkpoint
from hepllm.learning.encoding import PromptEncoder
from hepllm.learning.losses import label_word_loss
from hepllm.learning.monitor import Monitor, warn_of_collapse, warn_of_deafness
from hepllm.learning.optimizers import OptimizerGroup, build_groups
from hepllm.learning.schedule import batch_of_step, count_steps, one_cycle
from hepllm.learning.scoring import forward_rows, score_events
from hepllm.logs import progress_bar
from hepllm.model.classifier import EventClassifier
from hepllm.schema import SIGNAL

LOG = logging.getLogger(__name__)

_PROVING_STEPS = 10
"""After this many steps each group must have shown that it learns."""

_REACTION_EVENTS = 256


@dataclass(frozen=True)
class TrainingData:
    """Events to learn from, in the balance asked for, and events to validate on."""

    train: EventTable
    validation: EventTable


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to.

    Attributes:
        steps: optimizer steps done.
        validations: what each validation found, oldest first.
        events_per_second: training events, validation apart; 0 where nothing was left to do.
    """

    steps: int
    validations: tuple[Mapping[str, float], ...]
    events_per_second: float

    @property
    def best(self) -> Mapping[str, float]:
        """The validation with the highest AUC."""
        return max(self.validations, key=lambda found: found["auc"])


def fit(
    classifier: EventClassifier,
    encoder: PromptEncoder,
    data: TrainingData,
    config: Config,
    *,
    folder: Path,
    resume_from: Path | None = None,
) -> TrainingResult:
    """Trains a classifier.

    Everything random in a step is a function of the seed and the step, so a run that was killed
    and resumed does the same steps as an unbroken one.

    Args:
        classifier: with fresh weights, or any if ``resume_from`` is given.
        encoder: writes and tokenises prompts.
        data: training and validation events.
        config: of the whole experiment.
        folder: of the run.
        resume_from: a checkpoint to go on from.

    Raises:
        RunError: if the loss or a gradient is not finite, or a group of weights does not learn.
    """
    groups = build_groups(classifier, config.train)
    progress = Progress(0)
    if resume_from is not None:
        progress = load_weights(resume_from, classifier)
        load_optimizers(resume_from, groups)
        LOG.info("going on after step %d", progress.step)
    elif classifier.nfa is not None:
        classifier.nfa.standardizer.fit(data.train.features)
    classifier.train()
    training = _Training(classifier, encoder, data, config, tuple(groups))
    with (
        Monitor(folder, progress.step) as monitor,
        progress_bar(training.total_steps, "train", "steps") as bar,
    ):
        first = dict(zip(data.train.names, data.train.features[0].tolist(), strict=True))
        monitor.text("prompt", encoder.write(first))
        bar.update(progress.step)
        seconds, events = 0.0, 0
        proved_at = min(progress.step + _PROVING_STEPS, training.total_steps)
        for step in range(progress.step, training.total_steps):
            measure = training.is_logged(step) or step + 1 == proved_at
            outcome = training.step(step, measure=measure)
            seconds, events = seconds + outcome.seconds, events + outcome.n_events
            progress = replace(progress, step=step + 1)
            if measure:
                monitor.step(progress.step, outcome.scalars(), groups)
            if progress.step == proved_at:
                for group in groups:
                    group.check_learning()
            bar.update(1)
            bar.set_postfix(loss=f"{outcome.loss:.3f}")
            if training.is_validated(step):
                progress = _validate_and_save(training, progress, folder, monitor)
    return TrainingResult(progress.step, progress.validations, events / max(seconds, 1e-9))


@dataclass(frozen=True)
class _StepOutcome:
    loss: float
    seconds: float
    n_events: int

    def scalars(self) -> dict[str, float]:
        return {
            "train/loss": self.loss,
            "train/events_per_second": self.n_events / self.seconds,
        }


@dataclass(frozen=True)
class _Training:
    """Everything that a step needs and that does not change between steps."""

    classifier: EventClassifier
    encoder: PromptEncoder
    data: TrainingData
    config: Config
    groups: tuple[OptimizerGroup, ...]

    @property
    def batch_size(self) -> int:
        return min(self.config.train.batch_size, len(self.data.train))

    @property
    def total_steps(self) -> int:
        return count_steps(len(self.data.train), self.config.train)

    def is_logged(self, step: int) -> bool:
        done = step + 1
        return done % self.config.train.log_every == 0 or done == self.total_steps

    def is_validated(self, step: int) -> bool:
        done, per_epoch = step + 1, len(self.data.train) // self.batch_size
        every = max(1, per_epoch // self.config.train.validations_per_epoch)
        return done % every == 0 or done == self.total_steps

    def step(self, step: int, *, measure: bool) -> _StepOutcome:
        """One step of all groups; ``measure`` compares weights before and after."""
        started = time.perf_counter()
        settings = self.config.train
        indices = batch_of_step(step, len(self.data.train), settings, self.config.seed)
        torch.manual_seed(_seed_of_step(self.config.seed, step))  # for dropout
        loss = self._backward(indices)
        if not np.isfinite(loss):
            msg = f"step {step + 1}: the loss is {loss}; lower train.lr and train.nfa_lr"
            raise RunError(msg)
        schedule = one_cycle(step, self.total_steps, settings.warmup_fraction)
        for group in self.groups:
            group.step(schedule, measure=measure)
        return _StepOutcome(loss, time.perf_counter() - started, len(indices))

    def _backward(self, indices: NDArray[np.int64]) -> float:
        """Accumulates the gradient of a batch, in micro-batches where the memory asks for it.

        Returns:
            The loss of the whole batch.
        """
        table = self.data.train
        size = self.config.train.micro_batch_size or len(indices)
        total_weight = max(float(np.abs(table.weight[indices]).sum()), 1e-12)
        batch_loss = 0.0
        for start in range(0, len(indices), size):
            part = indices[start : start + size]
            rows = table.features[part]
            logits = forward_rows(self.classifier, self.encoder, rows, rows)
            labels = torch.from_numpy(table.label[part].astype(np.int64)).to(logits.device)
            weights = torch.from_numpy(table.weight[part]).float().to(logits.device)
            share = float(weights.abs().sum()) / total_weight
            loss = label_word_loss(logits, labels, weights) * share
            loss.backward()  # type: ignore[no-untyped-call]
            batch_loss += float(loss.detach())
        return batch_loss


def _validate_and_save(
    training: _Training, progress: Progress, folder: Path, monitor: Monitor
) -> Progress:
    found = validate(
        training.classifier, training.encoder, training.data.validation, training.config
    )
    is_best = all(found["auc"] > earlier["auc"] for earlier in progress.validations)
    validations = (*progress.validations, {"step": progress.step, **found})
    progress = Progress(progress.step, validations)
    monitor.validation(progress.step, found)
    save_checkpoint(
        folder / "checkpoints", training.classifier, training.groups, progress, is_best=is_best
    )
    LOG.info(
        "step %d of %d: validation loss %.4f, AUC %.4f",
        progress.step,
        training.total_steps,
        found["loss"],
        found["auc"],
    )
    return progress


def validate(
    classifier: EventClassifier, encoder: PromptEncoder, table: EventTable, config: Config
) -> dict[str, float]:
    """Scores validation events and checks that the scores mean something.

    Returns:
        ``loss``, ``auc``, ``accuracy`` at score 0, ``predicted_signal``, and ``sic_at_0.3`` and
        ``sic_at_0.5`` where enough background passes.
    """
    batch_size = config.evaluation.batch_size
    scores = score_events(classifier, encoder, table.features, batch_size=batch_size)
    is_signal = table.label == SIGNAL
    events = scored_events(scores, table.label, table.weight)
    area = auc(events).value
    if area is None:
        msg = "the validation events are all of one class; enlarge the dataset or its val share"
        raise RunError(msg)
    called = scores > 0
    margins = np.where(is_signal, scores, -scores)
    found = {
        "loss": float(np.average(np.logaddexp(0.0, -margins))),
        "auc": area,
        "accuracy": float((called == is_signal).mean()),
        "predicted_signal": float(called.mean()),
    }
    curve = roc(events)
    for eps_s in (0.3, 0.5):
        sic = sic_at(curve, eps_s, config.evaluation.min_background).sic
        if sic is not None:
            found[f"sic_at_{eps_s}"] = sic
    warn_of_collapse(found["predicted_signal"], float(is_signal.mean()))
    if classifier.nfa is not None:
        _check_reaction(classifier, encoder, table, scores, batch_size)
    return found


def _check_reaction(
    classifier: EventClassifier,
    encoder: PromptEncoder,
    table: EventTable,
    scores: NDArray[np.float64],
    batch_size: int,
) -> None:
    """Exchanges the adapter's numbers between events and expects the scores to change."""
    rows = table.features[:_REACTION_EVENTS]
    exchanged = np.roll(rows, len(rows) // 2, axis=0)
    changed = score_events(classifier, encoder, rows, batch_size=batch_size, number_rows=exchanged)
    warn_of_deafness(scores[: len(rows)], changed)


def _seed_of_step(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, 2, step]).generate_state(1)[0])
