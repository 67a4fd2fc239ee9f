"""One optimizer step: which events, their loss, its gradient, the update of each group."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from hepllm.arrays import Floats, Ints
from hepllm.config import Config
from hepllm.data.dataset import EventTable
from hepllm.learning.averaging import WeightAverage
from hepllm.learning.distributed import ALONE, Team
from hepllm.learning.loss_scale import adapt_scale, loss_scaler
from hepllm.learning.losses import balanced_class_weights, label_word_loss, r_drop_loss
from hepllm.learning.monitor import memory_gib
from hepllm.learning.optimizers import OptimizerGroup, build_groups
from hepllm.learning.schedule import batch_of_step, count_steps
from hepllm.learning.watchdogs import refuse_loss
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import forward_prompts


@dataclass(frozen=True)
class TrainingData:
    """Events to learn from, in the balance asked for, and events to validate on."""

    train: EventTable
    validation: EventTable


@dataclass(frozen=True)
class StepOutcome:
    """What one step did, in all processes together.

    Attributes:
        loss: of the whole batch.
        seconds: wall-clock time.
        n_events: in the batch.
        n_tokens: in the batch, padding apart.
    """

    loss: float
    seconds: float
    n_events: int
    n_tokens: int


@dataclass(frozen=True)
class Trainer:
    """Everything that a step needs and that does not change between steps."""

    classifier: EventClassifier
    encoder: PromptEncoder
    data: TrainingData
    config: Config
    groups: tuple[OptimizerGroup, ...]
    average: WeightAverage | None = None
    team: Team = ALONE

    @classmethod
    def fresh(
        cls,
        classifier: EventClassifier,
        encoder: PromptEncoder,
        data: TrainingData,
        config: Config,
        team: Team = ALONE,
    ) -> Trainer:
        """Of fresh weights: fits the adapter's standardiser and makes the optimizers."""
        if classifier.nfa is not None:
            classifier.nfa.fit(ModelInputs(data.train.features))
        classifier.train()
        groups = tuple(build_groups(classifier, config.train))
        return cls(classifier, encoder, data, config, groups, team=team)

    @cached_property
    def scaler(self) -> GradScaler:
        """Scales the loss, in float16; its state belongs to the training."""
        return loss_scaler(self.classifier.autocast_dtype, self.classifier.device)

    @property
    def batch_size(self) -> int:
        """Events a step."""
        return min(self.config.train.batch_size, len(self.data.train))

    @property
    def total_steps(self) -> int:
        """Of the whole training."""
        return count_steps(len(self.data.train), self.config.train)

    @cached_property
    def event_weights(self) -> Floats:
        """Weights of the training events in the loss, shape (N,)."""
        table = self.data.train
        if self.config.train.loss.class_weights == "none":
            return table.weight
        return table.weight * balanced_class_weights(table.label, table.weight)[table.label]

    def is_logged(self, done: int) -> bool:
        """Whether scalars are recorded after so many steps."""
        return done % self.config.train.log_every == 0 or done == self.total_steps

    def is_validated(self, done: int) -> bool:
        """Whether a validation follows after so many steps."""
        per_epoch = len(self.data.train) // self.batch_size
        every = max(1, per_epoch // self.config.train.validations_per_epoch)
        return done % every == 0 or done == self.total_steps

    def is_checkpointed(self, done: int) -> bool:
        """Whether a checkpoint is due after so many steps, best validations apart."""
        every = self.config.train.checkpoint_every
        due = self.is_validated(done) if every is None else done % every == 0
        return due or done == self.total_steps

    def step(self, step: int, *, measure: bool) -> StepOutcome:
        """One step of all groups.

        Args:
            step: steps already done.
            measure: whether to compare weights before and after.

        Raises:
            RunError: if the loss or, without scaling, a gradient is not finite.
        """
        started = time.perf_counter()
        indices = batch_of_step(step, len(self.data.train), self.config.train, self.config.seed)
        loss, n_tokens = self.accumulate(step, indices)
        if not np.isfinite(loss):
            refuse_loss(step + 1, loss, self.classifier, self._inputs(indices))
        for group in self.groups:
            group.step(step, self.total_steps, self.scaler, measure=measure)
        adapt_scale(self.scaler, step + 1)
        if self.average is not None:
            self.average.update(step + 1)
        return StepOutcome(loss, time.perf_counter() - started, len(indices), n_tokens)

    def scalars(self, step: int, outcome: StepOutcome) -> dict[str, float]:
        """What TensorBoard shows of a step, beside what its groups know.

        Args:
            step: steps done before it.
            outcome: what it did.
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
            size, seed = len(self.data.train), self.config.seed
            events = batch_of_step(step, size, self.config.train, seed)
            inputs = ModelInputs(self.data.train.features[events])
            found["nfa/output_over_embedding_rms"] = nfa.relative_rms(inputs)
        return found

    def accumulate(self, step: int, indices: Ints) -> tuple[float, int]:
        """Leaves the gradient of a batch, to which every process adds its part, on the weights.

        In float16 it is the gradient of the scaled loss.

        Args:
            step: steps already done; decides what is frozen and what dropout does.
            indices: of the batch's events.

        Returns:
            The loss of the whole batch, and its number of tokens.

        Raises:
            RunError: if another process is gone.
        """
        torch.manual_seed(_seed_of_step(self.config.seed, step, self.team.rank))  # for dropout
        for group in self.groups:
            group.set_trainable(step >= group.schedule.first_step)
        loss, n_tokens = self._backward(indices)
        for group in self.groups:
            if step >= group.schedule.first_step:
                self.team.sum_gradients(group.parameters.values())
        total_loss, total_tokens = self.team.sum_array(np.array([loss, n_tokens], dtype=float))
        return float(total_loss), int(total_tokens)

    def _backward(self, indices: Ints) -> tuple[float, int]:
        """Adds up the gradient of this process's part of a batch.

        It is done in micro-batches where the memory asks for it. Every event has the share in the
        loss that its weight has in the whole batch, whoever works on it.

        Returns:
            What this part adds to the loss of the batch, and its number of tokens.
        """
        table = self.data.train
        mine = indices[self.team.part(len(indices))]
        size = self.config.train.micro_batch_size or max(1, len(mine))
        total_weight = max(float(np.abs(self.event_weights[indices]).sum()), 1e-12)
        batch_loss, n_tokens = 0.0, 0
        for start in range(0, len(mine), size):
            part = mine[start : start + size]
            labels = torch.from_numpy(table.label[part].astype(np.int64))
            weights = torch.from_numpy(self.event_weights[part]).float()
            share = float(weights.abs().sum()) / total_weight
            loss, tokens = self._loss(self._inputs(part), labels, weights)
            self.scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
            batch_loss += float(loss.detach()) * share
            n_tokens += tokens
        return batch_loss, n_tokens

    def _inputs(self, events: Ints) -> ModelInputs:
        return ModelInputs(self.data.train.features[events])

    def _loss(self, inputs: ModelInputs, labels: Tensor, weights: Tensor) -> tuple[Tensor, int]:
        prompts, settings = self.encoder.encode(inputs), self.config.train.loss
        logits = forward_prompts(self.classifier, prompts, inputs)
        labels, weights = labels.to(logits.device), weights.to(logits.device)
        if settings.r_drop:
            again = forward_prompts(self.classifier, prompts, inputs)
            loss = r_drop_loss(logits, again, labels, weights, settings)
            return loss, 2 * prompts.n_tokens
        return label_word_loss(logits, labels, weights, settings), prompts.n_tokens


def _seed_of_step(seed: int, step: int, rank: int) -> int:
    """The first process of several has the seeds of one alone."""
    entropy = [seed, 2, step, rank] if rank else [seed, 2, step]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
