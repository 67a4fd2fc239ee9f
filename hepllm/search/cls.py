"""CLs limits on a peak of known shape, by pseudo-experiments and in the limit of many events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm

from hepllm.arrays import Floats
from hepllm.errors import RunError
from hepllm.search.peakfit import PeakFits, PeakModel, fit_peaks

CONFIDENCE = 0.95

QUANTILES = (0.025, 0.16, 0.5, 0.84, 0.975)
"""Quantiles of the limits of spectra without signal: a median and bands of 68 % and 95 %."""

_LEVEL = float(np.log(1 - CONFIDENCE))
_N_SIZES = 7
_MAX_STEP = 0.25
"""Largest step of the tested numbers of events, in their logarithm."""

_NEAR = 1.6
"""Largest distance from the level, in log CLs, of the points that a parabola is fitted to."""

_MAX_SIZE = 1e6
_TINY = 1e-12


@dataclass(frozen=True)
class LimitValues:
    """The observed limit, and the quantiles of the limits of spectra without signal."""

    observed: float
    expected: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class PeakTest:
    """A spectrum, and all that is needed to test it for a peak of any size.

    Attributes:
        counts: (B,) observed events.
        model: peaks and background; its first peak is the signal.
        variations: (V, B) possible shapes of the signal, equally probable; they differ by the
            errors of scale and resolution.
        factors: (J,) possible efficiencies over the best estimate, equally probable; an odd
            number of them, in rising order, so that the one in the middle is 1.
    """

    counts: Floats
    model: PeakModel
    variations: Floats
    factors: Floats

    @classmethod
    def of(cls, counts: Floats, shape: Floats, basis: Floats, offset: Floats) -> PeakTest:
        """Makes a test of a peak whose shape and efficiency have no error."""
        return cls(counts, PeakModel(shape[None], basis, offset), shape[None], np.ones(1))

    def statistic(
        self, counts: Floats, free: PeakFits, size: float | Floats, start: PeakFits | None = None
    ) -> Floats:
        """q_mu of T spectra, shape (T, B), for ``size`` signal events, a number or shape (T,).

        Cowan, Cranmer, Gross and Vitells, arXiv:1007.1727, equation 16 (q tilde): 0 where the free
        fit finds at least ``size`` events; that fit never has fewer than 0 events.

        Args:
            counts: (T, B) events.
            free: fits of the same spectra with free signal.
            size: tested number of signal events.
            start: fits to start from; None for the free ones.
        """
        fixed = fit_peaks(self.model, counts, size, free if start is None else start)
        return np.where(free.size >= size, 0.0, np.maximum(fixed.deviance - free.deviance, 0.0))

    def expected_limit(self, outside: Floats) -> float:
        """Median expected limit for many events, equations 65 and 66 of arXiv:1007.1727.

        Args:
            outside: (B,) events of a background that does not depend on the data near the peak.
        """
        sizes = self._scanned(outside)
        q = self._profile(outside, sizes)
        return _crossing(sizes, _asymptotic(q, q))

    def asymptotic_limits(self) -> tuple[float, float]:
        """Observed and median expected 95 % CLs limits in the limit of many events.

        Shape and efficiency have no error here. Both are too small where they are only a few
        events.
        """
        sizes = self._scanned(self.counts)
        of_asimov = self._profile(self.without_signal()[0], sizes)
        of_data = self._profile(self.counts, sizes)
        observed, expected = (_asymptotic(q, of_asimov) for q in (of_data, of_asimov))
        return _crossing(sizes, observed), _crossing(sizes, expected)

    def _scanned(self, counts: Floats) -> Floats:
        most = counts[self.model.shapes[0] > 0].sum()
        return np.geomspace(0.3, 1.2 * max(float(most), 10.0), 80)

    def _profile(self, counts: Floats, sizes: Floats) -> Floats:
        """q_mu of one spectrum for several numbers of signal events."""
        free = fit_peaks(self.model, counts[None], None).repeated(len(sizes))
        repeated = np.repeat(counts[None], len(sizes), axis=0)
        return self.statistic(repeated, free, sizes)

    def without_signal(self) -> tuple[Floats, PeakFits]:
        """Expected events, shape (B,), of the background of the fit with free signal, and the fit.

        A signal in the data is not taken for background in this way.
        """
        free = fit_peaks(self.model, self.counts[None], None)
        sizes = free.sizes.copy()
        sizes[:, 0] = 0.0
        expected = self.model.expected(sizes, free.parameters)
        return expected[0], PeakFits(sizes, free.parameters, expected, free.deviance)

    def limits(self, random: np.random.Generator, n_toys: int) -> tuple[LimitValues, LimitValues]:
        """Returns 95 % CL limits on the events selected, and on those in the box.

        The latter are in events selected at the best estimate of the efficiency, so that division
        by it gives events in the box.

        Args:
            random: generator of the pseudo-experiments.
            n_toys: pseudo-experiments for each hypothesis and number of events.

        Raises:
            RunError: the data exclude no number of events.
        """
        toys = PseudoExperiments.of(self, random, n_toys)
        about = [value if np.isfinite(value) else 3.0 for value in self.asymptotic_limits()]
        # The limit is 3 events where none are observed or expected, and asymptotics say 1.9. The
        # error of the efficiency raises it.
        widest = 1 / float(self.factors[0]) ** 0.5
        observed = _scan(toys.observed, min(0.6 * about[0], 2.4), max(1.5 * about[0], 4.5) * widest)
        expected = _scan(toys.expected, min(0.35 * about[1], 2.4), max(2 * about[1], 4.5) * widest)
        selected, in_box = (
            _values(observed[0], observed[1][:, place], expected[0], expected[1][:, place])
            for place in range(2)
        )
        return selected, in_box


@dataclass(frozen=True, eq=False)
class PseudoExperiments:
    """CLs by pseudo-experiments, each with fits of its own.

    CLs = p(signal and background) / p(background alone) (Read, J. Phys. G 28 (2002) 2693), each the
    probability of a spectrum at least as unlike signal. Half of the pseudo-experiments have no
    signal, the others have, with another shape and another efficiency each (Cousins and Highland,
    Nucl. Instrum. Meth. A 320 (1992) 331). Both probabilities are counted with all of them, by
    their likelihood ratios (Veach and Guibas, SIGGRAPH 1995, section 4.1): those without signal
    are where p(signal and background) is small.

    Attributes:
        test: spectrum and model.
        background: (B,) expected without signal, of the fit with free signal.
        fit: that fit, with the signal taken away.
        without: (T, B) pseudo-experiments without signal.
        of_without: fits of them with free signal.
        random: generator of the others.
    """

    test: PeakTest
    background: Floats
    fit: PeakFits
    without: Floats
    of_without: PeakFits
    random: np.random.Generator

    @classmethod
    def of(cls, test: PeakTest, random: np.random.Generator, n_toys: int) -> PseudoExperiments:
        """Draws and fits the pseudo-experiments without signal."""
        background, fit = test.without_signal()
        without = random.poisson(background, (n_toys, len(background))).astype(np.float64)
        of_without = fit_peaks(test.model, without, None, fit.repeated(n_toys))
        return cls(test, background, fit, without, of_without, random)

    def observed(self, size: float) -> Floats:
        """Logarithm of CLs of the data for a number of signal events.

        The background of the pseudo-experiments with signal is the one that fits the data best
        together with this number. Data that are less like signal than 97.5 % of spectra without
        signal count as that quantile: no limit is better than a downward fluctuation of two
        standard deviations explains, and CLs stays defined.

        Returns:
            (2, 1): for the events selected, and for the events in the box, as those selected at
            the best estimate of the efficiency.
        """
        model, data = self.test.model, self.test.counts[None]
        fixed = fit_peaks(model, data, size)
        free = fit_peaks(model, data, None)
        level = float(self.test.statistic(data, free, size, fixed)[0])
        return self._log_cls(size, fixed, level)

    def expected(self, size: float) -> Floats:
        """Logarithm of CLs of the ``QUANTILES`` of limits of spectra without signal, (2, 5)."""
        sizes = self.fit.sizes.copy()
        sizes[:, 0] = size
        expected = self.test.model.expected(sizes, self.fit.parameters)
        return self._log_cls(
            size, PeakFits(sizes, self.fit.parameters, expected, self.fit.deviance), None
        )

    def _log_cls(self, size: float, hypothesis: PeakFits, level: float | None) -> Floats:
        n_toys, test = len(self.without), self.test
        possible = self._possible(hypothesis)
        places = (self.random.integers(number, size=n_toys) for number in possible.shape[:2])
        with_signal = self.random.poisson(possible[tuple(places)]).astype(np.float64)
        of_with = fit_peaks(test.model, with_signal, None, hypothesis.repeated(n_toys))
        q_without = test.statistic(self.without, self.of_without, size)
        q = np.concatenate([q_without, test.statistic(with_signal, of_with, size)])
        # The less a spectrum is like signal, the higher is q and the lower the limit.
        levels = np.quantile(q_without, 1 - np.array(QUANTILES), method="inverted_cdf")
        if level is not None:
            levels = np.minimum(levels[:1], level)
        toys = np.concatenate([self.without, with_signal])
        weights = _weights(toys, self.background, possible)
        shares = [_share_beyond(q, levels, one) for one in weights]
        # A level is at most that of a toy without signal, so the denominator is not 0.
        return np.log([np.maximum(one, _TINY) / shares[0] for one in shares[1:]])

    def _possible(self, fit: PeakFits) -> Floats:
        """Expected events with signal by variation and efficiency, shape (V, J, B)."""
        test, size = self.test, fit.size[0]
        background = fit.expected[0] - size * test.model.shapes[0]
        signal = size * test.factors[:, None] * test.variations[:, None]
        return np.asarray(np.maximum(background, 1e-30) + signal)


def _scan(log_cls: Callable[[float], Floats], low: float, high: float) -> tuple[Floats, Floats]:
    """Computes CLs for numbers of events from ``low`` to ``high``, or until all are excluded."""
    n_sizes = max(_N_SIZES, int(np.log(high / low) / _MAX_STEP) + 2)
    sizes = list(np.geomspace(low, high, n_sizes))
    logs = [log_cls(size) for size in sizes]
    while logs[-1].max() > _LEVEL:
        sizes.append(1.3 * sizes[-1])
        if sizes[-1] > _MAX_SIZE:
            raise RunError("no upper limit: the background absorbs any number of signal events")
        logs.append(log_cls(sizes[-1]))
    return np.array(sizes), np.array(logs)


def _values(
    sizes: Floats, observed: Floats, expected_sizes: Floats, expected: Floats
) -> LimitValues:
    quantiles = [_smooth_crossing(expected_sizes, column) for column in expected.T]
    # Where nearly all spectra are empty, the quantiles differ only by the noise of the toys.
    ordered = np.maximum.accumulate(quantiles).tolist()
    return LimitValues(_smooth_crossing(sizes, observed[:, 0]), tuple(ordered))


def _weights(toys: Floats, without: Floats, possible: Floats) -> tuple[Floats, Floats, Floats]:
    """Weights that make of toys, half of them with signal, such of three hypotheses.

    Args:
        toys: (T, B) events.
        without: (B,) expected without signal.
        possible: (V, J, B) expected with signal by variation and efficiency.

    Returns:
        For no signal; for signal with the best estimate of the efficiency; for signal with a
        varied efficiency; (T,) each. The likelihood is over the mean of the first and the last.
    """
    n_factors = possible.shape[1]
    ratio = np.log(possible / without).reshape(-1, len(without))
    offset = (possible - without).sum(axis=-1).ravel()
    logarithm = (toys @ ratio.T - offset).reshape(len(toys), -1, n_factors)
    each = logsumexp(logarithm, axis=1) - np.log(logarithm.shape[1])
    varied = logsumexp(each, axis=1) - np.log(n_factors)
    mean = np.logaddexp(0.0, varied) - np.log(2)
    return np.exp(-mean), np.exp(each[:, n_factors // 2] - mean), np.exp(varied - mean)


def _share_beyond(toys: Floats, levels: Floats, weights: Floats) -> Floats:
    """Share of the weight of toys at least as large as each level, up to rounding."""
    beyond = toys[:, None] >= levels - 1e-6
    return np.asarray(weights @ beyond / weights.sum())


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
