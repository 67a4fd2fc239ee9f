"""Whether cuts on a score change the background's m_jj spectrum, which makes false bumps.

Background events that pass a cut are compared with random selections of as many. The cut is chosen
on the same events, but keeps a fixed number of them: if the score does not depend on m_jj, they are
a random selection, so p-values are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm, spearmanr

from hepllm.arrays import Bools, Floats, Ints
from hepllm.evaluation.efficiency import efficiency
from hepllm.evaluation.metrics import ROUNDING
from hepllm.evaluation.records import Estimate
from hepllm.evaluation.sculpting_records import (
    ClassifierSculpting,
    CutSculpting,
    SculptingRecord,
    SpectraRecord,
    WindowExcess,
)
from hepllm.records import Pair

BACKGROUND_EFFICIENCIES = (1e-1, 1e-2, 1e-3)
MIN_EVENTS = 10
"""Fewest events that must pass a cut, or be expected in a window after it."""

_N_RANDOM = 1000
_N_GROUPS = 10
_LARGEST_POWER = 50.0


@dataclass(frozen=True, eq=False)
class MassBins:
    """Bins of a spectrum, and the windows of neighbouring bins in which a search looks.

    Attributes:
        edges: (B + 1,) in GeV.
        narrowest: bins of the narrowest window.
        widest: bins of the widest window.
    """

    edges: Floats
    narrowest: int
    widest: int

    @cached_property
    def windows(self) -> Ints:
        """First bin, and bin behind the last one, of each window, shape (W, 2)."""
        n_bins = len(self.edges) - 1
        found = [
            (first, first + size)
            for size in range(self.narrowest, min(self.widest, n_bins) + 1)
            for first in range(n_bins - size + 1)
        ]
        return np.array(found, dtype=np.int64).reshape(-1, 2)

    def in_windows(self, spectra: Floats) -> Floats:
        """Sums spectra (T, B) in each window, shape (T, W)."""
        sums = np.pad(np.cumsum(spectra, axis=1), ((0, 0), (1, 0)))
        return np.asarray(sums[:, self.windows[:, 1]] - sums[:, self.windows[:, 0]])


@dataclass(frozen=True, eq=False)
class BackgroundMasses:
    """Background events within the bins of a spectrum.

    Attributes:
        m_jj: (N,) in GeV.
        weight: (N,), none negative.
        bins: bins of the spectrum.
    """

    m_jj: Floats
    weight: Floats
    bins: MassBins

    @cached_property
    def place(self) -> NDArray[np.intp]:
        """The bin of each event, shape (N,)."""
        return np.searchsorted(self.bins.edges, self.m_jj, side="right") - 1

    @cached_property
    def before(self) -> Floats:
        """Sum of weights in each bin, shape (B,)."""
        return self.spectrum(np.arange(len(self.m_jj)))

    def spectrum(self, chosen: Bools | Ints) -> Floats:
        """Sum of weights in each bin of a choice of events, shape (B,)."""
        n_bins = len(self.bins.edges) - 1
        weights = self.weight[chosen]
        return np.asarray(np.bincount(self.place[chosen], weights, minlength=n_bins), float)

    def random_spectra(self, n_passing: int, random: np.random.Generator) -> Floats:
        """Spectra of random selections of so many events, shape (T, B)."""
        if (self.weight == self.weight[0]).all():
            counts = np.bincount(self.place, minlength=len(self.bins.edges) - 1)
            drawn = random.multivariate_hypergeometric(counts, n_passing, size=_N_RANDOM)
            return np.asarray(drawn * self.weight[0])
        return np.stack(
            [
                self.spectrum(random.choice(len(self.place), n_passing, replace=False))
                for _ in range(_N_RANDOM)
            ]
        )

    @cached_property
    def _groups(self) -> NDArray[np.intp]:
        """First bins of about ten groups of bins of equal content."""
        share = np.cumsum(self.before) / self.before.sum()
        group = np.minimum(share * _N_GROUPS * (1 - ROUNDING), _N_GROUPS - 1).astype(np.int64)
        return np.flatnonzero(np.diff(group, prepend=-1))

    def divergence(self, spectra: Floats, before: Floats) -> Floats:
        """Jensen-Shannon divergence of spectra (T, B) from ``before`` (T or 1, B), shape (T,)."""
        grouped = (np.add.reduceat(one, self._groups, axis=1) for one in (spectra, before))
        return jensen_shannon(*grouped)


def jensen_shannon(first: Floats, second: Floats) -> Floats:
    """Computes the Jensen-Shannon divergence of histograms along the last axis, in bits.

    Lin, IEEE Trans. Inf. Theory 37 (1991) 145: 0 for equal and 1 for disjoint shapes. Its square
    root is a distance.
    """
    p, q = (values / values.sum(axis=-1, keepdims=True) for values in (first, second))
    middle = (p + q) / 2

    def divergence(shape: Floats) -> Floats:
        ratio = np.divide(shape, middle, out=np.ones_like(middle), where=shape > 0)
        return np.asarray((shape * np.log2(ratio)).sum(axis=-1))

    return np.asarray((divergence(p) + divergence(q)) / 2)


def passes_at(score: Floats, weight: Floats, eps_b: float) -> Bools:
    """Selects the events above the loosest cut that keeps at most a share of the weights.

    Events with equal scores pass together.

    Args:
        score: (N,) scores of background events.
        weight: (N,) weights, none negative.
        eps_b: the share.

    Returns:
        Mask, shape (N,).
    """
    order = np.argsort(-score, kind="stable")
    shares = np.cumsum(weight[order]) / weight.sum()
    n_passing = int(np.searchsorted(shares, eps_b * (1 + ROUNDING), side="right"))
    if n_passing == len(score):
        return np.ones(len(score), dtype=bool)
    return np.asarray(score > score[order[n_passing]])


def measure_sculpting(
    background: BackgroundMasses,
    scores: Mapping[str, Floats],
    *,
    mass: str,
    confidence: float,
    seed: int,
) -> tuple[SculptingRecord, SpectraRecord]:
    """Measures what cuts at fixed background efficiencies do to the spectrum.

    Args:
        background: N background events.
        scores: (N,) scores of these by classifier.
        mass: name of the mass.
        confidence: probability content of intervals.
        seed: seed of random selections and replicas.

    Returns:
        The record, and the spectra before and after each cut.
    """
    edges = background.bins.edges.tolist()
    scan = _Scan(background, confidence, seed)
    found = {name: _of_classifier(scan, score) for name, score in scores.items()}
    record = SculptingRecord(
        mass=mass,
        range_gev=(edges[0], edges[-1]),
        n_background=len(background.m_jj),
        n_random=_N_RANDOM,
        confidence=confidence,
        seed=seed,
        classifiers={name: one for name, (one, _) in found.items()},
    )
    spectra = SpectraRecord(
        edges_gev=tuple(edges),
        before=tuple(background.before.tolist()),
        after={name: after for name, (_, after) in found.items()},
    )
    return record, spectra


def _of_classifier(
    scan: _Scan, score: Floats
) -> tuple[ClassifierSculpting, dict[str, tuple[float, ...]]]:
    background = scan.background
    cuts: dict[str, CutSculpting] = {}
    undefined: dict[str, str] = {}
    after: dict[str, tuple[float, ...]] = {}
    for eps_b in BACKGROUND_EFFICIENCIES:
        passes, key = passes_at(score, background.weight, eps_b), f"{eps_b:g}"
        n_passing = int(np.count_nonzero(passes))
        if n_passing < MIN_EVENTS or not background.weight[passes].sum() > 0:
            undefined[key] = (
                f"{n_passing} of {len(score)} background events pass; {MIN_EVENTS} are needed"
            )
            continue
        cuts[key] = scan.measure(passes)
        after[key] = tuple(background.spectrum(passes).tolist())
    correlation = rank_correlation(score, background.m_jj, scan.confidence)
    return ClassifierSculpting(rank_correlation=correlation, cuts=cuts, undefined=undefined), after


@dataclass(frozen=True, eq=False)
class _RandomSelections:
    """What random selections of a number of events show.

    Attributes:
        divergence: (T,) from the spectrum before the cut.
        usable: (W,) windows in which enough events are expected.
        mean: (W,) mean share of the events in each window.
        error: (W,) standard deviation of this share.
        most_significant: (T,) largest excess in any usable window, in standard deviations.
    """

    divergence: Floats
    usable: Bools
    mean: Floats
    error: Floats
    most_significant: Floats


class _Scan:
    """Compares selections of background with random ones of as many events."""

    def __init__(self, background: BackgroundMasses, confidence: float, seed: int) -> None:
        self.background = background
        self.confidence = confidence
        self.seed = seed
        self._known: dict[int, _RandomSelections] = {}

    def measure(self, passes: Bools) -> CutSculpting:
        """Measures one cut, given the events that pass."""
        background = self.background
        n_passing = int(np.count_nonzero(passes))
        random = self._random_selections(n_passing)
        after = background.spectrum(passes)[None]
        divergence = float(background.divergence(after, background.before[None])[0])
        distances = np.sqrt(random.divergence)
        return CutSculpting(
            n_passing=n_passing,
            js=float(np.sqrt(divergence)),
            js_random_median=float(np.median(distances)),
            js_random_high=float(np.quantile(distances, self.confidence)),
            js_p=_share_above(random.divergence, divergence),
            js_without_noise=self._without_noise(divergence, random, passes),
            excess=self._excess(after, random, passes),
            power=power_of(background.m_jj, background.weight, passes, confidence=self.confidence),
        )

    def _random_selections(self, n_passing: int) -> _RandomSelections:
        if n_passing not in self._known:
            background, bins = self.background, self.background.bins
            random = np.random.default_rng([self.seed, 51, n_passing])
            spectra = background.random_spectra(n_passing, random)
            shares = bins.in_windows(spectra / spectra.sum(axis=1, keepdims=True))
            mean, error = shares.mean(axis=0), shares.std(axis=0)
            usable = (n_passing * mean >= MIN_EVENTS) & (error > 0)
            deviation = (shares[:, usable] - mean[usable]) / error[usable]
            most = deviation.max(axis=1) if usable.any() else np.zeros(len(spectra))
            divergence = background.divergence(spectra, background.before[None])
            self._known[n_passing] = _RandomSelections(divergence, usable, mean, error, most)
        return self._known[n_passing]

    def _without_noise(
        self, divergence: float, random: _RandomSelections, passes: Bools
    ) -> Estimate:
        """Estimates the distance of infinitely many events.

        A finite number of events adds to the divergence what random selections have. Replicas add
        it again, so it is subtracted twice from them.
        """
        background, noise = self.background, float(random.divergence.mean())
        generator = np.random.default_rng([self.seed, 52])
        passing, failing = (self._replicas(chosen, generator) for chosen in (passes, ~passes))
        replicas = background.divergence(passing, passing + failing) - 2 * noise
        tail = (1 - self.confidence) / 2
        low, high = np.sqrt(np.clip(np.quantile(replicas, [tail, 1 - tail]), 0, None))
        value = float(np.sqrt(max(divergence - noise, 0.0)))
        return Estimate(value=value, interval=(float(low), float(high)))

    def _replicas(self, chosen: Bools, random: np.random.Generator) -> Floats:
        """Spectra of as many events as were chosen, drawn from their own spectrum, shape (T, B).

        With weights, of their effective number.
        """
        spectrum, weight = self.background.spectrum(chosen), self.background.weight[chosen]
        total = float(weight.sum())
        if not total > 0:
            return np.zeros((_N_RANDOM, len(spectrum)))
        n_events = max(round(total**2 / float(np.square(weight).sum())), 1)
        drawn = random.multinomial(n_events, spectrum / total, size=_N_RANDOM)
        return np.asarray(drawn * (total / n_events))

    def _excess(
        self, after: Floats, random: _RandomSelections, passes: Bools
    ) -> WindowExcess | None:
        """Finds the most significant excess in any window; None without a usable window."""
        background, bins, usable = self.background, self.background.bins, random.usable
        if not usable.any():
            return None
        share = bins.in_windows(after / after.sum())[0]
        deviation = (share - random.mean)[usable] / random.error[usable]
        place = int(np.flatnonzero(usable)[deviation.argmax()])
        first, end = bins.windows[place].tolist()
        before = float(background.before[first:end].sum() / background.before.sum())
        inside = (background.place[passes] >= first) & (background.place[passes] < end)
        found = efficiency(inside, background.weight[passes], self.confidence)
        interval = None if found is None else found.interval
        high = float(np.quantile(random.most_significant, self.confidence))
        return WindowExcess(
            window_gev=(float(bins.edges[first]), float(bins.edges[end])),
            n_inside=int(np.count_nonzero(inside)),
            factor=float(share[place]) / before,
            interval=None if interval is None else (interval[0] / before, interval[1] / before),
            random_high=float(random.mean[place] + high * random.error[place]) / before,
            p=_share_above(random.most_significant, float(deviation.max())),
        )


def _share_above(random: Floats, value: float) -> float:
    """Probability of at least this value, with the data as one of the selections."""
    return float((1 + np.count_nonzero(random >= value * (1 - ROUNDING))) / (1 + len(random)))


def power_of(m_jj: Floats, weight: Floats, passes: Bools, *, confidence: float) -> Estimate:
    """Fits the exponent of m_jj to which the efficiency of a cut is proportional.

    The fit has maximum likelihood: with this exponent, the mean log m_jj of all events, weighted by
    their efficiency, is that of the events that pass.

    Args:
        m_jj: (N,) in GeV.
        weight: (N,) weights, none negative.
        passes: (N,) mask of the events that pass.
        confidence: probability content of the interval.
    """
    x = np.log(m_jj / np.exp(np.average(np.log(m_jj), weights=weight)))
    kept = weight[passes]
    mean = float(np.average(x[passes], weights=kept))

    def moments(power: float) -> tuple[float, float]:
        tilted = weight * np.exp(power * x - (power * x).max())
        expected = float(np.average(x, weights=tilted))
        return expected, float(np.average(np.square(x - expected), weights=tilted))

    def difference(power: float) -> float:
        return moments(power)[0] - mean

    if not difference(-_LARGEST_POWER) < 0 < difference(_LARGEST_POWER):
        return Estimate(value=None, interval=None)
    power = float(brentq(difference, -_LARGEST_POWER, _LARGEST_POWER))
    spread = np.square(kept) @ np.square(x[passes] - mean) / kept.sum() ** 2
    failing = 1 - np.count_nonzero(passes) / len(passes)
    error = float(np.sqrt(spread * failing)) / moments(power)[1]
    half = float(norm.ppf((1 + confidence) / 2)) * error
    return Estimate(value=power, interval=(power - half, power + half))


def rank_correlation(score: Floats, m_jj: Floats, confidence: float) -> Estimate:
    """Computes Spearman's rank correlation with the interval of Bonett and Wright.

    Psychometrika 65 (2000) 23: Fisher's z has the variance (1 + r^2 / 2) / (N - 3).

    Args:
        score: (N,) scores.
        m_jj: (N,) masses.
        confidence: probability content of the interval.
    """
    if len(score) < MIN_EVENTS or np.ptp(score) == 0 or np.ptp(m_jj) == 0:
        return Estimate(value=None, interval=None)
    value = float(spearmanr(score, m_jj).statistic)
    half = norm.ppf((1 + confidence) / 2) * np.sqrt((1 + value**2 / 2) / (len(score) - 3))
    centre = np.arctanh(np.clip(value, -1 + 1e-15, 1 - 1e-15))
    between: Pair = (float(np.tanh(centre - half)), float(np.tanh(centre + half)))
    return Estimate(value=value, interval=between)
