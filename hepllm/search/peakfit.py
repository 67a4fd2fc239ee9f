"""Poisson fits of a peak of known shape on a log-linear background, to thousands of spectra."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Floats, Ints
from hepllm.search.poisson import deviance, fit

_MAX_STEPS = 60
_TOLERANCE = 1e-6
_MAX_CHANGE = 3.0
_HALVINGS = 6


@dataclass(frozen=True, eq=False)
class PeakFits:
    """Fits of T histograms with B bins.

    Attributes:
        size: (T,) signal events.
        expected: (T, B) events of signal and background.
        deviance: (T,) as ``poisson.deviance`` defines it.
    """

    size: Floats
    expected: Floats
    deviance: Floats


def fit_with_peak(
    counts: Floats, shape: Floats, basis: Floats, offset: Floats, size: float | Floats | None
) -> PeakFits:
    """Fits mu = size * shape + exp(offset + basis . p) with Fisher's scoring, with size >= 0.

    Starts from the fit without a peak, and halves a step that raises the deviance.

    Args:
        counts: (T, B) events.
        shape: (B,) share of the signal in each bin.
        basis: (B, P) orthonormal columns.
        offset: (B,) logarithm of the spectrum that exp(basis . p) multiplies.
        size: signal events, a number or shape (T,); None to fit them.
    """
    is_free = size is None
    sizes = np.zeros(len(counts)) if size is None else np.broadcast_to(size, len(counts)).copy()
    smooth = fit(np.maximum(counts - sizes[:, None] * shape, 0.0), basis, offset)
    parameters = (np.log(np.maximum(smooth.expected, 1e-300)) - offset) @ basis
    state = _State(shape, basis, offset, counts, sizes, parameters)
    active = np.arange(len(counts))
    for _ in range(_MAX_STEPS):
        active = active[~state.step(active, is_free)]
        if not len(active):
            break
    expected = state.expected(state.sizes, state.parameters)
    return PeakFits(state.sizes, expected, deviance(counts, expected))


@dataclass(eq=False)
class _State:
    """The current parameters of T fits."""

    shape: Floats
    basis: Floats
    offset: Floats
    counts: Floats
    sizes: Floats
    parameters: Floats

    def background(self, parameters: Floats) -> Floats:
        return np.asarray(np.exp(np.clip(self.offset + parameters @ self.basis.T, -50, 50)))

    def expected(self, sizes: Floats, parameters: Floats) -> Floats:
        """Expected events, shape (T, B), kept positive."""
        total = sizes[:, None] * self.shape + self.background(parameters)
        return np.asarray(np.maximum(total, 1e-30))

    def step(self, rows: Ints, is_free: bool) -> Bools:
        """Makes one step of some fits; returns which of them are at their minimum."""
        sizes, parameters, counts = self.sizes[rows], self.parameters[rows], self.counts[rows]
        background = self.background(parameters)
        expected = np.maximum(sizes[:, None] * self.shape + background, 1e-30)
        residual = counts / expected - 1
        slope_size = residual @ self.shape
        # A fit with 0 signal events may only move to more of them.
        moves = is_free & ((sizes > 0) | (slope_size > 0))
        columns = np.concatenate(
            [moves[:, None, None] * self.shape[:, None], background[..., None] * self.basis], axis=2
        )
        gradient = np.einsum("tb,tbp->tp", residual, columns)
        change = _solve(columns, expected, gradient)
        decrement = np.einsum("tp,tp->t", gradient, change)
        boldest = np.abs(change[:, 1:] @ self.basis.T).max(axis=1)
        change *= np.minimum(1.0, _MAX_CHANGE / np.maximum(boldest, 1e-300))[:, None]
        self._move(rows, change, deviance(counts, expected))
        return np.asarray((decrement < _TOLERANCE) & (boldest < _MAX_CHANGE))

    def _move(self, rows: Ints, change: Floats, before: Floats) -> None:
        factor = np.ones(len(rows))
        for _ in range(_HALVINGS):
            sizes = np.maximum(self.sizes[rows] + factor * change[:, 0], 0.0)
            parameters = self.parameters[rows] + factor[:, None] * change[:, 1:]
            after = deviance(self.counts[rows], self.expected(sizes, parameters))
            worse = after > before + 1e-9
            if not worse.any():
                break
            factor[worse] /= 2
        self.sizes[rows], self.parameters[rows] = sizes, parameters


def _solve(columns: Floats, expected: Floats, gradient: Floats) -> Floats:
    """Solves information . change = gradient for each fit; a column of zeros gives no change."""
    information = np.swapaxes(columns / expected[..., None], 1, 2) @ columns
    diagonal = np.einsum("tpp->tp", information)
    ridge = np.where(diagonal > 0, 1e-10 * diagonal, 1.0) + 1e-12 * diagonal.max()
    information = information + ridge[:, :, None] * np.eye(columns.shape[2])
    return np.asarray(np.linalg.solve(information, gradient[..., None])[..., 0])
