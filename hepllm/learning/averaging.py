"""A moving average of the trained weights, which often does better than the last ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of weights (EMA).

    Early on the decay is (1 + n) / (10 + n) after n updates if that is lower, so that the first
    weights do not linger.

    Args:
        weights: by name; the average starts from their present values.
        decay: how much of the average stays at each update.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], decay: float) -> None:
        self._weights = dict(weights)
        self._decay = decay
        self.averages = {name: weight.detach().clone() for name, weight in weights.items()}

    def update(self, step: int) -> None:
        """Takes the weights in.

        Args:
            step: steps done, this one included.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        present = [weight.detach() for weight in self._weights.values()]
        torch._foreach_lerp_(list(self.averages.values()), present, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Puts the averages in the place of the weights for a while."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def load(self, averages: Mapping[str, Tensor]) -> None:
        """Takes saved averages over.

        Raises:
            KeyError: if they are not those of the same weights.
        """
        unlike = sorted(self.averages.keys() ^ averages.keys())
        if unlike:
            raise KeyError(unlike[0])
        for name, average in self.averages.items():
            average.copy_(averages[name])

    def put_in_place(self) -> None:
        """Puts the averages in the place of the weights for good."""
        for name, weight in self._weights.items():
            weight.data.copy_(self.averages[name])

    def _exchange(self) -> None:
        for name, weight in self._weights.items():
            weight.data, self.averages[name] = self.averages[name], weight.data
