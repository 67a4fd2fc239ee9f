"""One optimizer step: its events, their loss, its gradient, and the update of each group."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from hepllm.arrays import Floats
from hepllm.data.event_table import EventTable
from hepllm.data.planing import planing_factors
from hepllm.data.signal_truth import SignalTruth
from hepllm.learning.averaging import WeightAverage
from hepllm.learning.distributed import ALONE, Team
from hepllm.learning.example_prompts import encode_shown
from hepllm.learning.inputs import model_inputs
from hepllm.learning.listeners import BatchTotal, Listener, MicroBatch
from hepllm.learning.loss_scale import adapt_scale, loss_scaler
from hepllm.learning.losses import balanced_class_weights, label_word_loss, r_drop_loss
from hepllm.learning.monitor import memory_gib
from hepllm.learning.optimizers import OptimizerGroup, build_groups
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.presentation import Hypotheses, Presentation, Shown, assign_own
from hepllm.learning.schedule import count_steps
from hepllm.learning.unlabelled import Passes, UnlabelledTerm
from hepllm.learning.watchdogs import refuse_loss
from hepllm.model.classifier import EventClassifier
from hepllm.model.distance_correlation import background_dependence
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import forward_prompts, score_events


@dataclass(frozen=True)
class TrainingData:
    """Events to train on, and events to validate on.

    Attributes:
        train: N events in the chosen balance; their weights count in the loss.
        validation: events of both classes.
        soft_targets: shape (N,), probability in [0, 1] that each training event is signal, which
            replaces its label in the loss; None for the labels.
        truth: true signals of the training events, whose hypotheses they are shown with; None to
            show all with the open hypothesis.
        validation_hypothesis: what each validation event is shown with; None: the open one.
        m_jj: masses of the training events in GeV, shape (N,), for a decorrelation; None without.
        rank: ranks of the training events for a curriculum, shape (N,); None without.
        unlabelled: events of ``train.unsupervised``; None without.
    """

    train: EventTable
    validation: EventTable
    soft_targets: Floats | None = None
    truth: SignalTruth | None = None
    validation_hypothesis: Hypotheses | None = None
    m_jj: Floats | None = None
    rank: Floats | None = None
    unlabelled: EventTable | None = None

    def __post_init__(self) -> None:
        """Raises ValueError if there is not one probability, truth or mass per training event."""
        if self.m_jj is not None and self.m_jj.shape != (len(self.train),):
            raise ValueError(f"masses of shape {self.m_jj.shape} for {len(self.train)} events")
        if self.truth is not None and len(self.truth.place) != len(self.train):
            raise ValueError(f"truth of {len(self.truth.place)} of {len(self.train)} events")
        soft = self.soft_targets
        if soft is None:
            return
        if soft.shape != (len(self.train),):
            raise ValueError(f"soft targets of shape {soft.shape} for {len(self.train)} events")
        if not ((soft >= 0) & (soft <= 1)).all():
            raise ValueError("soft targets are probabilities between 0 and 1")

    @cached_property
    def inputs(self) -> ModelInputs:
        """Inputs of the N training events, each under a hypothesis that it may be shown with."""
        inputs = model_inputs(self.train)
        if self.truth is None:
            return inputs
        return replace(inputs, hypothesis=assign_own(self.train, self.truth))

    @property
    def inputs_to_scale(self) -> ModelInputs:
        """Inputs that set the adapter's scales: unlabelled events too, which need no label."""
        if self.unlabelled is None or self.truth is not None:
            return self.inputs
        return ModelInputs.concatenate([self.inputs, model_inputs(self.unlabelled)])

    def inputs_of(self, shown: Shown) -> ModelInputs:
        """Returns the inputs of the B events of a step, under their hypotheses."""
        return replace(self.inputs.take(shown.events), hypothesis=shown.hypothesis)

    @cached_property
    def targets(self) -> Floats:
        """Targets of the loss, shape (N,): the soft targets, or the labels as 0 and 1."""
        if self.soft_targets is not None:
            return self.soft_targets
        return self.train.label.astype(np.float64)

    @property
    def masses(self) -> Floats:
        """The masses, which a decorrelation needs.

        Raises:
            ValueError: if there are none.
        """
        if self.m_jj is None:
            raise ValueError("a decorrelation from m_jj needs the masses of the training events")
        return self.m_jj


@dataclass(frozen=True)
class StepOutcome:
    """Result of a step, summed over all processes; ``n_tokens`` excludes padding."""

    loss: float
    seconds: float
    n_events: int
    n_tokens: int


@dataclass(frozen=True)
class Trainer:
    """Everything that all steps of a training use.

    Attributes:
        average: moving average of the weights; None without ``train.ema_decay``.
        listeners: called after each micro-batch of this process.
    """

    classifier: EventClassifier
    encoder: PromptEncoder
    data: TrainingData
    plan: TrainingPlan
    groups: tuple[OptimizerGroup, ...]
    average: WeightAverage | None = None
    team: Team = ALONE
    listeners: tuple[Listener, ...] = ()

    @classmethod
    def fresh(
        cls,
        classifier: EventClassifier,
        encoder: PromptEncoder,
        data: TrainingData,
        plan: TrainingPlan,
        team: Team = ALONE,
    ) -> Trainer:
        """Makes a trainer of fresh weights: fits the adapter's scales and makes the optimizers."""
        if classifier.nfa is not None:
            classifier.nfa.fit(data.inputs_to_scale)
        classifier.train()
        groups = tuple(build_groups(classifier, plan.train))
        return cls(classifier, encoder, data, plan, groups, team=team)

    @cached_property
    def scaler(self) -> GradScaler:
        """Scaler of the loss in float16."""
        return loss_scaler(self.classifier.autocast_dtype, self.classifier.device)

    @property
    def batch_size(self) -> int:
        """Events per step."""
        return min(self.plan.train.batch_size, len(self.data.train))

    @cached_property
    def presentation(self) -> Presentation:
        """Order and hypotheses of the training events."""
        data = self.data
        return Presentation(data.train, self.plan.train, self.plan.seed, data.truth, data.rank)

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return count_steps(len(self.data.train), self.plan.train)

    @cached_property
    def event_weights(self) -> Floats:
        """Weights of the training events in the loss, shape (N,)."""
        table, train = self.data.train, self.plan.train
        weight = table.weight
        if train.decorrelate == "planing":
            weight = weight * planing_factors(self.data.masses, table.label, weight)
        if train.loss.class_weights == "none":
            return weight
        return weight * balanced_class_weights(self.data.targets, weight)

    @cached_property
    def log_odds(self) -> float:
        """Logarithm of signal over background in the loss: what events that tell nothing score.

        With hypotheses, some of the signal is shown as background (``wrong_share``).
        """
        weight, targets = np.abs(self.event_weights), self.data.targets
        if self.data.truth is not None:
            targets = targets * (1 - self.plan.train.hypothesis.wrong_share)
        signal, background = (float((weight * part).sum()) for part in (targets, 1 - targets))
        return math.log(signal / background) if signal > 0 and background > 0 else 0.0

    @cached_property
    def unlabelled(self) -> UnlabelledTerm | None:
        """The term of the loss on unlabelled events; None without ``train.unsupervised.weight``.

        Raises:
            ValueError: if it has a weight, and the data have no unlabelled events.
        """
        config, table = self.plan.train.unsupervised, self.data.unlabelled
        if not config.weight:
            return None
        if table is None:
            raise ValueError("train.unsupervised.weight needs unlabelled events")
        return UnlabelledTerm(model_inputs(table), config, self.plan.seed, self.log_odds)

    def is_logged(self, done: int) -> bool:
        """Returns whether scalars are recorded after ``done`` steps."""
        return done % self.plan.train.log_every == 0 or done == self.total_steps

    def is_validated(self, done: int) -> bool:
        """Returns whether a validation follows after ``done`` steps.

        Those of an epoch are spread as evenly as whole steps allow; there are no more than steps.
        """
        per_epoch = max(1, len(self.data.train) // self.batch_size)
        often = min(self.plan.train.validations_per_epoch, per_epoch)
        is_due = done * often // per_epoch > (done - 1) * often // per_epoch
        return is_due or done == self.total_steps

    def is_checkpointed(self, done: int) -> bool:
        """Returns whether a checkpoint is due after ``done`` steps, even without a new best."""
        every = self.plan.train.checkpoint_every
        due = self.is_validated(done) if every is None else done % every == 0
        return due or done == self.total_steps

    def step(self, step: int, *, measure: bool) -> StepOutcome:
        """Does one step of all groups.

        Args:
            step: steps already done.
            measure: whether to compare weights before and after.

        Raises:
            RunError: if the loss or, without scaling, a gradient is not finite.
        """
        started = time.perf_counter()
        shown = self.presentation.step(step)
        loss, n_tokens = self.accumulate(step, shown)
        if not np.isfinite(loss):
            refuse_loss(step + 1, loss, self.classifier, self.data.inputs_of(shown))
        for group in self.groups:
            group.step(step, self.total_steps, self.scaler, measure=measure)
        adapt_scale(self.scaler, step + 1)
        if self.average is not None:
            self.average.update(step + 1)
        return StepOutcome(loss, time.perf_counter() - started, len(shown), n_tokens)

    def scalars(self, step: int, outcome: StepOutcome) -> dict[str, float]:
        """Returns what TensorBoard shows of a step, without the scalars of its groups.

        Args:
            step: steps done before it.
            outcome: result of the step.
        """
        found = {
            "train/loss": outcome.loss,
            "train/events_per_second": outcome.n_events / outcome.seconds,
            "train/tokens_per_second": outcome.n_tokens / outcome.seconds,
            "train/memory_gib": memory_gib(self.classifier.device),
        }
        if self.scaler.is_enabled():
            found["train/loss_scale"] = self.scaler.get_scale()
        nfa = self.classifier.nfa
        if nfa is not None:
            inputs = self.data.inputs_of(self.presentation.step(step))
            found["nfa/output_over_embedding_rms"] = nfa.relative_rms(inputs)
        if self.unlabelled is not None:
            found |= self.unlabelled.latest
        return found

    def accumulate(self, step: int, shown: Shown) -> tuple[float, int]:
        """Computes the gradient of a batch, summed over all processes, and keeps it on the weights.

        In float16 it is the gradient of the scaled loss.

        Args:
            step: steps already done; decides what is frozen and the random numbers of dropout.
            shown: the batch's events.

        Returns:
            Loss of the whole batch, and its number of tokens.

        Raises:
            RunError: if another process is gone.
        """
        torch.manual_seed(_seed_of_step(self.plan.seed, step, self.team.rank))  # for dropout
        for group in self.groups:
            group.set_trainable(step >= group.schedule.first_step)
        mine = self._backward(step, shown)
        if self.unlabelled is not None and self.unlabelled.is_due(step, self.total_steps):
            self.unlabelled.add_gradient(step, self._passes())
        for group in self.groups:
            if step >= group.schedule.first_step:
                self.team.sum_gradients(group.parameters.values())
        parts = np.array([mine.loss, mine.n_tokens], dtype=float)
        total_loss, total_tokens = self.team.sum_array(parts)
        return float(total_loss), int(total_tokens)

    def _backward(self, step: int, shown: Shown) -> BatchTotal:
        """Adds up the gradient of this process's part of a batch, in micro-batches.

        The share of an event in the loss is that of its weight in the whole batch.
        """
        mine = shown.take(shown.share(self.team.rank, self.team.size))
        size = self.plan.micro_batch or max(1, len(mine))
        total_weight = max(float(np.abs(self.event_weights[shown.events]).sum()), 1e-12)
        total, device = BatchTotal(), self.classifier.device
        listeners: tuple[Listener, ...] = (total, *self.listeners)
        for part in mine.micro_batches(size):
            some = mine.take(part)
            targets = torch.from_numpy(self.targets_of(some)).float().to(device)
            weights = torch.from_numpy(self.event_weights[some.events]).float()
            share = float(weights.abs().sum()) / total_weight
            weights = weights.to(device)
            logits, loss, n_tokens = self._loss(some, targets, weights)
            self.scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
            seen = MicroBatch(
                step=step,
                events=some.events,
                logits=logits.detach(),
                targets=targets,
                weights=weights,
                loss=loss.detach(),
                share=share,
                n_tokens=n_tokens,
                is_wrong=some.is_wrong,
            )
            for listener in listeners:
                listener(seen)
        return total

    def _passes(self) -> Passes:
        """How unlabelled events are scored: all under the open hypothesis."""

        def score(inputs: ModelInputs) -> Floats:
            size = self.plan.evaluation.batch_size
            return score_events(self.classifier, self.encoder, inputs, batch_size=size)

        def difference(inputs: ModelInputs) -> Tensor:
            logits = forward_prompts(self.classifier, self.encoder.encode(inputs), inputs)
            return logits[:, 1] - logits[:, 0]

        def backward(scalar: Tensor) -> None:
            self.scaler.scale(scalar).backward()  # type: ignore[no-untyped-call]

        return Passes(score, difference, backward, self.plan.micro_batch, self.team)

    def _loss(self, shown: Shown, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, int]:
        """Returns the logits of some events, their loss, and their number of tokens."""
        inputs, objective = self.data.inputs_of(shown), self.plan.train.loss
        prompts, inputs = encode_shown(
            self.encoder, inputs, shown.groups, shown.examples, self.data.inputs
        )
        logits = forward_prompts(self.classifier, prompts, inputs)
        n_passes = 1
        if objective.r_drop:
            again = forward_prompts(self.classifier, prompts, inputs)
            loss, n_passes = r_drop_loss(logits, again, targets, weights, objective), 2
        else:
            loss = label_word_loss(logits, targets, weights, objective)
        if objective.disco:
            dependence = self.dependence_of(shown, logits[:, 1] - logits[:, 0], weights)
            loss = loss + objective.disco * dependence
        return logits, loss, n_passes * prompts.n_tokens

    def dependence_of(self, shown: Shown, scores: Tensor, weights: Tensor) -> Tensor:
        """Returns how much the scores of the background among some events depend on m_jj."""
        masses, labels = (
            torch.from_numpy(values[shown.events]).to(scores.device)
            for values in (self.data.masses, self.data.train.label)
        )
        return background_dependence(scores, masses, labels, weights)

    def targets_of(self, shown: Shown) -> Floats:
        """Targets of some events, shape (B,): 0 for signal under another's hypothesis."""
        targets = self.data.targets[shown.events]
        return targets if shown.is_wrong is None else np.where(shown.is_wrong, 0.0, targets)


def _seed_of_step(seed: int, step: int, rank: int) -> int:
    """Returns the seed of a step; process 0 has the seed of a training in one process."""
    entropy = [seed, 2, step, rank] if rank else [seed, 2, step]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
