"""Fitted masses and fraction of a mixture, with intervals from the profile likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from hepllm.arrays import Bools, Floats
from hepllm.weak.mixture import RatioCounts, observed_samples
from hepllm.weak.mixture_toys import Reach

_FRACTIONS = np.concatenate([[0.0], np.geomspace(1e-5, 0.99, 250)])
"""Fractions at which their profile is computed."""

_AROUND = np.geomspace(1e-4, 0.1, 30)
"""And, relative to the most likely one, around it: a strong signal is known better than a step."""

_STEPS = 2000
"""Masses at which their profile is computed."""

_SPLINE = 4
"""Masses that a cubic spline needs."""

Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class MixturePoints:
    """The likelihood at K hypotheses, each with its own best fraction.

    Attributes:
        masses: (K, 2) of X and Y in GeV, the heavier first.
        fraction: (K,) of signal among the data.
        statistic: (K,) 2 ln L over that without a signal.
        fractions: fractions in rising order, the most likely one among them, (F,).
        profile: largest 2 ln L of all hypotheses at these fractions, (F,).
    """

    masses: Floats
    fraction: Floats
    statistic: Floats
    fractions: Floats
    profile: Floats

    @property
    def best(self) -> int:
        """The most likely hypothesis."""
        return int(np.argmax(self.statistic))


def fit_points(counts: RatioCounts, is_data: Bools) -> MixturePoints:
    """Fits the fraction under each hypothesis to (E,) events of data and template."""
    samples = observed_samples(counts, is_data)
    fitted = samples.fit()
    fraction, statistic = fitted.fraction[0], fitted.statistic[0]
    best = fraction[np.argmax(statistic)]
    around = best * np.concatenate([1 - _AROUND, [1], 1 + _AROUND])
    fractions = np.union1d(_FRACTIONS, around[around < _FRACTIONS[-1]])
    shape = fitted.fraction.shape
    profile = [2 * samples.log_likelihood(np.full(shape, one)).max() for one in fractions]
    return MixturePoints(counts.masses, fraction, statistic, fractions, np.array(profile))


@dataclass(frozen=True)
class FittedValue:
    """The most likely value of a parameter, and its interval at each of ``mixture_toys.LEVELS``."""

    value: float
    intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class FittedMixture:
    """The most likely signal.

    Attributes:
        fraction: of the signal among the data.
        heavy: mass of the heavier of X and Y in GeV.
        light: mass of the lighter one in GeV.
    """

    fraction: FittedValue
    heavy: FittedValue
    light: FittedValue


def fitted_mixture(points: MixturePoints, reach: Reach) -> FittedMixture:
    """Finds the most likely values, and the outermost ones whose likelihood is within reach.

    A mass or fraction is compared at the most likely values of all others. Between the points the
    likelihood is a cubic spline of the logarithm of a mass, which is exact for a parabola. Where
    several separate ranges are within reach, the interval spans them all.
    """
    missing = points.profile.max() - points.profile
    fraction = float(points.fraction[points.best])
    return FittedMixture(
        FittedValue(
            fraction, tuple(_within(points.fractions, missing, most) for most in reach.fraction)
        ),
        _fitted_mass(points, 0, reach.heavy),
        _fitted_mass(points, 1, reach.light),
    )


def _fitted_mass(points: MixturePoints, axis: int, reach: tuple[float, ...]) -> FittedValue:
    masses, place = np.unique(points.masses[:, axis], return_inverse=True)
    largest = np.full(len(masses), -np.inf)
    np.maximum.at(largest, place, points.statistic)
    logs = np.log(masses)
    fine = np.linspace(logs[0], logs[-1], _STEPS)
    if len(logs) < _SPLINE:
        profile = np.interp(fine, logs, largest)
    else:
        profile = CubicSpline(logs, largest)(fine)
    missing = profile.max() - profile
    value = float(np.exp(fine[np.argmin(missing)]))
    return FittedValue(value, tuple(_within(np.exp(fine), missing, most) for most in reach))


def _within(values: Floats, missing: Floats, most: float) -> Interval:
    """Ends of the range in which ``missing`` stays below ``most``, between the values given."""
    inside = np.flatnonzero(missing <= most)
    first, last = int(inside[0]), int(inside[-1])
    low, high = float(values[first]), float(values[last])
    if first > 0:
        low = float(np.interp(most, missing[[first, first - 1]], values[[first, first - 1]]))
    if last < len(values) - 1:
        high = float(np.interp(most, missing[[last, last + 1]], values[[last, last + 1]]))
    return low, high
