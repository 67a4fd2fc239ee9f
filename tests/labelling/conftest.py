"""Models whose predictions follow a rule that is known, in place of a language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from hepllm.labelling.predictions import Request


@dataclass
class Planted:
    """Predicts as if it saw which events are alike, and trusted the labels before them.

    Attributes:
        truth: shape (M,), 1 or 0, the classes that it sees.
        strength: log-odds of a target after labels that are all right.
        knowledge: log-odds of the right class that it adds without any label.
        noise: standard deviation of what it adds by chance, fixed for equal prompts.
        n_predicted: targets so far.
    """

    truth: NDArray[np.int8]
    strength: float = 4.0
    knowledge: float = 0.5
    noise: float = 0.5
    n_predicted: int = 0

    def log_odds(self, requests: Sequence[Request]) -> list[NDArray[np.float64]]:
        return [self._of(request) for request in requests]

    def check_fit(self, size: int) -> None:
        """Any prompt fits."""

    def _of(self, request: Request) -> NDArray[np.float64]:
        self.n_predicted += len(request.targets)
        items, labels = (np.array(part, dtype=np.int64) for part in request.context)
        targets = np.array(request.targets)
        signs = 2.0 * self.truth - 1.0
        said = (signs[items] * (2.0 * labels - 1.0)).mean() if len(items) else 0.0
        seed = [abs(hash((request.context, target))) % 2**32 for target in request.targets]
        chance = np.array([np.random.default_rng(one).normal() for one in seed])
        return signs[targets] * (self.strength * said + self.knowledge) + self.noise * chance


class Careless(Planted):
    """Predicts by chance alone, whatever the prompt says."""

    def _of(self, request: Request) -> NDArray[np.float64]:
        found = super()._of(request)
        signs = 2.0 * self.truth[list(request.targets)] - 1.0
        items, labels = (np.array(part, dtype=np.int64) for part in request.context)
        true = 2.0 * self.truth - 1.0
        said = (true[items] * (2.0 * labels - 1.0)).mean() if len(items) else 0.0
        return found - signs * (self.strength * said + self.knowledge)


@pytest.fixture
def planted() -> Callable[..., Planted]:
    """``planted(n_events, n_views=1, seed=1, **traits)`` has random classes."""

    def make(n_events: int, n_views: int = 1, seed: int = 1, **traits: float) -> Planted:
        truth = np.random.default_rng([seed, 99]).integers(0, 2, n_events).astype(np.int8)
        return Planted(np.repeat(truth, n_views), **traits)

    return make


@pytest.fixture
def careless() -> Callable[..., Careless]:
    """The same for predictions by chance."""

    def make(n_events: int, n_views: int = 1, seed: int = 1) -> Careless:
        truth = np.random.default_rng([seed, 99]).integers(0, 2, n_events).astype(np.int8)
        return Careless(np.repeat(truth, n_views), noise=2.0)

    return make
