"""Poisson fits of peaks of known shape on a log-linear background, to thousands of spectra."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Floats, Ints
from hepllm.search.poisson import deviance, fit, fit_logarithm

_MAX_STEPS = 60
_TOLERANCE = 1e-5
_MAX_CHANGE = 3.0
_HALVINGS = 6


@dataclass(frozen=True, eq=False)
class PeakModel:
    """Peaks of known shape over a smooth background: mu = sizes . shapes + exp(offset + basis . p).

    Attributes:
        shapes: (K, B) share of each peak in each bin; the first is the signal, the others are
            peaks whose sizes are fitted in any case.
        basis: (B, P) orthonormal columns.
        offset: (B,) logarithm of the spectrum that exp(basis . p) multiplies.
        precision: (P, P) of a Gaussian constraint on p around 0; None for none. Deviances have its
            p . precision . p.
    """

    shapes: Floats
    basis: Floats
    offset: Floats
    precision: Floats | None = None

    def background(self, parameters: Floats) -> Floats:
        """Expected events of the background, shape (T, B), for parameters (T, P)."""
        return np.asarray(np.exp(np.clip(self.offset + parameters @ self.basis.T, -50, 50)))

    def expected(self, sizes: Floats, parameters: Floats) -> Floats:
        """Expected events, shape (T, B), kept positive."""
        return np.asarray(np.maximum(sizes @ self.shapes + self.background(parameters), 1e-30))

    def deviance(self, counts: Floats, expected: Floats, parameters: Floats) -> Floats:
        """The deviance, shape (T,), of counts and expected events, (T, B), with the constraint."""
        found = deviance(counts, expected)
        if self.precision is None:
            return found
        constraint = np.einsum("tp,pq,tq->t", parameters, self.precision, parameters)
        return np.asarray(found + constraint)


@dataclass(frozen=True, eq=False)
class PeakFits:
    """Fits of T histograms with B bins.

    Attributes:
        sizes: (T, K) events of each peak.
        parameters: (T, P) of the background.
        expected: (T, B) events of all peaks and of the background.
        deviance: (T,) as ``PeakModel.deviance`` defines it.
    """

    sizes: Floats
    parameters: Floats
    expected: Floats
    deviance: Floats

    @property
    def size(self) -> Floats:
        """Signal events, shape (T,)."""
        return np.asarray(self.sizes[:, 0])

    def repeated(self, n_fits: int) -> PeakFits:
        """The first fit, ``n_fits`` times."""
        parts = (self.sizes, self.parameters, self.expected, self.deviance)
        return PeakFits(*(np.repeat(part[:1], n_fits, axis=0) for part in parts))


def fit_peaks(
    model: PeakModel, counts: Floats, size: float | Floats | None, start: PeakFits | None = None
) -> PeakFits:
    """Fits sizes >= 0 and the background with Fisher's scoring.

    A step that raises the deviance is halved.

    Args:
        model: peaks and background.
        counts: (T, B) events.
        size: signal events, a number or shape (T,); None to fit them.
        start: fits to start from, of as many spectra; None to start from fits without peaks.
    """
    n_peaks = len(model.shapes)
    if start is None:
        signal = 0.0 if size is None else np.reshape(size, (-1, 1))
        sizes = np.zeros((len(counts), n_peaks))
        parameters = _without_peaks(model, np.maximum(counts - signal * model.shapes[0], 0.0))
    else:
        sizes, parameters = start.sizes.copy(), start.parameters.copy()
    is_free = np.ones(n_peaks, dtype=bool)
    if size is not None:
        is_free[0], sizes[:, 0] = False, size
    state = _State(model, counts, sizes, parameters, is_free)
    state.descend()
    expected = model.expected(state.sizes, state.parameters)
    return PeakFits(state.sizes, state.parameters, expected, state.deviance)


def _without_peaks(model: PeakModel, counts: Floats) -> Floats:
    """Parameters, shape (T, P), of the background alone.

    With the constraint from the start: a peak has no shape of a background that obeys it.
    """
    if model.precision is None:
        smooth = fit(counts, model.basis, model.offset)
        logarithm = np.log(np.maximum(smooth.expected, 1e-300)) - model.offset
        return np.asarray(logarithm @ model.basis)
    no_peaks = np.zeros((len(counts), len(model.shapes)))
    parameters = fit_logarithm(counts, model.basis, model.offset)
    state = _State(model, counts, no_peaks, parameters, np.zeros(len(model.shapes), dtype=bool))
    state.descend()
    return state.parameters


@dataclass(eq=False)
class _State:
    """The current parameters of T fits, with their background, (T, B), and deviance, (T,)."""

    model: PeakModel
    counts: Floats
    sizes: Floats
    parameters: Floats
    is_free: Bools

    def __post_init__(self) -> None:
        everything = slice(None)
        self.background, self.deviance = self._at(everything, self.sizes, self.parameters)
        shapes, basis = self.model.shapes, self.model.basis
        n_bins, n_peaks, n_parameters = len(basis), len(shapes), basis.shape[1]
        self._squares = (basis[:, :, None] * basis[:, None, :]).reshape(n_bins, -1)
        self._mixed = (shapes.T[:, :, None] * basis[:, None, :]).reshape(n_bins, -1)
        self._peaks = (shapes.T[:, :, None] * shapes.T[:, None, :]).reshape(n_bins, -1)
        self._mixed_shape = n_peaks, n_parameters

    def descend(self) -> None:
        """Makes steps until all fits are at their minimum, 60 at most."""
        active = np.arange(len(self.counts))
        for _ in range(_MAX_STEPS):
            active = active[~self.step(active)]
            if not len(active):
                break

    def step(self, rows: Ints) -> Bools:
        """Makes one step of some fits; returns which of them are at their minimum."""
        sizes, parameters, counts = self.sizes[rows], self.parameters[rows], self.counts[rows]
        background = self.background[rows]
        expected = np.maximum(sizes @ self.model.shapes + background, 1e-30)
        residual = counts / expected - 1
        slopes = residual @ self.model.shapes.T
        # A peak of no events may only grow.
        moves = self.is_free & ((sizes > 0) | (slopes > 0))
        smooth = (residual * background) @ self.model.basis
        if self.model.precision is not None:
            smooth -= parameters @ self.model.precision
        gradient = np.concatenate([slopes * moves, smooth], 1)
        # Without background, the first event of a peak seems to cost all: look at one event more.
        grown = expected + (moves & (sizes == 0)) @ self.model.shapes
        change = _solve(self._information(background, grown, moves), gradient)
        decrement = np.einsum("tp,tp->t", gradient, change)
        n_peaks = sizes.shape[1]
        boldest = np.abs(change[:, n_peaks:] @ self.model.basis.T).max(axis=1)
        change *= np.minimum(1.0, _MAX_CHANGE / np.maximum(boldest, 1e-300))[:, None]
        self._move(rows, change)
        return np.asarray((decrement < _TOLERANCE) & (boldest < _MAX_CHANGE))

    def _information(self, background: Floats, expected: Floats, moves: Bools) -> Floats:
        n_fits, (n_peaks, n_parameters) = len(background), self._mixed_shape
        ratio = background / expected
        information = np.empty((n_fits, n_peaks + n_parameters, n_peaks + n_parameters))
        smooth = (background * ratio) @ self._squares
        information[:, n_peaks:, n_peaks:] = smooth.reshape(n_fits, n_parameters, n_parameters)
        if self.model.precision is not None:
            information[:, n_peaks:, n_peaks:] += self.model.precision
        mixed = (ratio @ self._mixed).reshape(n_fits, n_peaks, n_parameters) * moves[:, :, None]
        information[:, :n_peaks, n_peaks:] = mixed
        information[:, n_peaks:, :n_peaks] = np.swapaxes(mixed, 1, 2)
        peaks = ((1 / expected) @ self._peaks).reshape(n_fits, n_peaks, n_peaks)
        information[:, :n_peaks, :n_peaks] = peaks * moves[:, :, None] * moves[:, None, :]
        return information

    def _move(self, rows: Ints, change: Floats) -> None:
        """Makes a step; halves it for fits whose deviance it raises, six times at most."""
        n_peaks, before = self.sizes.shape[1], self.deviance[rows]
        old = self.sizes[rows], self.parameters[rows]
        todo, factor = np.arange(len(rows)), 1.0
        for _ in range(_HALVINGS):
            step, mine = factor * change[todo], rows[todo]
            sizes = np.maximum(old[0][todo] + step[:, :n_peaks], 0.0)
            parameters = old[1][todo] + step[:, n_peaks:]
            background, after = self._at(mine, sizes, parameters)
            self.sizes[mine], self.parameters[mine] = sizes, parameters
            self.background[mine], self.deviance[mine] = background, after
            todo = todo[after > before[todo] + 1e-9]
            if not len(todo):
                break
            factor /= 2

    def _at(self, rows: Ints | slice, sizes: Floats, parameters: Floats) -> tuple[Floats, Floats]:
        """Background and deviance of some fits for these parameters."""
        background = self.model.background(parameters)
        expected = np.maximum(sizes @ self.model.shapes + background, 1e-30)
        return background, self.model.deviance(self.counts[rows], expected, parameters)


def _solve(information: Floats, gradient: Floats) -> Floats:
    """Solves information . change = gradient for each fit; a row of zeros gives no change."""
    diagonal = np.einsum("tpp->tp", information)
    ridge = np.where(diagonal > 0, 1e-10 * diagonal, 1.0) + 1e-12 * diagonal.max()
    information = information + ridge[:, :, None] * np.eye(information.shape[1])
    return np.asarray(np.linalg.solve(information, gradient[..., None])[..., 0])
