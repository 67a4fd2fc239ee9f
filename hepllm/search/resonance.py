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
"""Of the peak over its mass: from half to twice the resolution of R = 1.0 dijets, 0.036."""

_WIDTH_HELD = ", width held at its limit"

_AT_BOUND = 1e-3
"""Distance from a limit of the fit, over the range, below which a parameter counts as at it."""

RESOLUTION = 0.036
"""Of m_jj, relative, of simulated resonances decaying to two R = 1.0 jets."""


@dataclass(frozen=True, eq=False)
class BackgroundFit:
    """A background fit by iminuit.

    Attributes:
        expected: (B,) events.
        error: (B,) its standard deviation from the covariance of the parameters.
        deviance: see ``poisson.deviance``.
    """

    expected: Floats
    error: Floats
    deviance: float


@dataclass(frozen=True, eq=False)
class Resonance:
    """A fit of signal and background.

    Attributes:
        mass: of the peak in GeV.
        n_signal: events of the peak in the m_jj range.
        width: standard deviation of the peak over its mass.
        background: (B,) events.
        signal: (B,) events.
        is_valid: whether the fit converged.
        width_at_limit: whether the best width is one that the fit may not go beyond.
    """

    mass: Measurement
    n_signal: Measurement
    width: Measurement
    background: Floats
    signal: Floats
    is_valid: bool
    width_at_limit: bool = False

    def window(self, n_sigma: float) -> tuple[float, float]:
        """The mass range around the peak in GeV, with the resolution as its least width."""
        half = n_sigma * max(self.width.value, RESOLUTION) * self.mass.value
        return self.mass.value - half, self.mass.value + half


def peak(edges: Floats, mass: float, width: float) -> Floats:
    """Share of a Gaussian peak in each bin; they add up to less than 1 if it is partly outside.

    Args:
        edges: (B + 1,) in GeV.
        mass: its mean in GeV.
        width: its standard deviation over its mean.
    """
    shares: Floats = np.diff(norm.cdf(edges, mass, width * mass))
    return shares


def fit_background(counts: Floats, basis: Floats, offset: Floats) -> BackgroundFit:
    """Fits mu = exp(offset + basis . p) with iminuit.

    Args:
        counts: (B,) events.
        basis: (B, P) orthonormal columns.
        offset: (B,).
    """

    def cost(parameters: Floats) -> float:
        return float(deviance(counts, _expected(basis, offset, parameters))) / 2

    minimum = Minuit(cost, _start(counts, basis, offset))
    minimum.errordef = Minuit.LIKELIHOOD
    minimum.strategy = 2
    minimum.migrad(ncall=20_000)
    expected = _expected(basis, offset, np.asarray(minimum.values))
    # The information of a log-linear model is known; Hesse may fail where events are few.
    information = (basis * expected[:, None]).T @ basis
    covariance = np.linalg.pinv(information, hermitian=True)
    relative = np.sqrt(np.maximum(np.einsum("bp,pq,bq->b", basis, covariance, basis), 0.0))
    return BackgroundFit(expected, expected * relative, float(deviance(counts, expected)))


def fit_resonance(
    counts: Floats, edges: Floats, basis: Floats, offset: Floats, bump: Bump
) -> Resonance:
    """Fits a Gaussian peak and mu = exp(offset + basis . p) at once.

    The whole peak is fitted; its number of events is given for the share inside the range, as the
    efficiency of a selection is. The interval is scaled with it.

    Args:
        counts: (B,) events.
        edges: (B + 1,) in GeV.
        basis: (B, P) orthonormal columns.
        offset: (B,).
        bump: where the peak is looked for: its window and half of its width on both sides.
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
        minimum = _lowest([minimum, *more])
    minimum.hesse()
    width = _measure(minimum, "x2")
    mass, n_signal = _measure(minimum, "x1"), _measure(minimum, "x0")
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
    minimum.limits["x1"] = masses
    minimum.limits["x2"] = _WIDTHS
    minimum.migrad(ncall=20_000)
    return minimum


def _starts(low: float, high: float) -> list[tuple[float, float]]:
    """Masses and widths to begin with: the middle of a window first."""
    centre = float(np.sqrt(low * high))
    widths = [(centre, width) for width in (RESOLUTION, *_WIDTHS)]
    return [*widths, (low, RESOLUTION), (high, RESOLUTION)]


def _is_doubtful(minimum: Minuit) -> bool:
    """Whether a lower minimum may be elsewhere."""
    stuck = _at_bound(minimum, "x1") or _at_bound(minimum, "x2")
    return not minimum.valid or stuck or minimum.values["x0"] <= 0


def _lowest(minima: Sequence[Minuit]) -> Minuit:
    """The lowest of several minima, of which those that converged come first."""
    return min(minima, key=lambda one: (not one.valid, one.fval))


def _at_bound(minimum: Minuit, name: str) -> bool:
    """Whether a parameter lies at one of its limits."""
    low, high = minimum.limits[name]
    value = minimum.values[name]
    return bool(min(value - low, high - value) < _AT_BOUND * (high - low))


def _measure_at_bound(minimum: Minuit) -> tuple[Measurement, Measurement]:
    """Mass and number with the width held where it is, at a limit.

    There the likelihood is not parabolic in the width, so that Minos may fail and the covariance
    is too small.
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
    expected: Floats = np.exp(np.clip(offset + basis @ parameters, -50, 50))
    return expected


def _start(counts: Floats, basis: Floats, offset: Floats) -> Floats:
    weight = counts + 0.5
    target = np.log(weight) - offset
    return np.asarray(
        np.linalg.lstsq(basis * np.sqrt(weight)[:, None], target * np.sqrt(weight), rcond=None)[0]
    )


def _measure(minimum: Minuit, name: str) -> Measurement:
    """With the interval of Minos, or of Hesse where Minos finds none.

    An interval that meets a limit of the parameter ends there, and says so in its method.
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
