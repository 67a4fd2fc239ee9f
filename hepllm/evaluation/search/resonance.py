"""Mass and number of events of a resonance: a peak on top of the smooth background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from iminuit import Minuit
from numpy.typing import NDArray
from scipy.stats import norm

from hepllm.evaluation.search.poisson import deviance
from hepllm.evaluation.search.scan import Bump

Floats = NDArray[np.float64]

_WIDTHS = (0.02, 0.08)
"""Of the peak over its mass: from half to twice the resolution of R = 1.0 dijets, 0.036."""

_AT_LIMIT = "minos, at limit"

RESOLUTION = 0.036
"""Of m_jj, relative, of simulated resonances decaying to two R = 1.0 jets."""


@dataclass(frozen=True)
class Measurement:
    """A number with its 68 % interval.

    Attributes:
        value: best estimate.
        below: distance to the lower end.
        above: distance to the upper end.
        method: how the interval was found.
    """

    value: float
    below: float
    above: float
    method: str

    @property
    def at_limit(self) -> bool:
        """Whether an end of the interval is a limit of the fit instead of where Minos got to."""
        return self.method == _AT_LIMIT

    def scaled(self, factor: float) -> Measurement:
        """The same in other units."""
        return Measurement(
            self.value * factor, self.below * factor, self.above * factor, self.method
        )

    def __str__(self) -> str:
        return f"{self.value:.4g} -{self.below:.2g} +{self.above:.2g}"


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
    """

    mass: Measurement
    n_signal: Measurement
    width: Measurement
    background: Floats
    signal: Floats
    is_valid: bool

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

    minimum = _minimise(cost, _start(counts, basis, offset))
    expected = _expected(basis, offset, np.asarray(minimum.values))
    covariance = np.asarray(minimum.covariance)
    relative = np.sqrt(np.einsum("bp,pq,bq->b", basis, covariance, basis))
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
    start = np.concatenate([[excess, np.sqrt(low * high), RESOLUTION], smooth])
    minimum = Minuit(cost, start)
    minimum.errordef = Minuit.LIKELIHOOD
    margin = (high - low) / 2
    minimum.limits["x1"] = (max(low - margin, edges[0]), min(high + margin, edges[-1]))
    minimum.limits["x2"] = _WIDTHS
    minimum.migrad(ncall=20_000)
    minimum.hesse()
    signal, background = parts(np.asarray(minimum.values))
    inside = float(peak(edges, minimum.values["x1"], minimum.values["x2"]).sum())
    return Resonance(
        mass=_measure(minimum, "x1"),
        n_signal=_measure(minimum, "x0").scaled(inside),
        width=_measure(minimum, "x2"),
        background=background,
        signal=signal,
        is_valid=bool(minimum.valid),
    )


def _expected(basis: Floats, offset: Floats, parameters: Floats) -> Floats:
    expected: Floats = np.exp(np.clip(offset + basis @ parameters, -50, 50))
    return expected


def _start(counts: Floats, basis: Floats, offset: Floats) -> Floats:
    weight = counts + 0.5
    target = np.log(weight) - offset
    return np.asarray(
        np.linalg.lstsq(basis * np.sqrt(weight)[:, None], target * np.sqrt(weight), rcond=None)[0]
    )


def _minimise(cost: object, start: Floats) -> Minuit:
    minimum = Minuit(cost, start)
    minimum.errordef = Minuit.LIKELIHOOD
    minimum.strategy = 2
    minimum.migrad(ncall=20_000)
    minimum.hesse()
    return minimum


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
            method = _AT_LIMIT if at_limit else "minos"
            return Measurement(value, -errors.lower, errors.upper, method)
    error = float(minimum.errors[name])
    return Measurement(value, error, error, "hesse")
