"""A part of the mass range that a search is restricted to, one of several that are scanned."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats


@dataclass(frozen=True)
class MassRegion:
    """A mass region of a search: only excesses inside of it count.

    The background is still fitted to the whole mass range.

    Attributes:
        low: lower end in GeV.
        high: upper end in GeV.
        trials: regions that were scanned with this one; p-values count them.
    """

    low: float
    high: float
    trials: int = 1

    def bins(self, edges: Floats) -> tuple[int, int]:
        """The first bin, and the one after the last, that are inside.

        Args:
            edges: (B + 1,) in GeV; ends of the region within 1e-6 of an edge are at it.
        """
        first = int(np.searchsorted(edges, self.low * (1 - 1e-6)))
        end = int(np.searchsorted(edges, self.high * (1 + 1e-6), side="right")) - 1
        return first, max(end, first)


def after_trials(p_value: float, trials: int) -> float:
    """The probability that the smallest of some independent p-values is at most this one.

    1 - (1 - p)^n (Sidak, J. Amer. Stat. Assoc. 62 (1967) 626). It is too large, so safe, where
    the p-values depend on one another positively, as those of regions that overlap do.
    """
    if trials == 1 or p_value >= 1:
        return p_value
    return -math.expm1(trials * math.log1p(-p_value))
