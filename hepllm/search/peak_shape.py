"""The shape of a resonance's peak in a spectrum of m_jj."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hepllm.arrays import Floats
from hepllm.search.crystal_ball import CrystalBall
from hepllm.search.response import Response, ShapeModel, m_jj_terms, shipped_response

TYPICAL_JETS = 0.04, 0.1
"""Masses of the light and the heavy jet over that of the resonance, where they are not known."""


@dataclass(frozen=True)
class PeakShape:
    """A double-sided Crystal Ball in log(m_jj / mass) from the response of simulated signal.

    Masses are true masses: a fit of this shape needs no further calibration.

    Attributes:
        model: response of m_jj.
        light: mass of the lighter jet in GeV; None for a typical one.
        heavy: mass of the heavier jet in GeV; None for a typical one.
        shift: added to the location in log(m_jj / mass).
    """

    model: ShapeModel
    light: float | None = None
    heavy: float | None = None
    shift: float = 0.0

    @classmethod
    def shipped(cls, response: Response | None = None) -> PeakShape:
        """Returns the shape of the response that is shipped, or of another one."""
        return cls((response or shipped_response()).m_jj)

    def with_jets(self, light: float | None, heavy: float | None) -> PeakShape:
        """Returns the shape for particles of these masses in GeV."""
        return replace(self, light=light, heavy=heavy)

    def shares(self, edges: Floats, mass: float, *, widening: float = 1.0) -> Floats:
        """Share of the peak in each bin, shape (B,); sums to less than 1 if partly outside.

        Args:
            edges: (B + 1,) in GeV.
            mass: mass of the resonance in GeV.
            widening: factor of the resolution, a nuisance parameter of fits.
        """
        ball = self._ball(mass, widening)
        return np.diff(ball.cdf(np.log(edges / mass)))

    def resolution(self, mass: float) -> float:
        """Relative width of the core of the peak."""
        return float(self._ball(mass, 1.0).scale)

    def mass_error(self, mass: float) -> dict[str, float]:
        """Systematic errors of the mass in GeV, by source."""
        terms, width = self._terms(mass), self.resolution(mass)
        return {
            "calibration": mass * self.model.location_error(terms),
            "interpolation": mass * width * self.model.interpolation_error,
            "simulation": mass * self.model.location_difference(terms),
        }

    def _terms(self, mass: float) -> Floats:
        light, heavy = (
            share * mass if known is None else known
            for known, share in zip((self.light, self.heavy), TYPICAL_JETS, strict=True)
        )
        return m_jj_terms(*(np.asarray(one, dtype=np.float64) for one in (mass, light, heavy)))

    def _ball(self, mass: float, widening: float) -> CrystalBall:
        return self.model.at(self._terms(mass), shift=self.shift, widening=widening)
