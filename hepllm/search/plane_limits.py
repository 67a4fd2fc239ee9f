"""Upper limits at each point of a scan over the masses of X and Y, for one resonance mass."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats, Ints
from hepllm.config.evaluation import SearchConfig
from hepllm.errors import RunError
from hepllm.evaluation.efficiency import efficiency
from hepllm.executor import run_tasks
from hepllm.hypotheses.hypothesis import Hypothesis
from hepllm.logs import progress_bar
from hepllm.search.limit_model import FittedSelections, peak_of
from hepllm.search.limit_records import UpperLimit
from hepllm.search.limits import LimitsOfBox, MassPoint, limit_masses
from hepllm.search.measurements import SignalEfficiency
from hepllm.search.peak_shape import PeakShape
from hepllm.search.plane_toys import PlaneResult
from hepllm.search.records import EXCESS_P
from hepllm.search.spectra import BoxSpectra, ScoreCut

_NEAR = 0.2
"""Largest distance of simulated signals from a point, in the logarithm of the mass of X and Y."""

_NEAR_RESONANCE = 0.25
"""The same for the mass of the resonance, which efficiencies depend on little."""

_MIN_SIGNAL = 50
"""Simulated events that an efficiency needs."""


@dataclass(frozen=True, eq=False)
class PlaneSignals:
    """Simulated signal, for the efficiency of the cut at each point.

    Attributes:
        masses: (N, 3) true masses of Z', X and Y in GeV; NaN where they are not known.
        m_jj: (N,) in GeV.
        score: scores the events at some positions under a hypothesis.
        description: where the events come from.
    """

    masses: Floats
    m_jj: Floats
    score: Callable[[Hypothesis, Ints], Floats]
    description: str

    def efficiency(
        self, hypothesis: Hypothesis, cut: ScoreCut, mass: float, m_jj_range: tuple[float, float]
    ) -> SignalEfficiency | None:
        """The share of the signal near a point that passes its cut in the m_jj range.

        None where fewer than 50 events are near.
        """
        wanted = np.array([mass, *hypothesis.masses])
        jets = np.sort(self.masses[:, 1:], axis=1)[:, ::-1]
        distance = np.abs(np.log(np.column_stack([self.masses[:, 0], jets]) / wanted))
        near = (distance <= [_NEAR_RESONANCE, _NEAR, _NEAR]).all(axis=1)
        if near.sum() < _MIN_SIGNAL:
            return None
        places = np.flatnonzero(near)
        low, high = m_jj_range
        m_jj = self.m_jj[places]
        passes = (m_jj >= low) & (m_jj < high) & (self.score(hypothesis, places) > cut.threshold)
        found = efficiency(passes, np.ones(len(places)), 0.68)
        if found is None:
            return None
        return SignalEfficiency(
            value=found.value,
            low=found.interval[0],
            high=found.interval[1],
            n_events=float(len(places)),
            of=f"{self.description} near Z' {mass:.0f}, X {wanted[1]:.0f}, Y {wanted[2]:.0f} GeV",
        )


def mass_of_limits(result: PlaneResult, config: SearchConfig) -> float:
    """The mass of the resonance for the limits: as set, or that of the largest excess.

    It is moved inside the m_jj range, by two widths of the peak.
    """
    edges, best = result.spectra.edges, result.points[result.best].bump
    masses = limit_masses(edges, config.limit_step, PeakShape.shipped())
    window = edges[best.start], edges[best.start + best.width]
    wanted = config.plane.m_resonance or float(np.sqrt(window[0] * window[1]))
    return float(np.clip(wanted, masses[0], masses[-1]))


def plane_limits(
    result: PlaneResult, config: SearchConfig, seed: int, signals: PlaneSignals | None = None
) -> tuple[float, list[UpperLimit | None]]:
    """Computes the observed and expected 95 % CL limits of all points.

    Each uses the tightest selection of its point.

    Args:
        result: result of the scan.
        config: rules of the search.
        seed: seed of the pseudo-experiments.
        signals: simulated signal; without it limits are on the signal events after the cut.

    Returns:
        The mass of the resonance in GeV, and the limit of each point; None where the data allow
        none, or X and Y are too heavy for it.
    """
    mass = mass_of_limits(result, config)
    edges = result.spectra.edges
    m_jj_range = float(edges[0]), float(edges[-1])
    points = []
    for place, hypothesis in enumerate(result.spectra.hypotheses):
        found = None
        if signals is not None:
            cut = result.spectra.cuts[place][-1]
            found = signals.efficiency(hypothesis, cut, mass, m_jj_range)
        points.append(
            _Point(place, hypothesis, MassPoint(mass, None if found is None else [found]))
        )
    limits: dict[int, UpperLimit | None] = {}
    task = _PlaneLimits(result, config.limit_toys, seed)
    with (
        closing(
            run_tasks(task, points, kind="sooner", workers=config.workers, ordered=True)
        ) as done,
        progress_bar(len(points), "limits", "points") as progress,
    ):
        for point, limit in done:
            limits[point.place] = limit
            progress.update()
    return mass, [limits[place] for place in range(len(points))]


@dataclass(frozen=True, eq=False)
class _Point:
    place: int
    hypothesis: Hypothesis
    at: MassPoint

    def __str__(self) -> str:
        return f"limit of {self.hypothesis.text}"


@dataclass(frozen=True, eq=False)
class _PlaneLimits:
    """Computes the limit of a point; picklable."""

    result: PlaneResult
    n_toys: int
    seed: int

    def __call__(self, point: _Point) -> UpperLimit | None:
        heavy, light = point.hypothesis.masses
        if heavy + light > point.at.mass:
            return None
        result, place = self.result, point.place
        spectra, fits = result.spectra, result.fits
        best = result.points[result.best].bump
        excess = None
        if result.overall.value < EXCESS_P:
            edges = spectra.edges
            excess = float(np.sqrt(edges[best.start] * edges[best.start + best.width]))
        box = LimitsOfBox(
            selections=FittedSelections(
                spectra=BoxSpectra(
                    spectra.edges, spectra.rejected[place], spectra.selected[place, -1:]
                ),
                background=result.background,
                n_rejected=int(fits.rejected.n_parameters[place]),
                n_selected=[int(fits.selected[-1].n_parameters[place])],
                used=fits.rejected.used[place],
            ),
            efficiencies=[spectra.cuts[place][-1].efficiency],
            peak=peak_of((heavy, light)),
            excess=excess,
            luminosity=None,
            n_toys=self.n_toys,
            seed=self.seed + place,
        )
        try:
            return box.at(point.at)
        except RunError:
            return None
