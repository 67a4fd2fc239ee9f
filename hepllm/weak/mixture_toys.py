"""Pseudo-experiments of the fit of a mixture: its p-values, and the reach of its intervals.

Without a signal, data and template are two draws of the same background. Any other division of all
their events into samples of these sizes would then have been as probable, so that the share of
divisions with a larger statistic is a p-value that needs no model of the background (Phipson and
Smyth, arXiv:1603.05766). It is valid for samples of any size, and the largest statistic of all
hypotheses counts the trials.

With a signal, pseudo-experiments draw data and template from the template, and give the events of
the data the weight 1 + f (r - 1). Their likelihood ratios at the true values say which likelihoods
are still compatible with the data. The usual values (1 and 3.84) hold for a strong signal only: a
weak one is easily outdone by a fluctuation elsewhere in the plane.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Floats
from hepllm.logs import progress_bar
from hepllm.search.toys import PValue
from hepllm.weak.mixture import RatioCounts, Samples

LEVELS = (0.68, 0.95)
"""Confidence levels of intervals."""

_CHI_SQUARE = (0.989, 3.841)
"""Quantiles of chi-squared of one degree of freedom at these levels."""

_BLOCK = 50
"""Pseudo-experiments that are fitted together, at most."""

_ENTRIES = 20_000_000
"""Events times pseudo-experiments that are in memory together, in each of a few arrays."""

_MIN_EXCEEDING = 20
"""Pseudo-experiments exceeding the data below which more are made."""

_NULL, _SIGNAL = 81, 82
"""Streams of random numbers, beside those of other modules."""


@dataclass(frozen=True, eq=False)
class NullToys:
    """Divisions of the events of data and template.

    Attributes:
        p_value: of the largest statistic of all hypotheses.
        p_point: (K,) of the statistic of each hypothesis alone.
        largest: (T,) largest statistic of each division.
    """

    p_value: PValue
    p_point: Floats
    largest: Floats


def divide_again(
    counts: RatioCounts, is_data: Bools, statistic: Floats, n_toys: tuple[int, int], seed: int
) -> NullToys:
    """Computes p-values of the statistics of K hypotheses.

    Args:
        counts: ratios of E events.
        is_data: (E,).
        statistic: (K,) of the data.
        n_toys: divisions at first, and the most that are made until 20 exceed the data.
        seed: seed of the divisions.
    """
    random = np.random.default_rng([seed, _NULL])
    order = np.flatnonzero(is_data), np.flatnonzero(~is_data)
    n_data, n_events = len(order[0]), len(is_data)
    first, most = n_toys
    largest: list[float] = []
    exceeding = np.zeros(len(statistic))
    with progress_bar(most, "null", "pseudo-experiments") as bar:
        while len(largest) < most:
            n_exceeding = sum(one >= statistic.max() for one in largest)
            if len(largest) >= first and n_exceeding >= _MIN_EXCEEDING:
                break
            size = min(_block(n_events), most - len(largest))
            data = np.zeros((n_events, size))
            for toy in range(size):
                data[random.choice(n_events, n_data, replace=False), toy] = 1
            found = Samples.of(counts, data, 1 - data).fit().statistic
            exceeding += (found >= statistic).sum(axis=0)
            largest += found.max(axis=1).tolist()
            bar.update(size)
    n_exceeding = int((np.array(largest) >= statistic.max()).sum())
    return NullToys(
        PValue(n_exceeding, len(largest)),
        (exceeding + 1) / (len(largest) + 1),
        np.array(largest),
    )


def _block(n_events: int) -> int:
    return max(1, min(_BLOCK, _ENTRIES // n_events))


@dataclass(frozen=True)
class Truth:
    """The signal of pseudo-experiments: its place among the hypotheses, and its fraction."""

    place: int
    fraction: float


@dataclass(frozen=True, eq=False)
class Reach:
    """How far 2 ln L may lie below its maximum, for each of ``LEVELS``.

    Attributes:
        fraction: for the fraction, with both masses free.
        heavy: for the mass of the heavier of X and Y, with all else free.
        light: for that of the lighter one.
    """

    fraction: tuple[float, ...] = _CHI_SQUARE
    heavy: tuple[float, ...] = _CHI_SQUARE
    light: tuple[float, ...] = _CHI_SQUARE


def reach_of_intervals(
    counts: RatioCounts, is_data: Bools, truth: Truth, n_toys: int, seed: int
) -> Reach:
    """Measures the reach in pseudo-experiments at the fitted masses and fraction.

    It is never less than that of a strong signal.

    Args:
        counts: ratios of E events under K hypotheses.
        is_data: (E,).
        truth: the fit.
        n_toys: pseudo-experiments.
        seed: their seed.
    """
    missing = []
    same_heavy, same_light = (counts.masses == counts.masses[truth.place]).T
    with progress_bar(n_toys, "intervals", "pseudo-experiments") as bar:
        for toys in _signal_toys(counts, is_data, truth, n_toys, seed):
            statistic = toys.fit().statistic
            at_truth = 2 * toys.log_likelihood(np.full(statistic.shape, truth.fraction))
            profiles = (
                at_truth.max(axis=1),
                statistic[:, same_heavy].max(axis=1),
                statistic[:, same_light].max(axis=1),
            )
            missing.append(statistic.max(axis=1) - np.array(profiles))
            bar.update(len(statistic))
    quantiles = np.quantile(np.concatenate(missing, axis=1), LEVELS, axis=1).T
    found = np.maximum(quantiles, _CHI_SQUARE)
    return Reach(*(tuple(one) for one in found.tolist()))


def _signal_toys(
    counts: RatioCounts, is_data: Bools, truth: Truth, n_toys: int, seed: int
) -> Iterator[Samples]:
    place = truth.place
    random = np.random.default_rng([seed, _SIGNAL])
    n_bins = counts.ratio.shape[1]
    template = np.flatnonzero(~is_data)
    mine = counts.members[place * n_bins : (place + 1) * n_bins]
    of_event = np.full(len(is_data), counts.ratio[place, 0])
    rows, columns = mine.nonzero()
    of_event[columns] = counts.ratio[place, rows]
    ratio = of_event[template] / of_event[template].mean()
    expected = is_data.sum() / len(template) * (1 + truth.fraction * (ratio - 1))
    block = _block(len(is_data))
    for start in range(0, n_toys, block):
        size = min(block, n_toys - start)
        data, again = np.zeros((2, len(is_data), size))
        data[template] = random.poisson(expected[:, np.newaxis], (len(template), size))
        again[template] = random.poisson(1.0, (len(template), size))
        yield Samples.of(counts, data, again)
