"""Hypotheses as numbers, for classifiers that read no words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats
from hepllm.hypotheses.hypothesis import Hypothesis
from hepllm.hypotheses.signal import DECAYS


@dataclass(frozen=True, eq=False)
class HypothesisNumbers:
    """What N hypotheses state, the heavier of X and Y first.

    Attributes:
        masses: (N, 2) in GeV, NaN where unknown.
        decays: (N, 2, D) one-hot in the order of ``DECAYS``, zeros where unknown.
        n_prongs: (N, 2), NaN where unknown.
    """

    masses: Floats
    decays: Floats
    n_prongs: Floats

    @property
    def columns(self) -> Floats:
        """All of them beside each other, (N, 4 + 2 D): masses, prongs, decays."""
        flat = self.decays.reshape(len(self.decays), 2 * len(DECAYS))
        return np.column_stack([self.masses, self.n_prongs, flat])


def one_hot(hypotheses: Sequence[Hypothesis]) -> HypothesisNumbers:
    """Turns N hypotheses into numbers; each different one is read once."""
    place: dict[Hypothesis, int] = {}
    rows = np.array([place.setdefault(one, len(place)) for one in hypotheses], dtype=np.intp)
    masses = np.array([one.masses for one in place]).reshape(-1, 2)
    decays = np.zeros((len(place), 2, len(DECAYS)))
    n_prongs = np.full((len(place), 2), np.nan)
    for hypothesis, row in place.items():
        for side, product in enumerate(hypothesis.signal.products):
            if product.decay is not None:
                decays[row, side, DECAYS.index(product.decay)] = 1
            if product.n_prongs is not None:
                n_prongs[row, side] = product.n_prongs
    return HypothesisNumbers(masses[rows], decays[rows], n_prongs[rows])
