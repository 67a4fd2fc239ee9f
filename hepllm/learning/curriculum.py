"""A curriculum: which events the steps of a training choose from (arXiv:1903.09848)."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from hepllm.arrays import Floats, Ints

_CURRICULUM = 74
"""Stream of random numbers, beside those of other modules."""


@dataclass(frozen=True, eq=False)
class Curriculum:
    """Widens the choice of events from the easiest to all of them.

    Attributes:
        rank: share of its class that is easier than an event, shape (N,), in [0, 1).
        start: share of each class that the first step chooses from.
        n_steps: steps until all events are shown.
    """

    rank: Floats
    start: float
    n_steps: int

    def competence(self, step: int) -> float:
        """Share of each class to choose from after ``step`` steps (equation 6, with p = 2)."""
        if step >= self.n_steps:
            return 1.0
        return min(1.0, sqrt(step * (1 - self.start**2) / self.n_steps + self.start**2))

    def batch(self, step: int, size: int, seed: int) -> Ints | None:
        """Chooses the events of a step without repetition; None once all are shown in turn."""
        competence = self.competence(step)
        if competence >= 1:
            return None
        pool = np.flatnonzero(self.rank < competence)
        if len(pool) < size:
            pool = np.sort(np.argsort(self.rank, kind="stable")[:size])
        random = np.random.default_rng([seed, _CURRICULUM, step])
        return random.choice(pool, size=size, replace=False)
