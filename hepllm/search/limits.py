"""Upper limits on the number of signal events, where a search finds no excess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from hepllm.arrays import Floats
from hepllm.errors import RunError
from hepllm.search.hunt import SearchResult
from hepllm.search.peakfit import PeakFits, fit_with_peak
from hepllm.search.records import SignalEfficiency, UpperLimit, UpperLimits
from hepllm.search.resonance import RESOLUTION, peak

CONFIDENCE = 0.95
METHOD = "CLs, profile likelihood ratio, pseudo-experiments"

_MASS_STEP = 500.0
_MARGIN = 2.0
"""Smallest distance of a mass from the ends of the m_jj range, in widths of the peak."""

_N_SIZES = 10
_NEAR = 1.6
"""Largest distance from the level, in log CLs, of the points that a parabola is fitted to."""

_LEVEL = float(np.log(1 - CONFIDENCE))
_MAX_SIZE = 1e6


@dataclass(frozen=True, eq=False)
class PeakSearch:
    """A peak of fixed mass and width over a smooth background.

    Attributes:
        counts: (B,) observed events.
        shape: (B,) share of the signal in each bin; sums to 1.
        basis: (B, P) orthonormal columns of the background fit.
        offset: (B,) logarithm of the spectrum that exp(basis . p) multiplies.
    """

    counts: Floats
    shape: Floats
    basis: Floats
    offset: Floats

    def fit(self, counts: Floats, size: float | Floats | None) -> PeakFits:
        """Fits T spectra, shape (T, B), with ``size`` signal events; None fits their number."""
        return fit_with_peak(counts, self.shape, self.basis, self.offset, size)

    def statistic(self, counts: Floats, free: PeakFits, size: float | Floats) -> Floats:
        """q_mu of T spectra, shape (T, B), for ``size`` signal events, a number or shape (T,).

        Cowan, Cranmer, Gross and Vitells, arXiv:1007.1727, equation 16 (q tilde): 0 where the free
        fit finds at least ``size`` events; that fit never has fewer than 0 events.

        Args:
            counts: (T, B) events.
            free: fits of the same spectra with free signal, or of one spectrum that is repeated.
            size: tested number of signal events.
        """
        excess = np.maximum(self.fit(counts, size).deviance - free.deviance, 0.0)
        return np.where(free.size >= size, 0.0, excess)

    def hypothesis(self, size: float) -> Floats:
        """Expected events, shape (B,), with ``size`` signal events on the background that fits."""
        return np.asarray(self.fit(self.counts[None], size).expected[0])

    def asymptotic_limits(self) -> tuple[float, float]:
        """Observed and median expected 95 % CLs limits in the limit of many events.

        Equations 65 and 66 of arXiv:1007.1727, with its Asimov data for the expected limit. Both
        limits are too small where they are only a few events.
        """
        sizes = np.geomspace(0.3, 1.2 * max(self.counts.sum(), 10.0), 80)
        of_asimov = self._profile(self.hypothesis(0.0), sizes)
        of_data = self._profile(self.counts, sizes)
        observed, expected = (_asymptotic(q, of_asimov) for q in (of_data, of_asimov))
        return _crossing(sizes, observed), _crossing(sizes, expected)

    def _profile(self, counts: Floats, sizes: Floats) -> Floats:
        """q_mu of one spectrum for several numbers of signal events."""
        repeated = np.repeat(counts[None], len(sizes), axis=0)
        return self.statistic(repeated, self.fit(counts[None], None), sizes)

    def log_cls(self, sizes: Floats, random: np.random.Generator, n_toys: int) -> Floats:
        """Computes the logarithm of CLs for S numbers of signal events by pseudo-experiments.

        CLs = p(signal and background) / p(background alone) (Read, J. Phys. G 28 (2002) 2693),
        each the share of ``n_toys`` pseudo-experiments at least as unlike signal. They are drawn
        from the background that fits the data best under each hypothesis, and are fitted again.
        Data that are less like signal than 97.5 % of spectra without signal count as that
        quantile: no limit is better than a downward fluctuation of two standard deviations
        explains, and CLs stays defined.

        Returns:
            (S, 4): for the data, and for spectra without signal at the median, the 16 % and the
            84 % quantile of their limits.
        """
        data = self.counts[None]
        of_data = self.fit(data, None)
        without, of_without = self._draw(0.0, random, n_toys)
        found = []
        for size in sizes:
            with_signal, of_with = self._draw(size, random, n_toys)
            q_with = self.statistic(with_signal, of_with, size)
            q_without = self.statistic(without, of_without, size)
            # The less a spectrum is like signal, the higher is q and the lower the limit.
            quantiles = np.quantile(q_without, [0.975, 0.5, 0.84, 0.16], method="inverted_cdf")
            levels = [min(self.statistic(data, of_data, size)[0], quantiles[0]), *quantiles[1:]]
            # The level of the data is at most that of a toy, so the denominator is not 0.
            found.append(
                [max(_n_beyond(q_with, one), 0.5) / _n_beyond(q_without, one) for one in levels]
            )
        return np.asarray(np.log(found))

    def _draw(
        self, size: float, random: np.random.Generator, n_toys: int
    ) -> tuple[Floats, PeakFits]:
        expected = self.hypothesis(size)
        drawn = random.poisson(expected, (n_toys, len(expected))).astype(np.float64)
        return drawn, self.fit(drawn, None)


def _n_beyond(toys: Floats, level: float) -> int:
    """Counts the toys that are at least as large as a level, up to rounding."""
    return int((toys >= level - 1e-6).sum())


def _asymptotic(q: Floats, q_asimov: Floats) -> Floats:
    """Logarithm of CLs for many events, from q and the q of data without signal."""
    root, scale = np.sqrt(q), np.sqrt(np.maximum(q_asimov, 1e-12))
    far = root > scale
    with_signal = np.where(far, (q + q_asimov) / (2 * scale), root)
    without = np.where(far, (q - q_asimov) / (2 * scale), root - scale)
    return np.asarray(norm.logsf(with_signal) - norm.logsf(without))


def _crossing(sizes: Floats, log_cls: Floats) -> float:
    """Returns the size where CLs, which falls with it, first crosses 0.05; NaN if it does not."""
    below = np.flatnonzero(log_cls < _LEVEL)
    if not len(below):
        return float("nan")
    # Where CLs is below the level from the start, the pair is one point: the first size.
    pair = slice(max(below[0] - 1, 0), below[0] + 1)
    return float(np.interp(-_LEVEL, -log_cls[pair], sizes[pair]))


def _smooth_crossing(sizes: Floats, log_cls: Floats) -> float:
    """As ``_crossing`` for CLs of pseudo-experiments: a fitted parabola reduces their noise."""
    distance = np.abs(log_cls - _LEVEL)
    near = distance < max(_NEAR, float(np.sort(distance)[3]) + 1e-9)
    x, weight = sizes[near], np.exp(log_cls[near] / 2)
    parabola = np.polynomial.Polynomial.fit(x, log_cls[near], 2, w=weight)
    fine = np.linspace(x.min(), x.max(), 500)
    found = _crossing(fine, parabola(fine))
    inside = np.isfinite(found) and x.min() < found < x.max()
    return found if inside else _crossing(sizes, log_cls)


def upper_limits(
    result: SearchResult,
    efficiencies: Sequence[SignalEfficiency] | None,
    seed: int,
    *,
    n_toys: int = 1000,
) -> UpperLimits:
    """Computes 95 % CL limits at the largest fluctuation, and at multiples of 500 GeV.

    At each mass one selection is used: the one with the smallest expected limit on the signal
    before the cut, which does not depend on a fluctuation at this mass; without efficiencies the
    loosest. The limit on the signal in the box uses the lower end of the efficiency.

    Args:
        result: result of the search.
        efficiencies: efficiency for a signal of each selection; None if not known.
        seed: seed of the pseudo-experiments.
        n_toys: pseudo-experiments for each hypothesis and number of events.

    Raises:
        RunError: if the data allow no limit.
    """
    low, high = result.spectra.edges[0], result.spectra.edges[-1]
    least, most = low / (1 - _MARGIN * RESOLUTION), high / (1 + _MARGIN * RESOLUTION)
    first = np.ceil(least / _MASS_STEP) * _MASS_STEP
    masses = [float(mass) for mass in np.arange(first, most, _MASS_STEP)]
    if least <= result.resonance.mass.value <= most:
        masses.insert(0, result.resonance.mass.value)
    return UpperLimits(
        confidence=CONFIDENCE,
        method=METHOD,
        relative_width=RESOLUTION,
        by_mass=[
            _limit_at(mass, result, efficiencies, np.random.default_rng([seed, 34, place]), n_toys)
            for place, mass in enumerate(masses)
        ],
    )


def _limit_at(
    mass: float,
    result: SearchResult,
    efficiencies: Sequence[SignalEfficiency] | None,
    random: np.random.Generator,
    n_toys: int,
) -> UpperLimit:
    shape = peak(result.spectra.edges, mass, RESOLUTION)
    searches = [
        PeakSearch(counts, shape / shape.sum(), one.basis, one.offset)
        for counts, one in zip(result.spectra.selected, result.selections, strict=True)
    ]
    chosen, least_efficiency = 0, 0.0
    if efficiencies is not None:
        expected = np.array([one.asymptotic_limits()[1] for one in searches])
        shares = np.array([one.value for one in efficiencies])
        before_cut = np.where(shares > 0, expected, np.nan) / shares
        chosen = int(np.argmin(np.nan_to_num(before_cut, nan=np.inf)))
        least_efficiency = efficiencies[chosen].low
    observed, median, low, high = limits_by_toys(searches[chosen], random, n_toys)
    return UpperLimit(
        mass_gev=mass,
        is_largest_fluctuation=mass == result.resonance.mass.value,
        efficiency=result.selections[chosen].cut.efficiency,
        n_signal_selected=observed,
        expected=median,
        expected_16=low,
        expected_84=high,
        n_signal_box=observed / least_efficiency if least_efficiency > 0 else None,
    )


def limits_by_toys(
    search: PeakSearch, random: np.random.Generator, n_toys: int
) -> tuple[float, float, float, float]:
    """Returns the observed limit, and median, 16 % and 84 % quantile of those without signal."""
    known = [value for value in search.asymptotic_limits() if np.isfinite(value)] or [3.0]
    # The limit is 3 events where none are observed or expected.
    sizes = np.geomspace(min(0.4 * min(known), 2.0), max(1.8 * max(known), 4.5), _N_SIZES)
    logs = search.log_cls(sizes, random, n_toys)
    while logs[-1].max() > _LEVEL:
        sizes = np.append(sizes, 1.3 * sizes[-1])
        if sizes[-1] > _MAX_SIZE:
            raise RunError("no upper limit: the background fit absorbs any number of signal events")
        logs = np.vstack([logs, search.log_cls(sizes[-1:], random, n_toys)])
    observed, median, low, high = (_smooth_crossing(sizes, column) for column in logs.T)
    # Where nearly all spectra are empty, the quantiles differ only by the noise of the toys.
    return observed, median, min(low, median), max(high, median)
