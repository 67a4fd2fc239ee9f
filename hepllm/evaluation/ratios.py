"""The ratio of two SICs of the same events, where too little background passes for a difference.

The ratio at one signal efficiency is the square root of the ratio of two background efficiencies.
What tells the two apart is the background that passes only one of the cuts, counted exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Floats, Ints
from hepllm.evaluation.metrics import ROUNDING
from hepllm.evaluation.scores import ScoredEvents

_N_DRAWS = 1000
_N_EACH = 8
"""Draws of the background for each draw of the signal."""


@dataclass(frozen=True)
class RatioInterval:
    """A central interval of a ratio.

    Attributes:
        low: lower end; None where nothing excludes 0.
        high: upper end; None where it is open.
    """

    low: float | None
    high: float | None


def sic_ratio(
    first: ScoredEvents, second: ScoredEvents, eps_s: float, confidence: float, seed: int
) -> RatioInterval:
    """Computes the interval of the SIC of the first score over that of the second.

    Each draw resamples the signal, which moves both cuts, and takes the background that
    passes both or one of them from gamma distributions, the confidence distributions of Poisson
    means. The event more that these have at the upper end (Garwood, Biometrika 28 (1936) 437) is
    given to the side that makes the interval wider.

    Args:
        first: scores of the first classifier.
        second: scores of the second classifier, of the same events.
        eps_s: signal efficiency of both cuts.
        confidence: probability content of the interval.
        seed: seed of the draws.
    """
    if first.problem is not None:
        return RatioInterval(None, None)
    generator = np.random.default_rng([seed, 8])
    signal = [_Signal.of(events) for events in (first, second)]
    weight = first.weight[first.is_signal]
    n_signal = len(weight)
    cuts, reached = np.empty((2, _N_DRAWS)), np.empty((2, _N_DRAWS))
    for draw in range(_N_DRAWS):
        times = np.bincount(generator.integers(n_signal, size=n_signal), minlength=n_signal)
        for row, ranked in enumerate(signal):
            cuts[row, draw], reached[row, draw] = ranked.cut(times * weight, eps_s)
    counts = np.repeat(_count(first, second, cuts), _N_EACH, axis=1)
    both, only_first, only_second = counts
    common, ours, theirs, more = (
        generator.standard_gamma(shape) for shape in (both, only_first, only_second, 1 + 0 * both)
    )
    with np.errstate(divide="ignore", invalid="ignore"):  # no background passes
        share = np.repeat(reached[0] / reached[1], _N_EACH)
        lowest = share * np.sqrt((common + theirs) / (common + ours + more))
        highest = share * np.sqrt((common + theirs + more) / (common + ours))
    if not (np.isfinite(lowest).all() and (highest >= 0).all()):
        return RatioInterval(None, None)
    # Order statistics: an interpolated quantile is undefined beside an open end.
    low = float(np.sort(lowest)[int((1 - confidence) / 2 * len(lowest))])
    high = float(np.sort(highest)[int((1 + confidence) / 2 * len(lowest))])
    return RatioInterval(low if low > 0 else None, high if np.isfinite(high) else None)


@dataclass(frozen=True, eq=False)
class _Signal:
    """Signal scores in falling order.

    Attributes:
        order: (S,) positions of the events in that order.
        score: (S,) scores in that order.
        group_end: (D,) index of the last event of each distinct score.
    """

    order: Ints
    score: Floats
    group_end: Ints

    @classmethod
    def of(cls, events: ScoredEvents) -> _Signal:
        score = events.score[events.is_signal]
        order = np.argsort(-score, kind="stable")
        ranked = score[order]
        return cls(order, ranked, np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1))

    def cut(self, weight: Floats, eps_s: float) -> tuple[float, float]:
        """The tightest cut that reaches an efficiency, and the efficiency that it reaches."""
        passing = np.cumsum(weight[self.order])[self.group_end]
        if passing[-1] <= 0:  # possible with negative weights
            return np.inf, np.nan
        shares = passing / passing[-1]
        rising = np.maximum.accumulate(shares)
        group = int(np.searchsorted(rising, eps_s * (1 - ROUNDING)))
        return float(self.score[self.group_end[group]]), float(shares[group])


def _count(first: ScoredEvents, second: ScoredEvents, cuts: Floats) -> Floats:
    """Counts the background above both cuts, the first alone and the second alone, shape (3, R)."""
    is_background = ~first.is_signal
    weight = first.weight[is_background]
    scores = [events.score[is_background] for events in (first, second)]
    near = (scores[0] >= cuts[0].min()) | (scores[1] >= cuts[1].min())
    size = np.abs(weight[near])
    counts = np.empty((3, cuts.shape[1]))
    unit = _unit(weight, size)
    for draw, (one, other) in enumerate(cuts.T):
        passes = scores[0][near] >= one, scores[1][near] >= other
        parts: tuple[Bools, ...] = (
            passes[0] & passes[1],
            passes[0] & ~passes[1],
            ~passes[0] & passes[1],
        )
        counts[:, draw] = [size[part].sum() / unit for part in parts]
    return counts


def _unit(weight: Floats, passing: Floats) -> float:
    """Weight of an event of equal weight: that of all, or of those that pass if it is larger."""
    of_all = float(np.square(weight).sum() / weight.sum())
    if not len(passing):
        return of_all
    return max(of_all, float(np.square(passing).sum() / passing.sum()))
