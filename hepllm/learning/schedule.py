"""Learning rates and the order of events, as pure functions of the step and the seed.

A resumed training repeats them exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Ints
from hepllm.config import Schedule, TrainConfig


@dataclass(frozen=True)
class RateSchedule:
    """Share of the peak learning rate: linear warm-up, then a decrease that depends on the kind.

    Attributes:
        kind: ``one_cycle`` falls to 0 along half a cosine, ``linear`` along a line; ``constant``
            stays at the peak.
        warmup_fraction: share of the steps in the warm-up.
        first_step: first step with a rate above 0.
    """

    kind: Schedule
    warmup_fraction: float
    first_step: int = 0

    def share(self, step: int, total_steps: int) -> float:
        """Returns the share of the peak after ``step`` of ``total_steps`` steps are done."""
        step, total = step - self.first_step, total_steps - self.first_step
        if step < 0:
            return 0.0
        warmup = max(1, round(self.warmup_fraction * total))
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, total - warmup)
        if self.kind == "one_cycle":
            return 0.5 * (1 + math.cos(math.pi * progress))
        return 1 - progress if self.kind == "linear" else 1.0


def batch_of_step(step: int, n_events: int, config: TrainConfig, seed: int) -> Ints:
    """Returns the events of a step: a slice of the epoch's permutation.

    A last, smaller batch of an epoch is left out. The permutation differs in the next epoch, so
    no event is left out in all of them. ``step`` counts the steps done in all epochs.
    """
    size = min(config.batch_size, n_events)
    epoch, place = divmod(step, n_events // size)
    order = np.random.default_rng([seed, 1, epoch]).permutation(n_events)
    return order[place * size : (place + 1) * size]


def count_steps(n_events: int, config: TrainConfig) -> int:
    """Counts the steps of the whole training."""
    per_epoch = n_events // min(config.batch_size, n_events)
    return max(1, round(config.epochs * per_epoch))
