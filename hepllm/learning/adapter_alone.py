"""Training of the adapter alone, with a linear layer in place of the language model.

The adapter starts at random and needs many more steps than the language model, which has seen text
before, while a step through the language model costs a hundred times more. So the adapter does most
of its steps without it. A linear layer reads the soft tokens, as the language model will find them
in its stream of hidden states.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from hepllm.arrays import Floats
from hepllm.config import ExamplesConfig
from hepllm.errors import RunError
from hepllm.learning.distributed import Team
from hepllm.learning.dynamics import DynamicsRecorder
from hepllm.learning.presentation import Presentation, Shown
from hepllm.learning.schedule import RateSchedule, count_steps
from hepllm.learning.steps import Trainer
from hepllm.learning.unlabelled import Passes
from hepllm.logs import progress_bar
from hepllm.model.adapter.fusion import NumericFusionAdapter
from hepllm.model.inputs import ModelInputs

LOG = logging.getLogger(__name__)

_LAST = 50
"""Steps whose mean loss is told."""

_AT_ONCE = 4096
"""Events that are scored together."""


def train_adapter_alone(
    trainer: Trainer, recorder: DynamicsRecorder | None = None
) -> MeanHead | None:
    """Trains the adapter of fresh weights for ``train.nfa_alone.epochs`` passes.

    Events, hypotheses, targets and weights are those of the whole training. The first process of
    a team computes; the others get its weights. A recorder keeps what it believes of the events.

    Returns:
        The linear layer, which a training has no use for any more; None in other processes, and
        where there are no such passes.

    Raises:
        RunError: if the loss is not finite.
    """
    nfa, alone = trainer.classifier.nfa, trainer.plan.train.nfa_alone
    if nfa is None or not alone.epochs:
        return None
    head = fit_alone(nfa, trainer, recorder).head if trainer.team.is_first else None
    _share(nfa.parameters(), trainer.team)
    return head


class MeanHead(nn.Module):
    """Reads the mean of an event's soft tokens."""

    def __init__(self, nfa: NumericFusionAdapter) -> None:
        super().__init__()
        self.scale = 1 / nfa.embedding_rms
        self.linear = nn.Linear(nfa.hidden_size, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps (B, n_tokens, hidden_size) to logits, shape (B,)."""
        logits: Tensor = self.linear(self.scale * tokens.mean(dim=1)).squeeze(-1)
        return logits


class AdapterAlone(nn.Module):
    """An adapter with a linear layer on its soft tokens."""

    def __init__(self, nfa: NumericFusionAdapter) -> None:
        super().__init__()
        self.nfa, self.head = nfa, MeanHead(nfa)

    def forward(self, inputs: ModelInputs) -> Tensor:
        """Maps B events to logits of signal, shape (B,)."""
        logits: Tensor = self.head(self.nfa(inputs))
        return logits

    @torch.no_grad()
    def score(self, inputs: ModelInputs) -> Floats:
        """Scores N events without gradients, shape (N,)."""
        parts = [inputs.take(slice(i, i + _AT_ONCE)) for i in range(0, len(inputs), _AT_ONCE)]
        return np.concatenate([self(part).double().cpu().numpy() for part in parts])


def fit_alone(
    nfa: NumericFusionAdapter, trainer: Trainer, recorder: DynamicsRecorder | None = None
) -> AdapterAlone:
    """Trains an adapter and a linear layer on it in this process; returns both.

    Raises:
        RunError: if the loss is not finite.
    """
    data, plan, alone = trainer.data, trainer.plan, trainer.plan.train.nfa_alone
    changes = {
        "epochs": alone.epochs,
        "batch_size": alone.batch_size,
        "examples": ExamplesConfig(),  # which a linear layer cannot read
    }
    config = plan.train.model_copy(update=changes)
    presentation = Presentation(data.train, config, plan.seed, data.truth, data.rank)
    n_steps = count_steps(len(data.train), config)
    per_epoch = len(data.train) // presentation.batch_size
    torch.manual_seed(plan.seed)
    model = AdapterAlone(nfa).to(trainer.classifier.device)
    weights = [*model.nfa.parameters(), *model.head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=alone.lr, weight_decay=config.nfa_weight_decay)
    schedule = RateSchedule("one_cycle", config.warmup_fraction)
    term, losses = trainer.unlabelled, list[float]()
    with progress_bar(n_steps, "train the adapter alone", "steps") as bar:
        for step in range(n_steps):
            for group in optimizer.param_groups:
                group["lr"] = alone.lr * schedule.share(step, n_steps)
            shown = presentation.step(step)
            logits = model(data.inputs_of(shown))
            if recorder is not None:
                recorder.alone(step // per_epoch, shown.events, logits, shown.is_wrong)
            loss = _loss(trainer, shown, logits)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            if term is not None and term.is_due(step, n_steps):
                term.add_gradient(step, Passes(model.score, model, torch.autograd.backward))
            nn.utils.clip_grad_norm_(weights, config.clip_norm)
            optimizer.step()
            losses.append(float(loss.detach()))
            bar.update(1)
    last = float(np.mean(losses[-_LAST:]))
    if not np.isfinite(last):
        raise RunError(f"the loss of the adapter alone is {last}; lower train.nfa_alone.lr")
    LOG.info("adapter alone: %d steps, loss %.4f at the end", n_steps, last)
    return model


def _loss(trainer: Trainer, shown: Shown, logits: Tensor) -> Tensor:
    """Weighted cross-entropy of logits, shape (B,), with the dependence on m_jj if it counts."""
    targets, weight = (
        torch.from_numpy(values).float().to(logits.device)
        for values in (trainer.targets_of(shown), trainer.event_weights[shown.events])
    )
    each = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    loss = (each * weight).sum() / weight.abs().sum().clamp(min=1e-12)
    disco = trainer.plan.train.loss.disco
    return loss + disco * trainer.dependence_of(shown, logits, weight) if disco else loss


@torch.no_grad()
def _share(weights: Iterable[nn.Parameter], team: Team) -> None:
    """Gives all processes the weights of the first one."""
    if team.size == 1:
        return
    for weight in weights:
        mine = weight.double().cpu().numpy().ravel()
        total = team.sum_array(mine if team.is_first else np.zeros_like(mine))
        weight.copy_(torch.from_numpy(total).view_as(weight))
