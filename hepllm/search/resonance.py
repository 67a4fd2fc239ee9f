"""Mass and number of events of a resonance: a peak on top of the smooth background."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from iminuit import Minuit

from hepllm.arrays import Floats
from hepllm.search.measurements import AT_LIMIT, HESSE, Measurement
from hepllm.search.peak_shape import PeakShape
from hepllm.search.poisson import deviance
from hepllm.search.scan import Bump

_WIDENINGS = (0.5, 2.5)
"""Limits of the width of the peak over the resolution."""

_LEAST_WIDTH_ERROR = 0.05
"""Least relative uncertainty of the resolution."""

_WIDER = 4.0
"""By how much a free width must lower the deviance for a peak to count as wide."""

FREE_WIDTH = ", free width"

_AT_BOUND = 1e-3
"""Distance from a limit, over the allowed range, below which a parameter counts as at it."""


RESOLUTION = 0.036
"""Typical relative width of a narrow peak, tails included, for margins and steps."""


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
class SmoothSpectrum:
    """A background exp(offset + basis . p + modes . z) with B bins.

    Attributes:
        basis: (B, P) orthonormal columns.
        offset: (B,) logarithm of the spectrum that is multiplied.
        modes: (B, M) independent changes of the offset by one standard deviation each: what the
            fit of the rejected events leaves open. z has a Gaussian constraint.
    """

    basis: Floats
    offset: Floats
    modes: Floats

    @classmethod
    def known(cls, basis: Floats, offset: Floats) -> SmoothSpectrum:
        """Returns a background whose offset has no error."""
        return cls(basis, offset, np.empty((len(offset), 0)))

    @property
    def columns(self) -> Floats:
        """All columns, shape (B, P + M)."""
        return np.hstack([self.basis, self.modes])

    def constraint(self, parameters: Floats) -> float:
        """Twice the negative logarithm of the constraint on (P + M,) parameters."""
        return float(np.square(parameters[self.basis.shape[1] :]).sum())

    def start(self, counts: Floats) -> Floats:
        """First parameters, shape (P + M,), for counts (B,)."""
        smooth = _start(counts, self.basis, self.offset)
        return np.concatenate([smooth, np.zeros(self.modes.shape[1])])


def modes_of(columns: Floats, expected: Floats) -> Floats:
    """Independent changes of log(expected) of a fit, one standard deviation each, shape (B, P).

    Args:
        columns: (B, P) columns of a log-linear fit.
        expected: (B,) events that it expects.
    """
    information = (columns * expected[:, None]).T @ columns
    covariance = np.linalg.pinv(information, hermitian=True)
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(columns @ (vectors * np.sqrt(np.maximum(values, 0.0))))


@dataclass(frozen=True, eq=False)
class Resonance:
    """A fit of signal and background.

    Attributes:
        mass: mass of the resonance in GeV, corrected for the response.
        n_signal: events of the peak in the m_jj range.
        width: standard deviation of the core of the peak over its mass, where it is free.
        resolution: the same in the fit of ``mass`` and ``n_signal``.
        background: (B,) events.
        signal: (B,) events.
        is_valid: whether the fit converged.
        width_at_limit: whether the best width is at a limit of the fit.
        is_wide: whether the peak is wider than the resolution; its width is then free.
    """

    mass: Measurement
    n_signal: Measurement
    width: Measurement
    resolution: float
    background: Floats
    signal: Floats
    is_valid: bool
    width_at_limit: bool = False
    is_wide: bool = False

    def less_chosen(self, excess: float) -> Resonance:
        """Returns the fit less what the choice of the selection adds to the number of events.

        Half of the correction is a systematic error.

        Args:
            excess: mean excess of the number, in standard deviations.
        """
        found = self.n_signal
        added = excess * (found.below + found.above) / 2
        if not np.isfinite(added) or found.value <= 0:
            return self
        corrected = found.model_copy(update={"value": found.value - added})
        return replace(self, n_signal=corrected.with_systematics(choice=abs(added) / 2))

    def window(self, n_sigma: float) -> tuple[float, float]:
        """Returns the mass range of +- ``n_sigma`` widths around the peak in GeV."""
        half = n_sigma * self.resolution * self.mass.value
        return self.mass.value - half, self.mass.value + half


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
    counts: Floats, edges: Floats, background: SmoothSpectrum, bump: Bump, shape: PeakShape
) -> Resonance:
    """Fits a peak and a background at the same time.

    Free are the mass, the events of the peak, the background, and, within their uncertainties,
    the resolution and the spectrum that the background multiplies. Where a free width lowers the
    deviance by 4, the peak is wider than the resolution and its width is free. The fit has the
    events of the whole peak as its parameter; the result, with its interval, is scaled to those
    inside the m_jj range, to which the efficiency of a selection refers as well.

    Args:
        counts: (B,) events.
        edges: (B + 1,) in GeV.
        background: background of the spectrum.
        bump: allowed region of the mass: its window and half of the window on both sides.
        shape: shape of the peak.
    """
    model = _PeakModel(counts, edges, background, shape)
    held = model.minimum(bump, is_free=False)
    free = model.minimum(bump, is_free=True, near=held)
    wider = free.values["x2"] > held.values["x2"]
    is_wide = bool(free.valid and wider and model.gain(held, free) > _WIDER)
    chosen = free if is_wide else held
    chosen.hesse()
    mass, n_signal = (_measure(chosen, name) for name in ("x1", "x0"))
    core = shape.resolution(mass.value)
    if is_wide:
        mass, n_signal = (
            one.model_copy(update={"method": f"{one.method}{FREE_WIDTH}"})
            for one in (mass, n_signal)
        )
    else:
        free.hesse()
    values = np.asarray(chosen.values)
    signal, expected = model.parts(values)
    inside = float(shape.shares(edges, values[1], widening=values[2]).sum())
    return Resonance(
        mass=mass.with_systematics(**shape.mass_error(mass.value)),
        n_signal=n_signal.scaled(inside),
        width=_measure(free, "x2").scaled(core),
        resolution=float(values[2]) * core,
        background=expected,
        signal=signal,
        is_valid=bool(chosen.valid),
        width_at_limit=_at_bound(free, "x2"),
        is_wide=is_wide,
    )


@dataclass(frozen=True, eq=False)
class _PeakModel:
    """A spectrum with a peak; parameters are events, mass, widening and those of the background."""

    counts: Floats
    edges: Floats
    background: SmoothSpectrum
    shape: PeakShape

    def parts(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Expected events of the peak and of the background, shape (B,) each."""
        n_signal, mass, widening = parameters[:3]
        signal = n_signal * self.shape.shares(self.edges, mass, widening=widening)
        columns, offset = self.background.columns, self.background.offset
        return signal, _expected(columns, offset, parameters[3:])

    def cost(self, parameters: Floats) -> float:
        """Half of the deviance, with the constraint of the background."""
        signal, background = self.parts(parameters)
        expected = np.maximum(signal + background, 1e-9)
        constraint = self.background.constraint(parameters[3:])
        return (float(deviance(self.counts, expected)) + constraint) / 2

    def constrained(self, parameters: Floats) -> float:
        """The cost with the constraint of the resolution."""
        error = max(self.shape.model.scale_uncertainty, _LEAST_WIDTH_ERROR)
        return self.cost(parameters) + float(np.log(parameters[2]) / error) ** 2 / 2

    def gain(self, held: Minuit, free: Minuit) -> float:
        """By how much a free width lowers the deviance, the constraint included."""
        return 2 * float(self.constrained(np.asarray(held.values)) - free.fval)

    def minimum(self, bump: Bump, *, is_free: bool, near: Minuit | None = None) -> Minuit:
        """Minimises the cost; starts again elsewhere where another minimum may be lower."""
        cost = self.cost if is_free else self.constrained
        low, high = self.edges[bump.start], self.edges[bump.start + bump.width]
        margin = (high - low) / 2
        masses = max(low - margin, self.edges[0]), min(high + margin, self.edges[-1])
        if near is not None:
            first = _peak_minimum(cost, list(near.values), masses)
        else:
            first = _peak_minimum(cost, self._start(bump, *_starts(low, high)[0]), masses)
        if not _is_doubtful(first):
            return first
        more = [
            _peak_minimum(cost, self._start(bump, *one), masses) for one in _starts(low, high)[1:]
        ]
        return min([first, *more], key=lambda one: (not one.valid, one.fval))

    def _start(self, bump: Bump, mass: float, widening: float) -> list[float]:
        outside = np.ones(len(self.counts), dtype=bool)
        outside[bump.start : bump.start + bump.width] = False
        known = self.background
        part = SmoothSpectrum(known.basis[outside], known.offset[outside], known.modes[outside])
        excess = max(bump.n_observed - bump.n_expected, 1.0)
        return [excess, mass, widening, *part.start(self.counts[outside])]


def _peak_minimum(
    cost: Callable[[Floats], float], start: Sequence[float], masses: tuple[float, float]
) -> Minuit:
    minimum = Minuit(cost, np.asarray(start))
    minimum.errordef = Minuit.LIKELIHOOD
    minimum.limits["x1"], minimum.limits["x2"] = masses, _WIDENINGS
    minimum.migrad(ncall=20_000)
    return minimum


def _starts(low: float, high: float) -> list[tuple[float, float]]:
    """Returns start values of mass and widening: the middle of the window first."""
    centre = float(np.sqrt(low * high))
    return [(centre, 1.0), (centre, 0.7), (centre, 2.0), (low, 1.0), (high, 1.0)]


def _is_doubtful(minimum: Minuit) -> bool:
    """Whether another start may lead to a lower minimum."""
    stuck = _at_bound(minimum, "x1") or _at_bound(minimum, "x2")
    return not minimum.valid or stuck or minimum.values["x0"] <= 0


def _at_bound(minimum: Minuit, name: str) -> bool:
    """Whether a parameter lies at one of its limits."""
    low, high = minimum.limits[name]
    value = minimum.values[name]
    return bool(min(value - low, high - value) < _AT_BOUND * (high - low))


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
