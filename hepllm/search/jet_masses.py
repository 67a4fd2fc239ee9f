"""Masses of the two particles that a resonance decays to, from the jets of an excess.

The masses of both jets of each event near the resonance are fitted at once with the response of
simulated signal, on top of what the side-bands predict. Unlike the highest point of a smoothed
difference, this is not biased by the tail that initial radiation makes, nor by the slope of the
background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from iminuit import Minuit

from hepllm.arrays import Floats, Ints
from hepllm.search.measurements import AT_LIMIT, HESSE, Measurement
from hepllm.search.response import ShapeModel, jet_terms

_LOW, _HIGH, _STEP = 10.0, 3000.0, 0.1
_MIN_EXCESS = 5.0
_MIN_SIDEBAND = 10

_LARGEST_SHARE = 0.3
"""Largest mass of a particle over that of the resonance whose decay is one jet."""

_GRID_STEP = 0.1
"""Distance of starting values in log mass."""

_SMALLEST = 30.0
"""GeV."""

_FLOOR = 1e-3
"""Share of a background density that is flat in both log masses, where side-bands have no event."""

_LEAST_BACKGROUND_ERROR = 0.1
"""Least relative error of the background in the window."""

_MAX_SIDEBAND = 2000
"""Events of the side-bands that the density is made of, drawn if there are more."""


@dataclass(frozen=True, eq=False)
class JetPairs:
    """Masses of the two leading jets of N events in GeV, shape (N,) each; NaN where not known."""

    light: Floats
    heavy: Floats

    def __len__(self) -> int:
        return len(self.light)

    def take(self, events: Ints) -> JetPairs:
        """Returns the events at some positions."""
        return JetPairs(self.light[events], self.heavy[events])

    def known(self) -> JetPairs:
        """Returns the events in which both masses are known."""
        return self.take(np.flatnonzero(~np.isnan(self.light + self.heavy)))

    @property
    def logs(self) -> Floats:
        """Logarithms of both masses, shape (N, 2), of masses of at least 1 GeV."""
        return np.log(np.maximum(np.stack([self.light, self.heavy], axis=1), 1.0))


@dataclass(frozen=True, eq=False)
class JetMass:
    """The mass of one jet in the events of an excess.

    Attributes:
        peak: mass of the particle in GeV; None where there are too few events.
        edges: (K + 1,) bin edges in GeV.
        window: (K,) events in the window of the excess.
        background: (K,) background events there, as predicted from the side-bands.
    """

    peak: Measurement | None
    edges: Floats
    window: Floats
    background: Floats


@dataclass(frozen=True)
class JetResponse:
    """The response of jet masses, maybe corrected for the cut on the score.

    Attributes:
        model: response of simulated signal.
        resonance: mass of the resonance in GeV.
        shifts: added to the location, for the particle of the light and of the heavy jet.
        widenings: factors of the width.
        errors: errors of the location that the corrections have; None: those of the model.
        selection: error of the location by what the cut prefers, in widths of the core.
    """

    model: ShapeModel
    resonance: float
    shifts: tuple[float, float] = (0.0, 0.0)
    widenings: tuple[float, float] = (1.0, 1.0)
    errors: tuple[float, float] | None = None
    selection: float = 0.0

    def log_densities(self, logs: Floats, particle: int, mass: Floats) -> Floats:
        """Log density of log masses for particle 0 (light) or 1 (heavy); both broadcast."""
        ball = self.model.at(
            jet_terms(mass, np.asarray(self.resonance)),
            shift=self.shifts[particle],
            widening=self.widenings[particle],
        )
        return ball.log_pdf(logs - np.log(mass))

    def systematics(self, particle: int, mass: float) -> dict[str, float]:
        """Systematic errors of a mass in GeV, by source."""
        terms = jet_terms(np.asarray(mass), np.asarray(self.resonance))
        known = self.model.location_error(terms) if self.errors is None else self.errors[particle]
        width = float(self.model.at(terms).scale)
        return {
            "calibration": mass * known,
            "interpolation": mass * self.model.interpolation_error * width,
            "simulation": mass * self.model.location_difference(terms),
            "selection": mass * self.selection * width,
        }


def fit_jet_masses(
    window: JetPairs,
    sidebands: JetPairs,
    response: JetResponse,
    *,
    n_background: float,
    background_error: float,
    seed: int,
    n_replicas: int = 12,
) -> dict[str, JetMass]:
    """Fits the masses of both particles.

    An extended likelihood, unbinned in both jet masses: signal with the response of two particles,
    either of which may make the lighter jet, and background with the smoothed density of the
    side-bands and a number that is known within its error. Intervals are those of Minos; the
    spread of fits with the side-bands drawn again is a systematic error. Events without a jet mass
    are left out, and as large a share of the expected background.

    Args:
        window: events near the resonance.
        sidebands: events away from it.
        response: response of jet masses.
        n_background: background events expected in the window.
        background_error: its standard deviation.
        seed: seed of the replicas.
        n_replicas: number of replicas.

    Returns:
        The mass of the ``light`` and of the ``heavy`` particle.
    """
    n_all = len(sidebands)
    window, sidebands = window.known(), sidebands.known()
    known = len(sidebands) / max(n_all, 1)
    n_background, background_error = known * n_background, known * background_error
    found: tuple[Measurement | None, Measurement | None] = (None, None)
    enough = len(sidebands) >= _MIN_SIDEBAND and len(window) - n_background >= _MIN_EXCESS
    if enough:
        random = np.random.default_rng([seed, 33])
        error = max(background_error, _LEAST_BACKGROUND_ERROR * n_background)
        fit = _PairFit(window.logs, n_background, error, response)
        found = fit.measure(sidebands, random, n_replicas)
    edges = np.geomspace(_LOW, _HIGH, round(np.log(_HIGH / _LOW) / _STEP) + 1)
    scale = n_background / max(len(sidebands), 1)

    def shown(pairs: JetPairs, jet: str) -> Floats:
        masses = np.clip(getattr(pairs, jet), _LOW, _HIGH)
        return np.histogram(masses, edges)[0].astype(np.float64)

    return {
        jet: JetMass(one, edges, shown(window, jet), scale * shown(sidebands, jet))
        for jet, one in zip(("light", "heavy"), found, strict=True)
    }


@dataclass(frozen=True, eq=False)
class _PairFit:
    """A fit to the log masses of the jets in the window, shape (N, 2)."""

    logs: Floats
    n_background: float
    background_error: float
    response: JetResponse

    def measure(
        self, sidebands: JetPairs, random: np.random.Generator, n_replicas: int
    ) -> tuple[Measurement | None, Measurement | None]:
        if len(sidebands) > _MAX_SIDEBAND:
            kept = random.choice(len(sidebands), _MAX_SIDEBAND, replace=False)
            sidebands = sidebands.take(kept)
        density = pair_density(sidebands.logs, self.logs)
        best = self._minimum(density, self._starts(density))
        moved = []
        for _ in range(n_replicas):
            drawn = sidebands.take(random.integers(len(sidebands), size=len(sidebands)))
            other = pair_density(drawn.logs, self.logs)
            moved.append(self._minimum(other, list(best.values)).values[:2])
        spread = np.std(moved, axis=0)
        order = np.argsort(best.values[:2])
        first, second = (
            self._measured(best, place, particle, float(spread[place]))
            for particle, place in enumerate(order)
        )
        return first, second

    def _measured(self, minimum: Minuit, place: int, particle: int, spread: float) -> Measurement:
        name = f"x{place}"
        value = float(np.exp(minimum.values[name]))
        below = above = value * float(minimum.errors[name])
        method = HESSE
        if minimum.valid:
            minimum.minos(name)
            errors = minimum.merrors[name]
            if errors.is_valid:
                below = value - value * float(np.exp(errors.lower))
                above = value * float(np.exp(errors.upper)) - value
                at_limit = errors.at_lower_limit or errors.at_upper_limit
                method = AT_LIMIT if at_limit else "minos"
        measured = Measurement(value=value, below=below, above=above, method=method)
        systematics = self.response.systematics(particle, value)
        return measured.with_systematics(**{**systematics, "sidebands": value * spread})

    def _minimum(self, density: Floats, start: list[float]) -> Minuit:
        minimum = Minuit(lambda row: self._cost(row, density), np.asarray(start))
        minimum.errordef = Minuit.LIKELIHOOD
        ends = np.log(_SMALLEST / 1.5), np.log(_LARGEST_SHARE * self.response.resonance)
        minimum.limits["x0"] = minimum.limits["x1"] = ends
        minimum.limits["x2"], minimum.limits["x3"] = (0.0, None), (0.0, None)
        minimum.migrad(ncall=5000)
        return minimum

    def _cost(self, row: Floats, density: Floats) -> float:
        light, heavy, n_signal, n_background = row
        total = n_signal * self._signal(light, heavy) + n_background * density
        constraint = ((n_background - self.n_background) / self.background_error) ** 2 / 2
        fitted = n_signal + n_background - np.log(np.maximum(total, 1e-300)).sum()
        return float(fitted + constraint)

    def _signal(self, light: float, heavy: float) -> Floats:
        """Density of the pairs of log masses for two particles of these log masses, shape (N,)."""
        mass = np.exp([light, heavy])
        of_light, of_heavy = (
            np.exp(self.response.log_densities(self.logs, particle, mass[particle]))
            for particle in range(2)
        )
        return np.asarray(of_light[:, 0] * of_heavy[:, 1] + of_light[:, 1] * of_heavy[:, 0])

    def _starts(self, density: Floats) -> list[float]:
        """The best pair of masses on a coarse grid."""
        most = _LARGEST_SHARE * self.response.resonance
        grid = np.exp(np.arange(np.log(_SMALLEST), np.log(most), _GRID_STEP))
        of_light, of_heavy = (
            np.exp(self.response.log_densities(self.logs[:, None, :], particle, grid[:, None]))
            for particle in range(2)
        )
        n = len(self.logs)
        n_signal = max(n - self.n_background, 1.0)
        best, lowest = (0, 0), np.inf
        for i in range(len(grid)):
            pair = of_light[:, i, 0, None] * of_heavy[:, i:, 1]
            pair += of_light[:, i, 1, None] * of_heavy[:, i:, 0]
            total = n_signal * pair + (self.n_background + 0.01) * density[:, None]
            values = -np.log(np.maximum(total, 1e-300)).sum(axis=0)
            if values.min() < lowest:
                lowest, best = float(values.min()), (i, i + int(values.argmin()))
        light, heavy = np.log(grid[best[0]]), np.log(grid[best[1]])
        return [light, heavy + (0.02 if best[0] == best[1] else 0.0), n_signal, self.n_background]


def pair_density(known: Floats, places: Floats) -> Floats:
    """Density of log mass pairs at places (N, 2), from M known pairs (M, 2), shape (N,).

    A sum of Gaussians along the principal axes, of Silverman's width, and a small flat part.
    """
    centre = known.mean(axis=0)
    covariance = np.cov(known.T) + 1e-6 * np.eye(2)
    root = np.linalg.cholesky(np.linalg.inv(covariance))
    width = len(known) ** (-1 / 6)
    first, second = ((one - centre) @ root / width for one in (known, places))
    squared = np.square(second[:, None, :] - first[None, :, :]).sum(axis=2)
    total = np.exp(-squared / 2).sum(axis=1) / len(known)
    smooth = total * np.sqrt(np.linalg.det(np.linalg.inv(covariance))) / (2 * np.pi * width**2)
    flat = 1 / np.log(_HIGH / _LOW) ** 2
    return np.asarray((1 - _FLOOR) * smooth + _FLOOR * flat)
