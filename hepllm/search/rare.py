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
from scipy.special import logsumexp
from scipy.stats import norm

from hepllm.arrays import Bools, Floats, Ints
from hepllm.search.region import after_trials
from hepllm.search.scan import Windows
from hepllm.search.smooth import SmoothBackground

_PLAIN = 0.1
"""Share of the pseudo-experiments without an excess; no weight is above its inverse."""

_STRONGER = (-0.5, 0.0, 0.7, 1.5)
"""Standard deviations by which excesses are larger than that of the data."""

_BISECTIONS = 24
_LARGEST_STRENGTH = 15.0
_LARGEST_COST = 30.0

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

    def among(self, trials: int) -> RareP:
        """The p-value of the smallest of several; see ``hepllm.search.region.after_trials``."""
        return replace(self, value=after_trials(self.value, trials))


@dataclass(frozen=True, eq=False)
class RareToys:
    """Pseudo-experiments with an excess in one window, and their weights.

    What a scan tests is N - sum(h_b n_b): the events of a window less what the fit expects there,
    which depends on the events n_b of all bins, near the truth linearly. An excess multiplies what
    is expected in each bin by exp(strength * direction_b), where the direction is the change of
    this difference with n_b: of all ways to reach a difference this is the most probable one. So
    the window rises and the events that the fit follows fall. The weight is the probability
    density without an excess over that of the mixture of all excesses (Owen and Zhou, J. Amer.
    Stat. Assoc. 95 (2000) 135, equation 8).

    Attributes:
        rejected: (B,) expected events that fail the loosest selection.
        shells: (S, B) expected events that pass a selection and not the next tighter one.
        selection: (K,) selection with the excess.
        exponent: (K, 2B) logarithm of the factors of rejected and of selected events.
        share: (K,) share of the pseudo-experiments.
    """

    rejected: Floats
    shells: Floats
    selection: Ints
    exponent: Floats
    share: Floats

    @classmethod
    def of(
        cls, rejected: Floats, shells: Floats, background: SmoothBackground, statistic: float
    ) -> RareToys:
        """Chooses excesses as improbable as the ``statistic`` of the data, -log p."""
        selections, exponents, costs = [], [], []
        for place, selected in enumerate(np.cumsum(shells[::-1], axis=0)[::-1]):
            expected = np.concatenate([rejected, np.maximum(selected, 1e-12)])
            inside = _windows(background.windows, len(rejected))
            direction = _directions(background, expected, inside)
            for stronger in _STRONGER:
                level = (max(math.sqrt(2 * statistic) + stronger, 0.1)) ** 2 / 2
                strength = _strengths(direction, inside, expected, level)
                exponent = strength[:, None] * direction
                growth = np.exp(exponent)
                # Chernoff's bound on the logarithm of the probability of such a difference.
                cost = (exponent * growth - growth + 1) @ expected
                selections.append(np.full(len(inside), place))
                exponents.append(exponent)
                costs.append(cost)
        cost = np.concatenate(costs)
        share = np.exp(np.maximum(cost.min() - cost, -_LARGEST_COST))
        share *= (1 - _PLAIN) / share.sum()
        return cls(rejected, shells, np.concatenate(selections), np.concatenate(exponents), share)

    def throw(
        self, n_toys: int, random: np.random.Generator
    ) -> tuple[Floats, list[Floats], Floats]:
        """Draws T pseudo-experiments.

        Returns:
            Rejected events (T, B), selected events (T, B) of each selection, and weights (T,).
        """
        n_selections, n_bins = self.shells.shape
        # The last choice is no excess.
        chosen = random.choice(len(self.share) + 1, n_toys, p=[*self.share, _PLAIN])
        none = np.zeros((1, 2 * n_bins))
        factors = np.exp(np.concatenate([self.exponent, none])[chosen])
        rejected = random.poisson(self.rejected * factors[:, :n_bins]).astype(np.float64)
        selection = np.append(self.selection, n_selections)[chosen]
        passes = np.arange(n_selections) >= selection[:, None]
        growth = np.where(passes[:, :, None], factors[:, None, n_bins:], 1.0)
        drawn = random.poisson(self.shells * growth).astype(np.float64)
        selected = list(np.swapaxes(np.cumsum(drawn[:, ::-1], axis=1)[:, ::-1], 0, 1))
        return rejected, selected, self._weights(rejected, selected)

    def _weights(self, rejected: Floats, selected: Sequence[Floats]) -> Floats:
        total = np.full(len(rejected), np.log(_PLAIN))
        for _, log_density in self._log_densities(rejected, selected):
            np.logaddexp(total, logsumexp(log_density, axis=1), out=total)
        return np.asarray(np.exp(-total))

    def _log_densities(
        self, rejected: Floats, selected: Sequence[Floats]
    ) -> Iterator[tuple[Ints, Floats]]:
        """For the excesses in each selection, their places (E,) and share times density (T, E).

        The density is over that without an excess.
        """
        inclusive = np.cumsum(self.shells[::-1], axis=0)[::-1]
        for place, counts in enumerate(selected):
            mine = np.flatnonzero(self.selection == place)
            exponent = self.exponent[mine]
            expected = np.concatenate([self.rejected, inclusive[place]])
            shift = np.expm1(exponent) @ expected - np.log(self.share[mine])
            yield mine, np.concatenate([rejected, counts], axis=1) @ exponent.T - shift

    def adapted(self, rejected: Floats, selected: Sequence[Floats], weights: Floats) -> RareToys:
        """Returns these with shares that favour the excesses of extreme pseudo-experiments.

        A step of the cross-entropy method (Rubinstein, Methodol. Comput. Appl. Probab. 1 (1999)
        127); half of the shares stay, so that no window is left out.

        Args:
            rejected: (T, B) events.
            selected: (T, B) events of each selection.
            weights: (T,) weights of the extreme ones, 0 for others.
        """
        extreme = weights > 0
        if not extreme.any():
            return self
        log_weights = np.log(weights[extreme])[:, None]
        found = np.zeros(len(self.share))
        # The weight times the density is the probability that this excess made the events.
        for mine, log_density in self._log_densities(
            rejected[extreme], [counts[extreme] for counts in selected]
        ):
            found[mine] = weights[extreme] @ np.exp(log_density + log_weights)
        share = (1 - _PLAIN) * found / found.sum()
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


def _windows(windows: Windows, n_bins: int) -> Floats:
    """The bins of each window, 1 inside and 0 outside, shape (W, B)."""
    bins = np.arange(n_bins)
    first, end = windows.inside(n_bins)
    return np.array(
        [
            (bins >= start) & (bins < start + width)
            for width in windows.widths(n_bins)
            for start in range(first, end - width + 1)
        ],
        dtype=np.float64,
    )


def _directions(background: SmoothBackground, expected: Floats, inside: Floats) -> Floats:
    """Change of a window's events less those of the fit with the events of each bin, (W, 2B).

    ``expected`` (2B,) are the rejected and the selected events, ``inside`` (W, B) the windows.
    """
    basis = background.smallest_basis()
    information = basis.T @ (expected[:, None] * basis)
    of_window = (np.concatenate([np.zeros_like(inside), inside], axis=1) * expected) @ basis
    followed = np.linalg.solve(information, of_window.T).T @ basis.T
    return np.asarray(np.concatenate([np.zeros_like(inside), inside], axis=1) - followed)


def _strengths(direction: Floats, inside: Floats, expected: Floats, level: float) -> Floats:
    """Strengths, shape (W,), with which a scan finds the statistic ``level``, by bisection."""
    both = np.concatenate([np.zeros_like(inside), inside], axis=1)
    low, high = np.zeros(len(inside)), np.full(len(inside), _LARGEST_STRENGTH)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        grown = expected * np.exp(np.minimum(middle[:, None] * direction, 50.0))
        seen = (both * grown).sum(axis=1)
        known = np.maximum(seen - (direction * grown).sum(axis=1), 1e-3 * seen)
        small = seen * np.log(seen / known) - (seen - known) < level
        low, high = np.where(small, middle, low), np.where(small, high, middle)
    return np.asarray((low + high) / 2)
