"""What a training tells of each micro-batch, for whoever wants to know more than its loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from hepllm.arrays import Ints
from hepllm.config import LossConfig
from hepllm.learning.losses import event_losses


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """B training events that went through the model together, before the update of their step.

    Attributes:
        step: steps already done.
        events: positions in ``TrainingData.train``, shape (B,).
        logits: of background and signal, shape (B, 2), without a gradient; of the first pass where
            R-Drop takes two.
        targets: probability of signal that the loss aims at, shape (B,).
        weights: in the loss, shape (B,).
        loss: average over the events, R-Drop included; a scalar without a gradient.
        share: of these events' weights in the whole batch.
        n_tokens: that went through the model, padding apart.
        objective: the settings of the loss.
    """

    step: int
    events: Ints
    logits: Tensor
    targets: Tensor
    weights: Tensor
    loss: Tensor
    share: float
    n_tokens: int
    objective: LossConfig

    @property
    def losses(self) -> Tensor:
        """Loss of each event, R-Drop apart, shape (B,)."""
        return event_losses(self.logits, self.targets, self.objective)


Listener = Callable[[MicroBatch], None]
"""Called after each backward pass; with several processes, in each with its own events."""


class BatchTotal:
    """Adds up a batch's micro-batches.

    Attributes:
        loss: of the events so far, by their share in the batch.
        n_tokens: of the events so far.
    """

    def __init__(self) -> None:
        self.loss = 0.0
        self.n_tokens = 0

    def __call__(self, seen: MicroBatch) -> None:
        """Adds a micro-batch."""
        self.loss += float(seen.loss) * seen.share
        self.n_tokens += seen.n_tokens
