"""The double-sided Crystal Ball: a Gaussian core with a power-law tail on each side.

Oreglia, SLAC-R-236 (1980), appendix D, with the tail on both sides as in arXiv:1407.6583.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from hepllm.arrays import Floats

_ROOT = float(np.sqrt(2 * np.pi))


@dataclass(frozen=True, eq=False)
class CrystalBall:
    """The density of t = (x - location) / scale; all attributes broadcast against x.

    It is exp(-t^2 / 2) for -low < t < high, and continues on each side, with a continuous slope,
    as a power of the distance.

    Attributes:
        location: most probable x.
        scale: standard deviation of the core.
        low: where the lower tail begins, in widths below the location.
        low_power: power of the lower tail, above 1.
        high: where the upper tail begins, in widths above the location.
        high_power: power of the upper tail, above 1.
    """

    location: Floats
    scale: Floats
    low: Floats
    low_power: Floats
    high: Floats
    high_power: Floats

    def pdf(self, x: Floats) -> Floats:
        """Density at x."""
        return np.exp(self.log_pdf(x))

    def log_pdf(self, x: Floats) -> Floats:
        """Logarithm of the density at x."""
        t = (x - self.location) / self.scale
        below = _log_tail(-t, self.low, self.low_power)
        above = _log_tail(t, self.high, self.high_power)
        value = np.where(t < -self.low, below, np.where(t > self.high, above, -(t**2) / 2))
        return np.asarray(value - np.log(self._areas().sum(axis=0) * self.scale))

    def cdf(self, x: Floats) -> Floats:
        """Probability of a value below x."""
        t = (x - self.location) / self.scale
        lower, core, upper = self._areas()
        below = lower * _share_beyond(-t, self.low, self.low_power)
        above = upper * _share_beyond(t, self.high, self.high_power)
        inside = np.clip(t, -self.low, self.high)
        middle = lower + _ROOT * (ndtr(inside) - ndtr(-np.asarray(self.low)))
        total = lower + core + upper
        value = np.where(t < -self.low, below, np.where(t > self.high, total - above, middle))
        return np.asarray(value / total)

    def _areas(self) -> Floats:
        """Areas of lower tail, core and upper tail in t, shape (3, ...)."""
        core = _ROOT * (ndtr(self.high) - ndtr(-np.asarray(self.low)))
        return np.stack(
            np.broadcast_arrays(
                _tail_area(self.low, self.low_power), core, _tail_area(self.high, self.high_power)
            )
        )


def _tail_area(begin: Floats, power: Floats) -> Floats:
    return np.asarray(np.exp(-np.square(begin) / 2) * power / (begin * (power - 1)))


def _distance(t: Floats, begin: Floats, power: Floats) -> Floats:
    """1 where the tail begins, growing outwards."""
    return np.maximum(1 + begin * (t - begin) / power, 1.0)


def _log_tail(t: Floats, begin: Floats, power: Floats) -> Floats:
    return np.asarray(-np.square(begin) / 2 - power * np.log(_distance(t, begin, power)))


def _share_beyond(t: Floats, begin: Floats, power: Floats) -> Floats:
    """Share of a tail's area that lies beyond t."""
    return np.asarray(_distance(t, begin, power) ** (1 - power))
