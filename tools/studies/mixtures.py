"""Scores of classifiers whose true efficiencies are known: mixtures of normal distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from hepllm.evaluation.scores import ScoredEvents

Floats = NDArray[np.float64]

_GRID = np.linspace(-15, 20, 35_001)


@dataclass(frozen=True)
class Mixture:
    """One class of scores: (share, mean, width) of each part."""

    parts: Sequence[tuple[float, float, float]]

    def above(self, cut: Floats | float) -> Floats:
        """The true efficiency of a cut."""
        return np.sum([share * norm.sf(cut, mean, width) for share, mean, width in self.parts], 0)

    def draw(self, n_events: int, generator: np.random.Generator) -> Floats:
        """Draws scores."""
        shares, means, widths = np.array(self.parts).T
        part = np.searchsorted(np.cumsum(shares)[:-1], generator.random(n_events), side="right")
        return generator.normal(means[part], widths[part])


@dataclass(frozen=True)
class Classifier:
    """A classifier with known efficiencies."""

    name: str
    signal: Mixture
    background: Mixture

    def sic(self, cut: Floats | float) -> Floats:
        """The true SIC of a cut."""
        return self.signal.above(cut) / np.sqrt(self.background.above(cut))

    def sic_at(self, eps_s: float) -> tuple[float, float]:
        """The true SIC and background efficiency at a signal efficiency."""
        cut = brentq(lambda one: self.signal.above(one) - eps_s, -15, 20)
        return float(self.sic(cut)), float(self.background.above(cut))

    def largest_sic(self, n_background: float, n_min: float) -> float:
        """The largest true SIC of the cuts that ``n_min`` background events pass on average."""
        readable = self.background.above(_GRID) * n_background >= n_min
        return float(self.sic(_GRID[readable]).max())

    def draw(
        self, n_signal: int, n_background: int, generator: np.random.Generator
    ) -> ScoredEvents:
        """Draws events, signal first."""
        signal = self.signal.draw(n_signal, generator)
        background = self.background.draw(n_background, generator)
        label = np.repeat([1, 0], [n_signal, n_background])
        return ScoredEvents(np.concatenate([signal, background]), label, np.ones(len(label)))


NORMAL = Mixture([(1.0, 0.0, 1.0)])

CLASSIFIERS = (
    Classifier("sharp", Mixture([(0.7, 3.8, 0.55), (0.3, 0.5, 1.0)]), NORMAL),
    Classifier(
        "as CATHODE's supervised one",
        Mixture([(0.8, 4.5, 1.3), (0.2, 1.5, 1.2)]),
        Mixture([(0.9958, 0.0, 1.0), (0.0042, 3.0, 1.3)]),
    ),
    Classifier(
        "as the demo's",
        Mixture([(0.9, 3.0, 2.0), (0.1, -2.0, 2.0)]),
        Mixture([(0.98, -4.0, 2.2), (0.02, 1.0, 2.2)]),
    ),
    Classifier("weak", Mixture([(1.0, 1.0, 1.0)]), NORMAL),
    Classifier("without a maximum", Mixture([(0.5, 6.0, 1.0), (0.5, 2.0, 1.0)]), NORMAL),
)
"""Fixed classifiers from the best to the worst in shape."""


def random_classifier(generator: np.random.Generator) -> Classifier:
    """Draws a classifier: each class has a main part and a tail."""
    distance = generator.uniform(1, 6)
    share, tail = generator.uniform(0.6, 1), generator.uniform(0, 0.03)
    signal = [
        (share, distance, generator.uniform(0.5, 2)),
        (1 - share, distance * generator.uniform(0, 0.5), generator.uniform(0.7, 2)),
    ]
    background = [
        (1 - tail, 0.0, 1.0),
        (tail, generator.uniform(0, distance), generator.uniform(0.5, 2)),
    ]
    return Classifier("random", Mixture(signal), Mixture(background))
