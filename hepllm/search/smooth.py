"""The smooth background under a bump: a dijet function, or the shape of the rejected events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hepllm.arrays import Bools, Floats
from hepllm.search.poisson import BatchFit, count_parameters, fit, fit_sizes, orthonormal
from hepllm.search.scan import Windows, scan_batch

Method = Literal["template", "dijet"]

_N_SHAPE = (3, 5)
"""Smallest and largest number of parameters of the dijet function."""

_N_FACTOR = (2, 4)
"""Smallest and largest number of parameters of the factor on the shape of rejected events."""


@dataclass(frozen=True, eq=False)
class SmoothBackground:
    """A model of the background of a spectrum.

    ``template``: fits a dijet function to the spectrum of the rejected events, of which there are
    far more; the spectrum of selected events is this function times exp(c0 + c1 u + ...) with
    u = log m_jj. ``dijet``: fits a dijet function to the spectrum of selected events itself.

    Both have as many parameters as the events need. For selected events the fit counts them
    outside of the most bump-like window of the fit with the fewest parameters, and half its width
    on both sides: otherwise a resonance would raise their number, and they would absorb it.

    Attributes:
        method: ``template`` or ``dijet``.
        shape: (B, P) orthonormal columns of the dijet function.
        factor: (B, Q) orthonormal columns of the factor.
        log_width: (B,) logarithm of the bin widths.
        parameter_p: p-value below which another parameter is added; 0 never adds one.
        windows: windows of the scan.
    """

    method: Method
    shape: Floats
    factor: Floats
    log_width: Floats
    parameter_p: float
    windows: Windows

    def fit_rejected(self, counts: Floats) -> BatchFit:
        """Fits T spectra of rejected events, shape (T, B)."""
        basis, offset, n_min = self.shape, self.log_width, _N_SHAPE[0]
        sizes = count_parameters(counts, basis, offset, n_min=n_min, parameter_p=self.parameter_p)
        return fit_sizes(counts, basis, offset, sizes)

    def fit_selected(self, counts: Floats, rejected: BatchFit) -> BatchFit:
        """Fits T spectra of selected events, shape (T, B), given the fits of rejected ones."""
        basis, offset, n_min = self.shape, self.log_width, _N_SHAPE[0]
        if self.method == "template":
            basis, offset, n_min = self.factor, np.log(rejected.expected), _N_FACTOR[0]
        simplest = fit(counts, basis[:, :n_min], offset)
        bump = scan_batch(counts, simplest.expected, self.windows)
        bins, margin = np.arange(counts.shape[1]), bump.width // 2 + 1
        low, high = bump.start - margin, bump.start + bump.width + margin
        used = (bins < low[:, None]) | (bins >= high[:, None])
        sizes = count_parameters(
            counts, basis, offset, n_min=n_min, parameter_p=self.parameter_p, used=used
        )
        return fit_sizes(counts, basis, offset, sizes)


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

    The dijet function is f = p0 (1 - x)^p1 x^(p2 + p3 log x + p4 log^2 x), x = m_jj / sqrt(s)
    (CDF, arXiv:0812.4036, equation 1, with its usual extensions; ATLAS, arXiv:1910.08447,
    equation 1; CMS, arXiv:1911.03947, equation 1).

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
    ones = np.ones_like(x)
    shape = np.column_stack([ones, np.log1p(-x), log_x, log_x**2, log_x**3])
    u = log_x - log_x.mean()
    factor = np.column_stack([ones, u, u**2, u**3])
    return SmoothBackground(
        method=method,
        shape=orthonormal(shape[:, : _N_SHAPE[1]]),
        factor=orthonormal(factor[:, : _N_FACTOR[1]]),
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
