"""The response of the detector: how the measured masses of a resonance are distributed.

A response is determined from simulated signal (``fit_response``). That of ``hepllm simulate`` is
shipped as ``response.json``, which ``tools/studies/response.py`` makes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from hepllm.arrays import Floats
from hepllm.records import Events, FileRecord, Gev, Record
from hepllm.search.crystal_ball import CrystalBall

PARAMETERS = ("location", "scale", "low", "low_power", "high", "high_power")
"""Parameters of ``CrystalBall``; all but the location are fitted as logarithms."""

_SMALLEST = {"scale": 0.0, "low": 0.0, "low_power": 1.05, "high": 0.0, "high_power": 1.05}
"""What is added to the exponential of each parameter."""

NO_DETECTOR = "particles"
"""Name of the simulation without a detector, whose width no detector has."""

Coefficients = Annotated[list[float], Field(min_length=1)]


class ShapeModel(Record):
    """The distribution of log(measured / true mass) as a function of the true masses.

    Each parameter of a double-sided Crystal Ball is a sum of coefficients times terms of the
    masses, see ``m_jj_terms`` and ``jet_terms``.
    """

    coefficients: dict[str, Coefficients]
    """By parameter; that of the location, and of the logarithm of each other parameter."""
    covariance: list[Coefficients]
    """Statistical covariance of the coefficients of the location."""
    scale_error: float
    """Relative statistical error of the width of the core."""
    interpolation_error: float = 0.0
    """Scatter of the location of single mass points about this model, in widths of the core."""
    selection_errors: tuple[tuple[float, float], ...] = ()
    """Share of the background that a cut keeps, rising, and the root mean square of the location's
    shifts by the preferences of a classifier with this cut, in widths of the core."""
    location_differences: dict[str, Coefficients]
    """By other simulation, the coefficients of its location minus this one."""
    scale_differences: dict[str, float]
    """By other simulation, the logarithm of its width over this one."""

    def at(self, terms: Floats, *, shift: float = 0.0, widening: float = 1.0) -> CrystalBall:
        """Returns the distributions for terms of N masses, shape (N, K).

        Args:
            terms: terms of the masses.
            shift: added to the location.
            widening: factor of the width.
        """
        sizes = {name: len(self.coefficients[name]) for name in PARAMETERS}
        ball = crystal_ball(self.row, terms, sizes)
        return CrystalBall(
            ball.location + shift, ball.scale * widening, ball.low, ball.low_power, ball.high,
            ball.high_power,
        )  # fmt: skip

    @property
    def row(self) -> Floats:
        """All coefficients, in the order of ``PARAMETERS``."""
        return np.concatenate([self.coefficients[name] for name in PARAMETERS])

    def location_error(self, terms: Floats) -> float:
        """Statistical error of the location for the terms of one mass, shape (K,)."""
        used = terms[: len(self.covariance)]
        return float(np.sqrt(max(used @ np.array(self.covariance) @ used, 0.0)))

    def location_difference(self, terms: Floats) -> float:
        """Differences of the location to other simulations, in quadrature.

        Of several with the same name before a dash, such as ``fsr-low`` and ``fsr-high``, the
        largest counts.
        """
        shifts = {
            name: abs(float(terms[: len(one)] @ np.array(one)))
            for name, one in self.location_differences.items()
        }
        return _in_quadrature(shifts)

    def selection_error(self, eps_b: float) -> float:
        """Error of the location by what a classifier prefers, in widths of the core.

        Args:
            eps_b: share of the background that the cut keeps; between known cuts the error is
                interpolated in its logarithm, beyond them it is that of the nearest.
        """
        if not self.selection_errors:
            return 0.0
        known, errors = np.transpose(self.selection_errors)
        return float(np.interp(np.log(eps_b), np.log(known), errors))

    @property
    def scale_uncertainty(self) -> float:
        """Relative uncertainty of the width: statistics, and other simulations with a detector."""
        known = self.scale_differences.items()
        others = {name: abs(one) for name, one in known if name != NO_DETECTOR}
        return math.hypot(self.scale_error, _in_quadrature(others))


def _in_quadrature(differences: Mapping[str, float]) -> float:
    largest: dict[str, float] = {}
    for name, value in differences.items():
        kind = name.partition("-")[0]
        largest[kind] = max(value, largest.get(kind, 0.0))
    return math.hypot(*largest.values())


class SimulatedSample(Record):
    """Where a response comes from."""

    n_points: int
    """Mass points."""
    n_events: Events
    """Signal events that pass the cut."""
    eps_b: float
    """Share of the background that the cut keeps."""
    m_zprime_gev: tuple[Gev, Gev]
    """Smallest and largest mass of the resonance."""
    m_jet_gev: tuple[Gev, Gev]
    """Smallest and largest mass of a jet."""
    seed: int
    """Seed of the mass points and of the events."""


class Response(FileRecord):
    """The content of ``response.json``."""

    sample: SimulatedSample
    """Simulated signal that it was determined from."""
    m_jj: ShapeModel
    """Mass of the two leading jets over that of the resonance."""
    jet: ShapeModel
    """Mass of a jet over that of the particle that it contains."""
    groomed_jet: ShapeModel
    """The same for masses after soft drop with z_cut = 0.1 and beta = 0."""
    efficiency_differences: dict[str, float]
    """By other simulation, the logarithm of the efficiency of the cut over that of this one."""

    @property
    def efficiency_difference(self) -> float:
        """Relative differences of the efficiency to other simulations, in quadrature."""
        known = self.efficiency_differences.items()
        return _in_quadrature({name: abs(one) for name, one in known})


@cache
def shipped_response() -> Response:
    """The response of ``hepllm simulate``."""
    file = Path(str(files("hepllm.search"))) / "response.json"
    return Response.read(file, "install hepllm again")


def m_jj_terms(m_zprime: Floats, m_light: Floats, m_heavy: Floats) -> Floats:
    """Terms of the response of m_jj, shape (..., 5), for masses in GeV.

    The opening angle of a jet's quarks is 2 m / pT = 4 m / m_zprime, and what leaves the jet's
    cone grows like its square.
    """
    y = np.log(np.asarray(m_zprime) / 4000)
    light, heavy = np.square(10 * m_light / m_zprime), np.square(10 * m_heavy / m_zprime)
    return np.stack(np.broadcast_arrays(np.ones_like(y), y, heavy, light, y**2), axis=-1)


def jet_terms(mass: Floats, m_zprime: Floats) -> Floats:
    """Terms of the response of a jet's mass, shape (..., 5), for masses in GeV.

    A jet of pT = m_zprime / 2 with a cone of fixed size gains from initial radiation and loses
    particles as a function of m / pT; the detector's resolution depends on the mass itself.
    """
    v = np.log(np.asarray(mass) / m_zprime / 0.06)
    u = np.log(np.asarray(mass) / 200)
    return np.stack(np.broadcast_arrays(np.ones_like(v), v, u, v**2, v**3), axis=-1)


def crystal_ball(row: Floats, terms: Floats, sizes: Mapping[str, int]) -> CrystalBall:
    """The distributions for all coefficients in a row, and terms (..., K)."""
    values, begin = {}, 0
    for name in PARAMETERS:
        size = sizes[name]
        value = terms[..., :size] @ row[begin : begin + size]
        begin += size
        if name != "location":
            value = _SMALLEST[name] + np.exp(np.clip(value, -6.0, 4.0))
        values[name] = value
    return CrystalBall(**values)
