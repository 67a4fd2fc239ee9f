"""A moving average of the trained weights, which often classifies better than the last weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of weights (EMA).

    After n updates the decay is (1 + n) / (10 + n) if that is lower, so that the first weights lose
    their influence soon.

    Args:
        weights: weights by name; the average starts from their present values.
        decay: share of the average that stays at each update.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], decay: float) -> None:
        self._weights = dict(weights)
        self._decay = decay
        self.averages = {name: weight.detach().clone() for name, weight in weights.items()}

    def update(self, step: int) -> None:
        """Adds the present weights; ``step`` counts the steps done, this one included."""
        decay = min(self._decay, (1 + step) / (10 + step))
        present = [weight.detach() for weight in self._weights.values()]
        torch._foreach_lerp_(list(self.averages.values()), present, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Replaces the weights by their averages inside the ``with`` block."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def load(self, averages: Mapping[str, Tensor]) -> None:
        """Loads saved averages; raises KeyError if they are not those of the same weights."""
        unlike = sorted(self.averages.keys() ^ averages.keys())
        if unlike:
            raise KeyError(unlike[0])
        for name, average in self.averages.items():
            average.copy_(averages[name])

    def put_in_place(self) -> None:
        """Replaces the weights by their averages for good."""
        for name, weight in self._weights.items():
            weight.data.copy_(self.averages[name])

    def _exchange(self) -> None:
        for name, weight in self._weights.items():
            weight.data, self.averages[name] = self.averages[name], weight.data
