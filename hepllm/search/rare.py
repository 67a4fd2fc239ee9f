"""Global p-values that are too small to be counted: pseudo-experiments drawn with excesses.

Where hardly any pseudo-experiment is as extreme as the data, others are drawn from the background
with an excess as large as that of the data in one window of one selection. Each gets the weight
that makes of it one without an excess (importance sampling). Half of them or so are extreme, so
that 10,000 are enough for p-values of any size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from hepllm.arrays import Bools, Floats, Ints
from hepllm.search.scan import Windows, surprise_of

_PLAIN = 0.1
"""Share of the pseudo-experiments without an excess; no weight is above its inverse."""

_STRONGER = (0.0, 0.7, 1.5, 2.5)
"""Standard deviations by which excesses are larger than that of the data.

A fit takes up some of an excess, by how much depends on the window.
"""

_NEWTON_STEPS = 30

_ONE_SIGMA = 0.68


@dataclass(frozen=True)
class RareP:
    """A p-value from weighted pseudo-experiments.

    Attributes:
        value: best estimate.
        relative_error: its statistical standard deviation over the value.
        n_toys: number of pseudo-experiments.
        n_exceeding: those at least as extreme as the data.
    """

    value: float
    relative_error: float
    n_toys: int
    n_exceeding: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 68 % interval of the p-value, Gaussian in its logarithm."""
        factor = math.exp(norm.isf((1 - _ONE_SIGMA) / 2) * self.relative_error)
        return self.value / factor, min(self.value * factor, 1.0)


@dataclass(frozen=True, eq=False)
class RareToys:
    """Pseudo-experiments with an excess in one window, and their weights.

    The excess multiplies what is expected in the window in all events that pass a selection, by so
    much that the window is as improbable as the statistic says. Windows that reach it with a
    larger probability without a signal, for which the whole numbers of events decide, are chosen
    more often. The weight is the probability density without an excess over that of the mixture of
    all windows (Owen and Zhou, J. Amer. Stat. Assoc. 95 (2000) 135, equation 8).

    Attributes:
        rejected: (B,) expected events that fail the loosest selection.
        shells: (S, B) expected events that pass a selection and not the next tighter one.
        places: first bins, widths and selections of the K windows, shape (3, K).
        factor: (K,) factor of what is expected in a window.
        expected: (K,) events expected in a window without an excess.
        share: (K,) share of the pseudo-experiments.
    """

    rejected: Floats
    shells: Floats
    places: Ints
    factor: Floats
    expected: Floats
    share: Floats

    @classmethod
    def of(cls, rejected: Floats, shells: Floats, windows: Windows, statistic: float) -> RareToys:
        """Chooses excesses as improbable as the ``statistic`` of the data, -log p."""
        within = _cumulative(np.cumsum(shells[::-1], axis=0)[::-1])
        n_bins = shells.shape[1]
        places, expected = [], []
        for width in range(windows.narrowest, min(windows.widest, n_bins) + 1):
            sums = within[:, width:] - within[:, :-width]
            selection, start = np.indices(sums.shape).reshape(2, -1)
            places.append(np.stack([start, np.full(len(start), width), selection]))
            expected.append(sums.ravel())
        known = np.maximum(np.concatenate(expected), 1e-12)
        log_p = -surprise_of(np.ceil(_improbable(known, statistic)), known)
        share = np.exp(log_p - log_p.max())
        share *= (1 - _PLAIN) / share.sum() / len(_STRONGER)
        sigma = math.sqrt(2 * statistic)
        factors = [_improbable(known, (sigma + one) ** 2 / 2) / known for one in _STRONGER]
        n_sizes = len(_STRONGER)
        return cls(
            rejected=rejected,
            shells=shells,
            places=np.tile(np.concatenate(places, axis=1), n_sizes),
            factor=np.concatenate(factors),
            expected=np.tile(known, n_sizes),
            share=np.tile(share, n_sizes),
        )

    def throw(
        self, n_toys: int, random: np.random.Generator
    ) -> tuple[Floats, list[Floats], Floats]:
        """Draws T pseudo-experiments.

        Returns:
            Rejected events (T, B), selected events (T, B) of each selection, and weights (T,).
        """
        rejected = random.poisson(self.rejected, (n_toys, len(self.rejected))).astype(np.float64)
        # The last choice is no window.
        chosen = random.choice(len(self.share) + 1, n_toys, p=[*self.share, _PLAIN])
        means = self.shells * self._factors(chosen)
        drawn = random.poisson(means).astype(np.float64)
        selected = np.cumsum(drawn[:, ::-1], axis=1)[:, ::-1]
        return rejected, list(np.swapaxes(selected, 0, 1)), self._weights(selected)

    def _factors(self, chosen: Ints) -> Floats:
        """Factors of the expected events of each shell and bin, shape (T, S, B)."""
        (start, width, selection), factor = self.places, self.factor
        start, width, selection = (np.append(one, 0)[chosen] for one in (start, width, selection))
        n_selections, n_bins = self.shells.shape
        bins, shells = np.arange(n_bins), np.arange(n_selections)
        in_window = (bins >= start[:, None]) & (bins < (start + width)[:, None])
        passes = shells >= selection[:, None]
        inside: Bools = passes[:, :, None] & in_window[:, None]
        chosen_factor = np.append(factor, 1.0)[chosen][:, None, None]
        return np.asarray(np.where(inside, chosen_factor, 1.0))

    def _weights(self, selected: Floats) -> Floats:
        """Weights (T,) from the selected events (T, S, B)."""
        total = np.full(len(selected), np.log(_PLAIN))
        for log_density in self._log_densities(selected):
            np.logaddexp(total, log_density, out=total)
        return np.asarray(np.exp(-total))

    def _log_densities(self, selected: Floats) -> Iterator[Floats]:
        """For each window, its share times the density over that without an excess, (T,).

        All windows at once would need a gigabyte for 10,000 pseudo-experiments.
        """
        cumulative = _cumulative(selected)
        log_factor, shift = np.log(self.factor), (self.factor - 1) * self.expected
        log_share = np.log(self.share)
        for place, (start, width, selection) in enumerate(self.places.T):
            counts = cumulative[:, selection, start + width] - cumulative[:, selection, start]
            yield log_share[place] + counts * log_factor[place] - shift[place]

    def adapted(self, selected: Sequence[Floats], weights: Floats) -> RareToys:
        """Returns these with shares that favour the windows of extreme pseudo-experiments.

        A step of the cross-entropy method (Rubinstein, Methodol. Comput. Appl. Probab. 1 (1999)
        127); half of the shares stay, so that no window is left out.

        Args:
            selected: (T, B) events of each selection.
            weights: (T,) weights of the extreme ones, 0 for others.
        """
        extreme = weights > 0
        counts = np.stack([one[extreme] for one in selected], axis=1)
        # The weight times the density is the probability that this window made the excess.
        log_weights = np.log(weights[extreme])
        found = [
            float((weights[extreme] * np.exp(one + log_weights)).sum())
            for one in self._log_densities(counts)
        ]
        total = sum(found)
        if total == 0:
            return self
        share = (1 - _PLAIN) * np.asarray(found) / total
        return replace(self, share=0.5 * self.share + 0.5 * share)


def rare_p_value(weights: Floats, extreme: Bools) -> RareP | None:
    """The weighted share of pseudo-experiments that are extreme, shape (T,).

    Returns:
        The p-value; None where none is extreme.
    """
    each = weights * extreme
    value = float(each.mean())
    if value == 0:
        return None
    error = float(each.std(ddof=1)) / math.sqrt(len(each))
    return RareP(value, error / value, len(each), int(extreme.sum()))


def _cumulative(events: Floats) -> Floats:
    """Sums of all bins before each edge, along the last axis."""
    padding = [(0, 0)] * (events.ndim - 1) + [(1, 0)]
    return np.pad(np.cumsum(events, axis=-1), padding)


def _improbable(expected: Floats, statistic: float) -> Floats:
    """Events n whose Chernoff bound n log(n / b) - (n - b) on -log p is the statistic."""
    seen = expected + np.sqrt(2 * statistic * expected) + statistic
    for _ in range(_NEWTON_STEPS):
        logarithm = np.log(seen / expected)
        seen -= (seen * logarithm - (seen - expected) - statistic) / logarithm
    return seen
