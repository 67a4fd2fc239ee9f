"""What hypotheses state, as the numbers of an event's encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from hepllm.hypotheses.arrays import one_hot
from hepllm.hypotheses.hypothesis import Hypothesis
from hepllm.hypotheses.signal import DECAYS, MOST_PRONGS

DECAY_COLUMNS = 2 * (len(DECAYS) + MOST_PRONGS)


@dataclass(frozen=True, eq=False)
class Stated:
    """What the hypotheses of B events state of X and Y, the heavier first.

    Attributes:
        masses: shape (B, 2), float64, in GeV; NaN where none is stated.
        decays: shape (B, ``DECAY_COLUMNS``), float32: for X, then for Y, 1 in the place of its
            decay, and 1 in that of its number of prongs, which may be stated alone; 0 elsewhere.
    """

    masses: Tensor
    decays: Tensor

    @classmethod
    def of(cls, hypotheses: Sequence[Hypothesis], device: torch.device) -> Self:
        """Reads hypotheses; each different one once."""
        numbers = one_hot(hypotheses)
        prongs = numbers.n_prongs[..., np.newaxis] == np.arange(1, MOST_PRONGS + 1)
        decays = np.concatenate([numbers.decays, prongs], axis=2).reshape(len(prongs), -1)
        return cls(
            torch.from_numpy(numbers.masses).to(device),
            torch.from_numpy(decays.astype(np.float32)).to(device),
        )
