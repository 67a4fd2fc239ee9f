"""The smooth background under a bump: a dijet function, or the shape of the rejected events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.polynomial.chebyshev import chebvander

from hepllm.arrays import Bools, Floats, Ints
from hepllm.search.poisson import BatchFit, count_parameters, fit, fit_sizes, orthonormal
from hepllm.search.scan import Excesses, Windows, scan_batch

Method = Literal["template", "dijet"]

_N_SHAPE = (3, 8)
"""Smallest and largest number of parameters of the dijet function."""

_N_FACTOR = (2, 6)
"""Smallest and largest number of parameters of the factor on the shape of rejected events."""

_MARGIN = 1
"""Bins on both sides of a bump that the choice of the parameters leaves out with it."""

_PEAK = 15.0
"""Statistic of the scan above which an excess among rejected events is left out of their fit.

It is a local p-value of 3e-7, five standard deviations, which the scan of a spectrum without signal
exceeds once in about 10,000 times.
"""

_PEAK_MARGIN = 2
"""Bins on both sides of such an excess that are left out with it."""

_PEAK_INSIDE = 4
"""Fewest bins on both sides of what is left out: beyond the data, the fit would extrapolate."""

_PEAK_ROUNDS = 2

SPREAD = 2.0
"""Standard deviation over the bins of the logarithm of the factor, where it is constrained.

In simulation the logarithm of the share of background that passes a cut spreads over the bins by
0.01 to 1.25; see docs/explanation/search.md.
"""

_FLOOR = 0.2
"""Events a bin that the template has at least.

Beyond the rejected events their fit may expect any small number. Without a floor, windows with
three selected events there are the most extreme ones of all, and those elsewhere are less so.
"""


@dataclass(frozen=True, eq=False)
class SmoothBackground:
    """A model of the background of a spectrum.

    ``template``: fits a dijet function to the spectrum of the rejected events, of which there are
    far more; the spectrum of selected events is this function times exp(c0 + c1 u + ...) with
    u = log m_jj. ``dijet``: fits a dijet function to the spectrum of selected events itself.

    Both have as many parameters as the events need. For selected events the fit counts them
    outside of the most bump-like window of the fit with the fewest parameters, and a bin on both
    sides: otherwise a resonance would raise their number, and they would absorb it. A wider margin
    hides a curvature of the spectrum, which looks like a wide bump.

    A resonance that fails the cut is a peak among the rejected events. Where it is beyond doubt,
    their fit leaves it out, because the template would pass it on to the selected events.

    A factor with three parameters and more is constrained: a selection that is nearly all signal
    would otherwise be described by a narrow factor, and no excess would be left.

    Attributes:
        method: ``template`` or ``dijet``.
        shape: (B, P) orthonormal columns of the dijet function.
        factor: (B, Q) orthonormal columns of the factor.
        log_width: (B,) logarithm of the bin widths.
        parameter_p: p-value below which another parameter is added; 0 never adds one.
        windows: windows of the scan.
        least_factors: smallest number of parameters of the factor.
    """

    method: Method
    shape: Floats
    factor: Floats
    log_width: Floats
    parameter_p: float
    windows: Windows
    least_factors: int = _N_FACTOR[0]

    def fit_rejected(self, counts: Floats) -> BatchFit:
        """Fits T spectra of rejected events, shape (T, B)."""
        fitted = self._fit_shape(counts, None)
        for _ in range(_PEAK_ROUNDS):
            bump = scan_batch(counts, fitted.expected, self.windows)
            low, high = _around(bump, _PEAK_MARGIN)
            inside = (low >= _PEAK_INSIDE) & (high <= counts.shape[1] - _PEAK_INSIDE)
            rows = np.flatnonzero((bump.statistic > _PEAK) & inside)
            if not len(rows):
                break
            used = _outside(low[rows], high[rows], counts.shape[1])
            fitted = fitted.replaced(rows, self._fit_shape(counts[rows], used))
        return fitted

    def _fit_shape(self, counts: Floats, used: Bools | None) -> BatchFit:
        basis, offset, n_min = self.shape, self.log_width, _N_SHAPE[0]
        sizes = count_parameters(
            counts, basis, offset, n_min=n_min, parameter_p=self.parameter_p, used=used
        )
        return fit_sizes(counts, basis, offset, sizes, used)

    def fit_selected(self, counts: Floats, rejected: BatchFit) -> BatchFit:
        """Fits T spectra of selected events, shape (T, B), given the fits of rejected ones."""
        basis, offset, n_min, precision = self.shape, self.log_width, _N_SHAPE[0], None
        if self.method == "template":
            basis, offset, n_min = self.factor, self.template(rejected), self.least_factors
            precision = self._precision()
        least = None if precision is None else precision[:n_min]
        simplest = fit(counts, basis[:, :n_min], offset, precision=least)
        bump = scan_batch(counts, simplest.expected, self.windows)
        sizes = count_parameters(
            counts,
            basis,
            offset,
            n_min=n_min,
            parameter_p=self.parameter_p,
            used=_outside(*_around(bump, _MARGIN), counts.shape[1]),
            precision=precision,
        )
        return fit_sizes(counts, basis, offset, sizes, precision=precision)

    def _precision(self) -> Floats | None:
        """The constraint on the factor, (Q,), whose first column is its mean, which is free."""
        if self.least_factors <= _N_FACTOR[0]:
            return None
        n_bins, n_columns = self.factor.shape
        return np.append(0.0, np.full(n_columns - 1, 1 / (n_bins * SPREAD**2)))

    def smallest_basis(self) -> Floats:
        """Columns of rejected and selected events, (2B, P), with the fewest parameters."""
        shape, factor = self.shape[:, : _N_SHAPE[0]], self.factor[:, : self.least_factors]
        if self.method == "dijet":
            return np.concatenate([np.zeros_like(shape), shape])
        return np.block([[shape, np.zeros_like(factor)], [shape, factor]])

    def template(self, rejected: BatchFit) -> Floats:
        """Logarithm of the spectrum, (T, B), that the factor for selected events multiplies."""
        return np.asarray(np.log(rejected.expected + _FLOOR))


def _around(bump: Excesses, margin: int) -> tuple[Ints, Ints]:
    """First bin, and the one after the last, of windows with a margin on both sides."""
    return bump.start - margin, bump.start + bump.width + margin


def _outside(low: Ints, high: Ints, n_bins: int) -> Bools:
    """The bins before ``low`` and from ``high`` on, shape (T, B)."""
    bins = np.arange(n_bins)
    return np.asarray((bins < low[:, None]) | (bins >= high[:, None]))


@dataclass(frozen=True, eq=False)
class FittedSpectra:
    """Fits to T sets of spectra: of the rejected events, and of each selection."""

    rejected: BatchFit
    selected: Sequence[BatchFit]

    @property
    def converged(self) -> Bools:
        """Whether all fits of a set converged, shape (T,)."""
        fits = [self.rejected, *self.selected]
        return np.asarray(np.all([one.converged for one in fits], axis=0))


def smooth_background(
    edges: Floats, windows: Windows, method: Method, parameter_p: float, sqrt_s: float
) -> SmoothBackground:
    """Prepares a background for a binning.

    The dijet function is f = p0 (1 - x)^p1 x^(p2 + p3 log x + p4 log^2 x + ...), x = m_jj / sqrt(s)
    (CDF, arXiv:0812.4036, equation 1, with its usual extensions; ATLAS, arXiv:1910.08447,
    equation 1; CMS, arXiv:1911.03947, equation 1), up to log^5 x in the exponent.

    Args:
        edges: (B + 1,) in GeV, below ``sqrt_s``.
        windows: windows of the scan.
        method: ``template`` or ``dijet``, as in ``SmoothBackground``.
        parameter_p: p-value below which another parameter is added.
        sqrt_s: centre-of-mass energy in GeV.
    """
    centre = np.sqrt(edges[1:] * edges[:-1])
    x = centre / sqrt_s
    log_x = np.log(x)
    # Powers of log x up to a degree span the same as Chebyshev polynomials, which are stable.
    scaled = np.interp(log_x, [log_x[0], log_x[-1]], [-1.0, 1.0])
    shape = np.insert(chebvander(scaled, _N_SHAPE[1] - 2), 1, np.log1p(-x), axis=1)
    factor = chebvander(scaled, _N_FACTOR[1] - 1)
    return SmoothBackground(
        method=method,
        shape=orthonormal(np.asarray(shape, dtype=np.float64)),
        factor=orthonormal(np.asarray(factor, dtype=np.float64)),
        log_width=np.log(np.diff(edges)),
        parameter_p=parameter_p,
        windows=windows,
    )


def fit_spectra(
    background: SmoothBackground, rejected: Floats, selected: Sequence[Floats]
) -> FittedSpectra:
    """Fits T sets of spectra: of rejected events, shape (T, B), and of each selection, (T, B)."""
    of_rejected = background.fit_rejected(rejected)
    fits = [background.fit_selected(counts, of_rejected) for counts in selected]
    return FittedSpectra(of_rejected, fits)
