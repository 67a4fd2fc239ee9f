"""Determines a response from simulated signal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hepllm.arrays import Bools, Floats, Ints
from hepllm.search.response import (
    PARAMETERS,
    ShapeModel,
    crystal_ball,
    jet_terms,
    m_jj_terms,
)

Kind = Literal["m_jj", "jet"]

_TERMS: Mapping[Kind, Mapping[str, int]] = {
    "m_jj": {"location": 5, "scale": 5, "low": 4, "low_power": 2, "high": 2, "high_power": 1},
    "jet": {"location": 5, "scale": 5, "low": 3, "low_power": 1, "high": 3, "high_power": 3},
}
"""Number of leading terms that each parameter depends on."""

_START = {
    "m_jj": (0.0, np.log(0.032), 0.2, 0.0, 0.4, 1.0),
    "jet": (0.03, np.log(0.08), 0.0, 0.0, -0.3, 0.5),
}

_RIDGE = 1e-3
"""Weight of the squared distance of the coefficients from their start, which bounds those that the
events hardly determine."""

_STEP = 1e-4
_MAX_STEPS = 80
_TOLERANCE = 1e-3
"""Change of the log likelihood below which a fit has converged."""
_MAX_DAMPING = 1e6


@dataclass(frozen=True, eq=False)
class SignalEvents:
    """N simulated signal events with their true masses; all arrays in GeV, shape (N,).

    Attributes:
        m_jj: mass of the two leading jets.
        light: mass of the lighter of the two leading jets.
        heavy: mass of the heavier one.
        m_zprime: mass of the resonance.
        m_light: mass of the lighter particle it decays to.
        m_heavy: mass of the heavier one.
    """

    m_jj: Floats
    light: Floats
    heavy: Floats
    m_zprime: Floats
    m_light: Floats
    m_heavy: Floats

    def take(self, events: Bools) -> SignalEvents:
        """Returns the events of a mask, shape (N,)."""
        return SignalEvents(*(getattr(self, name)[events] for name in self.__dataclass_fields__))


def fit_m_jj(events: SignalEvents, start: ShapeModel | None = None) -> ShapeModel:
    """Fits the response of m_jj to simulated signal."""
    terms = m_jj_terms(events.m_zprime, events.m_light, events.m_heavy)
    x = np.log(events.m_jj / events.m_zprime)

    def log_density(row: Floats) -> Floats:
        return crystal_ball(row, terms, _TERMS["m_jj"]).log_pdf(x)

    return _fit("m_jj", log_density, _points_of(events), start)


def fit_jets(events: SignalEvents, start: ShapeModel | None = None) -> ShapeModel:
    """Fits the response of jet masses to simulated signal.

    Both particles have the same response; either may make the lighter jet.
    """
    return _fit("jet", _Pairs.of(events).log_density, _points_of(events), start)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Terms of both particles, and x = log(measured / true mass) of each jet for each particle."""

    terms: tuple[Floats, Floats]
    light: tuple[Floats, Floats]
    heavy: tuple[Floats, Floats]

    @classmethod
    def of(cls, events: SignalEvents) -> _Pairs:
        masses = events.m_light, events.m_heavy
        light, heavy = (np.maximum(one, 1.0) for one in (events.light, events.heavy))
        return cls(
            terms=tuple(jet_terms(mass, events.m_zprime) for mass in masses),  # type: ignore[arg-type]
            light=tuple(np.log(light / mass) for mass in masses),  # type: ignore[arg-type]
            heavy=tuple(np.log(heavy / mass) for mass in masses),  # type: ignore[arg-type]
        )

    def log_density(self, row: Floats) -> Floats:
        return self.log_density_of((row, row))

    def log_density_of(self, rows: tuple[Floats, Floats]) -> Floats:
        """Log density of each event, (N,), for coefficients of the light and the heavy particle."""
        of_light, of_heavy = (
            crystal_ball(row, terms, _TERMS["jet"])
            for row, terms in zip(rows, self.terms, strict=True)
        )
        straight = of_light.log_pdf(self.light[0]) + of_heavy.log_pdf(self.heavy[1])
        crossed = of_light.log_pdf(self.heavy[0]) + of_heavy.log_pdf(self.light[1])
        return np.asarray(np.logaddexp(straight, crossed))


def _fit(
    kind: Kind,
    log_density: Callable[[Floats], Floats],
    groups: Ints,
    start: ShapeModel | None,
) -> ShapeModel:
    """Fits all coefficients by maximum likelihood.

    Each step is that of Berndt, Hall, Hall and Hausman (Ann. Econ. Soc. Meas. 3 (1974) 653), with
    the damping of Levenberg and Marquardt. The covariance allows that the events of a mass point
    differ from the model in the same direction (White's estimate with one group a mass point).

    Args:
        kind: quantity.
        log_density: density of each event for all coefficients in a row.
        groups: (N,) the mass point of each event.
        start: first coefficients; None for usual ones.
    """
    sizes = _TERMS[kind]
    begin = _first(kind) if start is None else start.row
    place, damping = begin.copy(), 1e-2

    def cost(row: Floats) -> float:
        return float(-log_density(row).sum() + _RIDGE * np.square(row - begin).sum())

    lowest = cost(place)
    for _ in range(_MAX_STEPS):
        slopes = _slopes(log_density, place)
        gradient = slopes.sum(axis=0) - 2 * _RIDGE * (place - begin)
        information = slopes.T @ slopes + 2 * _RIDGE * np.eye(len(place))
        before = lowest
        while damping < _MAX_DAMPING:
            damped = information + damping * np.diag(np.diag(information))
            tried = place + np.linalg.solve(damped, gradient)
            value = cost(tried)
            if value < lowest:
                place, lowest, damping = tried, value, max(damping / 5, 1e-6)
                break
            damping *= 4
        if before - lowest < _TOLERANCE:
            break
        damping = min(damping, 1.0)
    covariance = _grouped_covariance(_slopes(log_density, place), groups)
    n_location = sizes["location"]
    return ShapeModel(
        coefficients={
            name: [float(one) for one in part]
            for name, part in zip(PARAMETERS, _parts_of(place, sizes), strict=True)
        },
        covariance=covariance[:n_location, :n_location].tolist(),
        scale_error=float(np.sqrt(covariance[n_location, n_location])),
        location_differences={},
        scale_differences={},
    )


def _first(kind: Kind) -> Floats:
    row = []
    for name, value in zip(PARAMETERS, _START[kind], strict=True):
        row += [value, *[0.0] * (_TERMS[kind][name] - 1)]
    return np.array(row)


def _parts_of(row: Floats, sizes: Mapping[str, int]) -> list[Floats]:
    return np.split(row, np.cumsum([sizes[name] for name in PARAMETERS])[:-1])


def _slopes(log_density: Callable[[Floats], Floats], place: Floats) -> Floats:
    """Derivatives of each event's log density, shape (N, P)."""
    steps = _STEP * np.eye(len(place))
    pairs = [(log_density(place + step), log_density(place - step)) for step in steps]
    return np.stack([(after - before) / (2 * _STEP) for after, before in pairs], axis=1)


def _grouped_covariance(slopes: Floats, groups: Ints) -> Floats:
    n = slopes.shape[1]
    inverse = np.linalg.inv(slopes.T @ slopes + 2 * _RIDGE * np.eye(n))
    by_group = np.zeros((groups.max() + 1, n))
    np.add.at(by_group, groups, slopes)
    return np.asarray(inverse @ (by_group.T @ by_group) @ inverse)


def _points_of(events: SignalEvents) -> Ints:
    """Numbers the mass points of events, shape (N,)."""
    masses = np.stack([events.m_zprime, events.m_light, events.m_heavy], axis=1)
    return np.asarray(np.unique(masses, axis=0, return_inverse=True)[1].ravel(), dtype=np.int64)


def fit_differences(
    kind: Kind, nominal: ShapeModel, others: Mapping[str, SignalEvents]
) -> ShapeModel:
    """Adds to a response how location and width differ in other simulations.

    For each, a shift of the location that is linear in the first terms, and a factor of the width,
    are fitted to its events; the rest of the shape is kept.

    Args:
        kind: quantity.
        nominal: response.
        others: events of each simulation, by name.
    """
    locations, scales = {}, {}
    for name, events in others.items():
        changes = _Changes.of(kind, nominal, events)
        found = changes.fit()
        locations[name] = [float(one) for one in found[:-1]]
        scales[name] = float(found[-1])
    return nominal.model_copy(
        update={"location_differences": locations, "scale_differences": scales}
    )


def fit_interpolation(kind: Kind, nominal: ShapeModel, events: SignalEvents) -> ShapeModel:
    """Adds to a response how single mass points scatter about it.

    For each point with enough events a shift of the location is fitted; the error is what its
    scatter has beyond the statistical errors, in widths of the core (of the heavier jet).
    """
    points = _points_of(events)
    excess = []
    for point in range(points.max() + 1):
        mine = points == point
        if mine.sum() < _MIN_POINT:
            continue
        one = events.take(mine)
        changes = replace(_Changes.of(kind, nominal, one), places=np.zeros(1, dtype=np.int64))
        shift = changes.fit()
        variance = 1 / np.square(_slopes(changes.changed, shift)).sum()
        true = one.m_zprime[:1], one.m_light[:1], one.m_heavy[:1]
        terms = m_jj_terms(*true) if kind == "m_jj" else jet_terms(true[2], true[0])
        excess.append((shift[0] ** 2 - variance) / nominal.at(terms).scale[0] ** 2)
    error = float(np.sqrt(max(np.mean(excess), 0.0)))
    return nominal.model_copy(update={"interpolation_error": error})


def fit_selection(
    nominal: ShapeModel, passing: Mapping[float, Sequence[SignalEvents]]
) -> ShapeModel:
    """Adds to a response of jets how much what a classifier prefers shifts their masses.

    For both particles of each mass point with enough events a shift of the location is fitted. The
    error is the root mean square of the shifts beyond their statistical errors and beyond the
    interpolation error.

    Args:
        nominal: response.
        passing: events of mass points that neither the response nor the classifier was fitted to,
            one item per point, by the share of the background that the cut keeps.
    """
    errors = []
    for eps_b, points in sorted(passing.items()):
        found = [_pair_shifts(nominal, one) for one in points if len(one.m_jj) >= _MIN_POINT]
        if not found:
            continue
        beyond = float(np.mean(found)) - nominal.interpolation_error**2
        errors.append((eps_b, float(np.sqrt(max(beyond, 0.0)))))
    return nominal.model_copy(update={"selection_errors": tuple(errors)})


def _pair_shifts(nominal: ShapeModel, events: SignalEvents) -> Floats:
    """Squared shifts of both particles less their variance, in squared widths, shape (2,)."""
    pairs = _Pairs.of(events)
    start = nominal.row

    def log_density(shifts: Floats) -> Floats:
        rows = [start.copy(), start.copy()]
        for row, shift in zip(rows, shifts, strict=True):
            row[0] += shift  # the first coefficient of the location
        return pairs.log_density_of((rows[0], rows[1]))

    shifts = _scored(log_density, np.zeros(2))
    slopes = _slopes(log_density, shifts)
    variances = np.diag(np.linalg.inv(slopes.T @ slopes))
    widths = np.array([nominal.at(terms[:1]).scale[0] for terms in pairs.terms])
    return np.asarray((np.square(shifts) - variances) / np.square(widths))


def _scored(log_density: Callable[[Floats], Floats], start: Floats) -> Floats:
    """Maximises the sum of log densities by scoring steps, which need a start that is near."""
    place = start.copy()
    for _ in range(_MAX_STEPS):
        slopes = _slopes(log_density, place)
        step = np.linalg.solve(slopes.T @ slopes, slopes.sum(axis=0))
        place += step
        if np.abs(step).max() < _STEP:
            break
    return place


_MIN_POINT = 60

_N_CHANGES: Mapping[Kind, int] = {"m_jj": 2, "jet": 3}
"""Terms of the shift of the location in another simulation."""


@dataclass(frozen=True, eq=False)
class _Changes:
    """A shift of the location and a factor of the width, relative to a response."""

    log_density: Callable[[Floats], Floats]
    begin: Floats
    places: Ints

    @classmethod
    def of(cls, kind: Kind, nominal: ShapeModel, events: SignalEvents) -> _Changes:
        sizes = _TERMS[kind]
        if kind == "jet":
            log_density = _Pairs.of(events).log_density
        else:
            terms = m_jj_terms(events.m_zprime, events.m_light, events.m_heavy)
            x = np.log(events.m_jj / events.m_zprime)

            def log_density(row: Floats) -> Floats:
                return crystal_ball(row, terms, sizes).log_pdf(x)

        places = np.append(np.arange(_N_CHANGES[kind]), sizes["location"])
        return cls(log_density, nominal.row, places)

    def fit(self) -> Floats:
        """Changes of the coefficients at ``places``, by the scoring of ``_fit``."""
        return _scored(self.changed, np.zeros(len(self.places)))

    def changed(self, change: Floats) -> Floats:
        """Log density of each event, (N,), with changed coefficients."""
        row = self.begin.copy()
        row[self.places] += change
        return self.log_density(row)
