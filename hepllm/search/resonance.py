"""Mass and number of events of a resonance: a peak on top of the smooth background."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from iminuit import Minuit
from scipy.stats import norm

from hepllm.arrays import Floats
from hepllm.search.poisson import deviance
from hepllm.search.records import AT_LIMIT, HESSE, Measurement
from hepllm.search.scan import Bump

_WIDTHS = (0.02, 0.08)
"""Limits of the relative width of the peak: half and twice the resolution of R = 1.0 dijets."""

_WIDTH_HELD = ", width held at its limit"

_AT_BOUND = 1e-3
"""Distance from a limit, over the allowed range, below which a parameter counts as at it."""

RESOLUTION = 0.036
"""Relative resolution of m_jj of simulated resonances decaying to two R = 1.0 jets."""


@dataclass(frozen=True, eq=False)
class BackgroundFit:
    """A background fit by iminuit.

    Attributes:
        expected: (B,) events.
        error: (B,) standard deviation of ``expected``, from the covariance of the parameters.
        deviance: as ``poisson.deviance`` defines it.
    """

    expected: Floats
    error: Floats
    deviance: float


@dataclass(frozen=True, eq=False)
class Resonance:
    """A fit of signal and background.

    Attributes:
        mass: mass of the peak in GeV.
        n_signal: events of the peak in the m_jj range.
        width: standard deviation of the peak over its mass.
        background: (B,) events.
        signal: (B,) events.
        is_valid: whether the fit converged.
        width_at_limit: whether the best width is at a limit of the fit.
    """

    mass: Measurement
    n_signal: Measurement
    width: Measurement
    background: Floats
    signal: Floats
    is_valid: bool
    width_at_limit: bool = False

    def window(self, n_sigma: float) -> tuple[float, float]:
        """Returns the mass range of +- ``n_sigma`` around the peak in GeV; sigma >= resolution."""
        half = n_sigma * max(self.width.value, RESOLUTION) * self.mass.value
        return self.mass.value - half, self.mass.value + half


def peak(edges: Floats, mass: float, width: float) -> Floats:
    """Share of a Gaussian peak in each bin, shape (B,); sums to less than 1 if partly outside.

    Args:
        edges: (B + 1,) in GeV.
        mass: mean of the peak in GeV.
        width: standard deviation of the peak over its mean.
    """
    return np.diff(norm.cdf(edges, mass, width * mass))


def fit_background(counts: Floats, basis: Floats, offset: Floats) -> BackgroundFit:
    """Fits mu = exp(offset + basis . p), basis (B, P) orthonormal, to counts (B,) with iminuit."""

    def cost(parameters: Floats) -> float:
        return float(deviance(counts, _expected(basis, offset, parameters))) / 2

    minimum = Minuit(cost, _start(counts, basis, offset))
    minimum.errordef, minimum.strategy = Minuit.LIKELIHOOD, 2
    minimum.migrad(ncall=20_000)
    expected = _expected(basis, offset, np.asarray(minimum.values))
    # The information of a log-linear model is exact; Hesse may fail where events are few.
    information = (basis * expected[:, None]).T @ basis
    covariance = np.linalg.pinv(information, hermitian=True)
    relative = np.sqrt(np.maximum(np.einsum("bp,pq,bq->b", basis, covariance, basis), 0.0))
    return BackgroundFit(expected, expected * relative, float(deviance(counts, expected)))


def fit_resonance(
    counts: Floats, edges: Floats, basis: Floats, offset: Floats, bump: Bump
) -> Resonance:
    """Fits a Gaussian peak and a background exp(offset + basis . p) at the same time.

    The fit has the events of the whole peak as its parameter; the result, with its interval, is
    scaled to those inside the m_jj range, to which the efficiency of a selection refers as well.

    Args:
        counts: (B,) events.
        edges: (B + 1,) in GeV.
        basis: (B, P) orthonormal columns.
        offset: (B,) logarithm of the spectrum that exp(basis . p) multiplies.
        bump: allowed region of the mass: its window and half of the window on both sides.
    """

    def parts(parameters: Floats) -> tuple[Floats, Floats]:
        n_signal, mass, width = parameters[:3]
        return n_signal * peak(edges, mass, width), _expected(basis, offset, parameters[3:])

    def cost(parameters: Floats) -> float:
        signal, background = parts(parameters)
        return float(deviance(counts, np.maximum(signal + background, 1e-9))) / 2

    low, high = edges[bump.start], edges[bump.start + bump.width]
    outside = np.ones(len(counts), dtype=bool)
    outside[bump.start : bump.start + bump.width] = False
    smooth = _start(counts[outside], basis[outside], offset[outside])
    excess = max(bump.n_observed - bump.n_expected, 1.0)
    margin = (high - low) / 2
    masses = max(low - margin, edges[0]), min(high + margin, edges[-1])
    first, *others = _starts(low, high)
    minimum = _peak_minimum(cost, [excess, *first, *smooth], masses)
    if _is_doubtful(minimum):
        more = [_peak_minimum(cost, [excess, *one, *smooth], masses) for one in others]
        minimum = min([minimum, *more], key=lambda one: (not one.valid, one.fval))
    minimum.hesse()
    width, mass, n_signal = (_measure(minimum, name) for name in ("x2", "x1", "x0"))
    if (mass.is_rough or n_signal.is_rough) and _at_bound(minimum, "x2"):
        mass, n_signal = _measure_at_bound(minimum)
    signal, background = parts(np.asarray(minimum.values))
    inside = float(peak(edges, minimum.values["x1"], minimum.values["x2"]).sum())
    return Resonance(
        mass=mass,
        n_signal=n_signal.scaled(inside),
        width=width,
        background=background,
        signal=signal,
        is_valid=bool(minimum.valid),
        width_at_limit=_at_bound(minimum, "x2"),
    )


def _peak_minimum(
    cost: Callable[[Floats], float], start: Sequence[float], masses: tuple[float, float]
) -> Minuit:
    minimum = Minuit(cost, np.asarray(start))
    minimum.errordef = Minuit.LIKELIHOOD
    minimum.limits["x1"], minimum.limits["x2"] = masses, _WIDTHS
    minimum.migrad(ncall=20_000)
    return minimum


def _starts(low: float, high: float) -> list[tuple[float, float]]:
    """Returns start values of mass and width: the middle of the window first."""
    centre = float(np.sqrt(low * high))
    widths = [(centre, width) for width in (RESOLUTION, *_WIDTHS)]
    return [*widths, (low, RESOLUTION), (high, RESOLUTION)]


def _is_doubtful(minimum: Minuit) -> bool:
    """Whether another start may lead to a lower minimum."""
    stuck = _at_bound(minimum, "x1") or _at_bound(minimum, "x2")
    return not minimum.valid or stuck or minimum.values["x0"] <= 0


def _at_bound(minimum: Minuit, name: str) -> bool:
    """Whether a parameter lies at one of its limits."""
    low, high = minimum.limits[name]
    value = minimum.values[name]
    return bool(min(value - low, high - value) < _AT_BOUND * (high - low))


def _measure_at_bound(minimum: Minuit) -> tuple[Measurement, Measurement]:
    """Measures mass and number of events with the width fixed at its limit.

    There the likelihood is not parabolic in the width: Minos may fail, and the covariance is too
    small.
    """
    minimum.fixed["x2"] = True
    minimum.migrad(ncall=20_000)
    minimum.hesse()
    mass, n_signal = (
        one.model_copy(update={"method": f"{one.method}{_WIDTH_HELD}"})
        for one in (_measure(minimum, "x1"), _measure(minimum, "x0"))
    )
    return mass, n_signal


def _expected(basis: Floats, offset: Floats, parameters: Floats) -> Floats:
    return np.asarray(np.exp(np.clip(offset + basis @ parameters, -50, 50)))


def _start(counts: Floats, basis: Floats, offset: Floats) -> Floats:
    weight = counts + 0.5
    root, target = np.sqrt(weight), np.log(weight) - offset
    return np.asarray(np.linalg.lstsq(basis * root[:, None], target * root, rcond=None)[0])


def _measure(minimum: Minuit, name: str) -> Measurement:
    """Returns a parameter with the interval of Minos, or of Hesse where Minos finds none.

    An interval that meets a limit of the parameter ends there; its method then says so.
    """
    value = float(minimum.values[name])
    if minimum.valid:
        minimum.minos(name)
        errors = minimum.merrors[name]
        if errors.is_valid:
            at_limit = errors.at_lower_limit or errors.at_upper_limit
            method = AT_LIMIT if at_limit else "minos"
            return Measurement(value=value, below=-errors.lower, above=errors.upper, method=method)
    error = float(minimum.errors[name])
    return Measurement(value=value, below=error, above=error, method=HESSE)
