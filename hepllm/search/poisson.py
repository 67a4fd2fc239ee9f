"""Poisson fits of log-linear models mu = exp(offset + basis . p) to thousands of histograms.

A smooth dijet spectrum, log f = p0 + p1 log(1 - x) + p2 log x + p3 log^2 x, is linear in its
parameters, so its likelihood has one maximum, which Newton's method finds in a few steps.

All functions take ``counts`` (T, B), the events of T histograms with B bins; ``basis`` (B, P) with
orthonormal columns; ``offset`` (B,) or (T, B), the logarithm of the spectrum that exp(basis . p)
multiplies; and ``used`` (T, B), the bins that count, None for all. Some take ``precision`` (P,) of
a Gaussian constraint on each parameter around 0, None for none; deviances are without it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.special import xlogy
from scipy.stats import chi2

from hepllm.arrays import Bools, Floats, Ints

_MAX_STEPS = 60
_TOLERANCE = 1e-9
_EVENTS_PER_PARAMETER = 25
_MAX_CHANGE = 3.0
"""Largest change of a logarithm of an expectation in one step."""


@dataclass(frozen=True, eq=False)
class BatchFit:
    """Fits of T histograms with B bins.

    Attributes:
        expected: (T, B) events per bin.
        deviance: (T,) twice the log likelihood below that of a perfect description.
        n_parameters: (T,) columns of the basis that the fits use.
        converged: (T,) whether a fit converged.
        used: (T, B) bins that count.
    """

    expected: Floats
    deviance: Floats
    n_parameters: Ints
    converged: Bools
    used: Bools

    def take(self, rows: Ints) -> BatchFit:
        """Returns some of the fits."""
        return BatchFit(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def replaced(self, rows: Ints, fits: BatchFit) -> BatchFit:
        """Returns these fits with some of them, ``rows``, replaced."""
        copies = {field.name: getattr(self, field.name).copy() for field in fields(self)}
        for name, values in copies.items():
            values[rows] = getattr(fits, name)
        return BatchFit(**copies)


def deviance(counts: Floats, expected: Floats, inside: Floats | None = None) -> Floats:
    """2 log(L_saturated / L) of Poisson counts, summed over the last axis.

    Baker and Cousins, Nucl. Instrum. Meth. 221 (1984) 437, equation 18.

    Args:
        counts: (..., B) events.
        expected: (..., B), positive.
        inside: (..., B), 1 for bins that count and 0 for others; None for all.
    """
    terms = xlogy(counts, counts / expected) - (counts - expected)
    return np.asarray(2 * (terms if inside is None else terms * inside).sum(axis=-1))


def orthonormal(columns: Floats) -> Floats:
    """Makes columns orthonormal; the first k span the same space as the first k given."""
    return np.asarray(np.linalg.qr(columns)[0])


def fit(
    counts: Floats,
    basis: Floats,
    offset: Floats,
    used: Bools | None = None,
    precision: Floats | None = None,
) -> BatchFit:
    """Fits mu = exp(offset + basis . p) to Poisson counts by maximum likelihood."""
    offsets = np.broadcast_to(offset, counts.shape)
    inside = np.ones(counts.shape) if used is None else used.astype(np.float64)
    n_fits, n_parameters = len(counts), basis.shape[1]
    parameters = _start(counts, basis, offsets, inside, precision)
    converged = np.zeros(n_fits, dtype=bool)
    active = np.arange(n_fits)
    for _ in range(_MAX_STEPS):
        log_expected = offsets[active] + parameters[active] @ basis.T
        pull = None if precision is None else (precision, parameters[active])
        change, decrement = _newton_step(counts[active], basis, log_expected, inside[active], pull)
        parameters[active] += change
        done = decrement < _TOLERANCE
        converged[active[done]] = True
        active = active[~done]
        if not len(active):
            break
    expected = np.exp(offsets + parameters @ basis.T)
    sizes = np.full(n_fits, n_parameters)
    lowest = deviance(counts, expected, inside)
    return BatchFit(expected, lowest, sizes, converged, inside.astype(bool))


def fit_logarithm(counts: Floats, basis: Floats, offset: Floats) -> Floats:
    """Fits mu = exp(offset + basis . p) by least squares; returns p, shape (T, P)."""
    return _start(counts, basis, np.broadcast_to(offset, counts.shape), np.ones(counts.shape))


def _start(
    counts: Floats,
    basis: Floats,
    offsets: Floats,
    inside: Floats,
    precision: Floats | None = None,
) -> Floats:
    """Fits the logarithm by least squares; the weight of a bin is its content."""
    filled = counts + 0.5
    weight = filled * inside
    return _solve(basis, weight, (weight * (np.log(filled) - offsets)) @ basis, precision)


def _newton_step(
    counts: Floats,
    basis: Floats,
    log_expected: Floats,
    inside: Floats,
    pull: tuple[Floats, Floats] | None,
) -> tuple[Floats, Floats]:
    """Returns the change of parameters, shortened where it is too large, and Newton's decrement."""
    expected = np.exp(np.minimum(log_expected, 50.0)) * inside
    gradient = (counts * inside - expected) @ basis
    if pull is not None:
        gradient -= pull[0] * pull[1]
    change = _solve(basis, expected, gradient, None if pull is None else pull[0])
    decrement = np.einsum("tp,tp->t", gradient, change)
    boldest = np.abs(change @ basis.T).max(axis=1)
    change *= np.minimum(1.0, _MAX_CHANGE / np.maximum(boldest, 1e-300))[:, None]
    return change, np.where(boldest < _MAX_CHANGE, decrement, np.inf)


def _solve(basis: Floats, weight: Floats, right: Floats, precision: Floats | None = None) -> Floats:
    """Computes (basis^T diag(weight) basis + diag(precision))^-1 right for each histogram."""
    n_parameters = basis.shape[1]
    products = (basis[:, :, None] * basis[:, None, :]).reshape(len(basis), -1)
    information = (weight @ products).reshape(-1, n_parameters, n_parameters)
    size = np.trace(information, axis1=1, axis2=2)[:, None, None]
    information = information + 1e-12 * size * np.eye(n_parameters)
    if precision is not None:
        information += np.diag(precision)
    return np.asarray(np.linalg.solve(information, right[..., None])[..., 0])


def count_parameters(
    counts: Floats,
    basis: Floats,
    offset: Floats,
    *,
    n_min: int,
    parameter_p: float,
    used: Bools | None = None,
    precision: Floats | None = None,
) -> Ints:
    """Counts the columns of the basis that each histogram needs, shape (T,).

    Starts with ``n_min`` columns and adds the next one as long as it lowers the deviance by more
    than chance does in a share ``parameter_p`` of histograms (Wilks; the likelihood form of the
    F-test of dijet searches); 0 never adds one. Each parameter needs 25 events, so that the
    likelihood is near its asymptotic form.
    """
    chosen = np.full(len(counts), n_min)
    if parameter_p == 0 or n_min == basis.shape[1]:
        return chosen
    offsets = np.broadcast_to(offset, counts.shape)
    inside = np.ones(counts.shape, dtype=bool) if used is None else used
    needed = chi2.isf(parameter_p, 1)
    n_events = (counts * inside).sum(axis=1)
    growing = np.flatnonzero(n_events >= _EVENTS_PER_PARAMETER * (n_min + 1))

    def fitted(n_columns: int) -> BatchFit:
        columns, pull = basis[:, :n_columns], None if precision is None else precision[:n_columns]
        return fit(counts[growing], columns, offsets[growing], inside[growing], pull)

    before = fitted(n_min).deviance
    for n_columns in range(n_min + 1, basis.shape[1] + 1):
        enough = n_events[growing] >= _EVENTS_PER_PARAMETER * n_columns
        growing, before = growing[enough], before[enough]
        if not len(growing):
            break
        larger = fitted(n_columns)
        better = larger.converged & (before - larger.deviance > needed)
        growing, before = growing[better], larger.deviance[better]
        chosen[growing] = n_columns
    return chosen


def fit_sizes(
    counts: Floats,
    basis: Floats,
    offset: Floats,
    n_columns: Ints,
    used: Bools | None = None,
    *,
    precision: Floats | None = None,
) -> BatchFit:
    """Fits with the first ``n_columns``, shape (T,), of the basis for each histogram."""
    offsets = np.broadcast_to(offset, counts.shape)
    inside = np.ones(counts.shape, dtype=bool) if used is None else used
    fitted = BatchFit(
        expected=np.empty(counts.shape),
        deviance=np.empty(len(counts)),
        n_parameters=n_columns,
        converged=np.empty(len(counts), dtype=bool),
        used=inside,
    )
    for size in np.unique(n_columns):
        rows = np.flatnonzero(n_columns == size)
        pull = None if precision is None else precision[:size]
        part = fit(counts[rows], basis[:, :size], offsets[rows], inside[rows], pull)
        fitted.expected[rows] = part.expected
        fitted.deviance[rows] = part.deviance
        fitted.converged[rows] = part.converged
    return fitted
