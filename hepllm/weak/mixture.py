"""The masses and the fraction of a signal, fitted to data without labels against a template.

A classifier of simulated events that is told the masses m of a signal gives the ratio
r(x; m) = p_S(x; m) / p_B(x) of the densities of signal and background. Data with a fraction f of
such a signal have 1 + f (r - 1) times the density of background. Only m and f are fitted to the
data, and no weight of the classifier: weak supervision with a hypothesis (Cheng, Singh and Nachman,
arXiv:2405.08889).

The background is known by a template, a sample that is finite, too. So the likelihood is that an
event is one of the data, given x and the numbers of events of both samples, rho the share of data
among them:

    ln L(m, f) = sum_data ln[1 + f (r - 1)] - sum_all ln[1 + rho f (r - 1)].

It is the profile of the unknown density of the background (Anderson, Biometrika 66 (1979) 17; Qin,
Biometrika 85 (1998) 619), and up to a constant the cross-entropy of data against template that the
paper minimises. For a template without limit the second sum vanishes, and what remains is the
likelihood of a mixture of known densities. Its derivative at f = 0 is the difference of the means
of r in data and template: the fluctuations of both count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, vstack

from hepllm.arrays import Bools, Floats

EDGES = np.geomspace(0.3, 1e5, 70)
"""Edges of the bins of the ratio; one more bin is below, and one above.

An event is taken to have the mean ratio of its bin, 20 % wide: ln(1 + f r) has an error of at most
0.05, of either sign.
"""

_LOWEST_FRACTION = 1e-6
_HIGHEST_FRACTION = 0.999
"""Range of a fraction other than 0; at 1 an event of ratio 0 would be impossible."""

_HALVINGS = 12
"""Halvings of this range in the logarithm; a line between the ends of the last part follows."""


@dataclass(frozen=True, eq=False)
class RatioCounts:
    """Which of E events have which ratio under K hypotheses, in B bins.

    Made by ``count_ratios``. Nothing in it depends on which events are data, so that events can
    change sides.

    Attributes:
        masses: (K, 2) of X and Y in GeV, the heavier first.
        ratio: (K, B) mean ratio of the events of a bin, up to a factor of the hypothesis.
        members: (K B, E) ones where an event is in a bin; nothing for the lowest bins, in which
            most events are.
    """

    masses: Floats
    ratio: Floats
    members: csr_array

    def of(self, times: Floats) -> Floats:
        """Counts events by bin.

        Args:
            times: (E, T) how often each event is in each of T samples.

        Returns:
            Shape (T, K, B).
        """
        n_points, n_bins = self.ratio.shape
        counts = (self.members @ times).T.reshape(-1, n_points, n_bins)
        counts[:, :, 0] = times.sum(axis=0)[:, np.newaxis] - counts.sum(axis=-1)
        return np.asarray(counts)

    def take(self, points: Sequence[int]) -> RatioCounts:
        """Only some of the hypotheses."""
        n_bins = self.ratio.shape[1]
        rows = (np.asarray(points)[:, np.newaxis] * n_bins + np.arange(n_bins)).ravel()
        return RatioCounts(self.masses[points], self.ratio[points], self.members[rows])

    def joined(self, other: RatioCounts) -> RatioCounts:
        """These hypotheses, and others of the same events after them."""
        return RatioCounts(
            np.concatenate([self.masses, other.masses]),
            np.concatenate([self.ratio, other.ratio]),
            vstack([self.members, other.members], format="csr"),
        )


def count_ratios(masses: Floats, log_ratios: Iterable[Floats]) -> RatioCounts:
    """Sorts events into bins of their ratio.

    Args:
        masses: (K, 2) of X and Y in GeV, the heavier first.
        log_ratios: for each hypothesis the logarithms of the ratios of E events of data and
            template, shape (E,), up to a constant.
    """
    n_bins = len(EDGES) + 1
    means, rows, columns, n_events = [], [], [], 0
    for number, log_ratio in enumerate(log_ratios):
        n_events = len(log_ratio)
        ratio = np.exp(log_ratio - log_ratio.max())
        ratio /= ratio.mean()
        place = np.digitize(ratio, EDGES)
        found = np.bincount(place, minlength=n_bins)
        means.append(np.bincount(place, ratio, minlength=n_bins) / np.maximum(found, 1))
        above = np.flatnonzero(place)
        rows.append(number * n_bins + place[above])
        columns.append(above)
    joined = np.concatenate(rows), np.concatenate(columns)
    ones = np.ones(len(joined[0]), dtype=np.float32)
    members = csr_array((ones, joined), shape=(len(means) * n_bins, n_events))
    return RatioCounts(masses, np.array(means), members)


@dataclass(frozen=True, eq=False)
class Samples:
    """T pairs of data and template, as counts by hypothesis and bin.

    Attributes:
        data: (T, K, B).
        template: (T, K, B).
        excess: (T, K, B) ratio minus 1; the mean ratio of each template is 1.
    """

    data: Floats
    template: Floats
    excess: Floats

    @classmethod
    def of(cls, counts: RatioCounts, data: Floats, template: Floats) -> Samples:
        """The counts of events that are (E, T) times in data and in template."""
        n_data, n_template = counts.of(data), counts.of(template)
        means = (n_template * counts.ratio).sum(axis=-1) / n_template.sum(axis=-1)
        return cls(n_data, n_template, counts.ratio / means[..., np.newaxis] - 1)

    @property
    def share(self) -> Floats:
        """Share of data among all events, (T, 1, 1)."""
        n_data = self.data[:, :1].sum(axis=-1, keepdims=True)
        return np.asarray(n_data / (n_data + self.template[:, :1].sum(axis=-1, keepdims=True)))

    def log_likelihood(self, fraction: Floats) -> Floats:
        """The log-likelihood, 0 without a signal, (T, K), for fractions of the same shape."""
        shift = fraction[..., np.newaxis] * self.excess
        everything = self.data + self.template
        terms = self.data * np.log1p(shift) - everything * np.log1p(self.share * shift)
        return np.asarray(terms.sum(axis=-1))

    def _slope(self, fraction: Floats) -> Floats:
        shift = fraction[..., np.newaxis] * self.excess
        share, everything = self.share, self.data + self.template
        terms = self.data / (1 + shift) - everything * share / (1 + share * shift)
        return np.asarray((terms * self.excess).sum(axis=-1))

    def fit(self) -> FittedFractions:
        """Finds the most likely fraction under each hypothesis, at least 0."""
        shape = self.excess.shape[:-1]
        is_signal = self._slope(np.zeros(shape)) > 0
        low, high = np.full(shape, _LOWEST_FRACTION), np.full(shape, _HIGHEST_FRACTION)
        at_low, at_high = self._slope(low), self._slope(high)
        for _ in range(_HALVINGS):
            middle = np.sqrt(low * high)
            slope = self._slope(middle)
            is_below = slope > 0
            low, at_low = np.where(is_below, middle, low), np.where(is_below, slope, at_low)
            high, at_high = np.where(is_below, high, middle), np.where(is_below, at_high, slope)
        part = np.clip(at_low / np.where(at_low > at_high, at_low - at_high, 1.0), 0, 1)
        fraction = np.where(is_signal, low + part * (high - low), 0.0)
        return FittedFractions(fraction, np.maximum(2 * self.log_likelihood(fraction), 0.0))


@dataclass(frozen=True, eq=False)
class FittedFractions:
    """The most likely fractions of T pairs of samples under K hypotheses.

    Attributes:
        fraction: (T, K) of signal among the data.
        statistic: (T, K) twice the logarithm of the likelihood over that without a signal.
    """

    fraction: Floats
    statistic: Floats


def observed_samples(counts: RatioCounts, is_data: Bools) -> Samples:
    """The data, (E,) events with ``is_data``, and the template, all others; T = 1."""
    data = is_data[:, np.newaxis].astype(np.float64)
    return Samples.of(counts, data, 1 - data)
