"""Listeners that a training calls after each micro-batch, with its per-event logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from hepllm.arrays import Bools, Ints


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """B training events that went through the model together, before the update of their step.

    Attributes:
        step: steps already done.
        events: positions in ``TrainingData.train``, shape (B,).
        logits: background and signal, shape (B, 2), without a gradient; of the first pass if R-Drop
            makes two.
        targets: probability of signal, shape (B,).
        weights: weights in the loss, shape (B,).
        loss: average over the events, R-Drop included; a scalar without a gradient.
        share: these events' share of the weights of the whole batch.
        n_tokens: tokens that went through the model, without padding.
        is_wrong: events that were shown under another's hypothesis, as background, shape (B,).
    """

    step: int
    events: Ints
    logits: Tensor
    targets: Tensor
    weights: Tensor
    loss: Tensor
    share: float
    n_tokens: int
    is_wrong: Bools | None = None


Listener = Callable[[MicroBatch], None]
"""Called after each backward pass; with several processes, in each with its own events."""


@dataclass
class BatchTotal:
    """Adds up the loss and the tokens of a batch's micro-batches."""

    loss: float = 0.0
    n_tokens: int = 0

    def __call__(self, seen: MicroBatch) -> None:
        """Adds a micro-batch by its share in the batch."""
        self.loss += float(seen.loss) * seen.share
        self.n_tokens += seen.n_tokens
