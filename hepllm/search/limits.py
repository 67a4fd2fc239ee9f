"""Upper limits on the signal of a box, over the whole mass range."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats
from hepllm.config.evaluation import SearchConfig
from hepllm.executor import run_tasks
from hepllm.logs import progress_bar
from hepllm.search.box import SearchResult
from hepllm.search.cls import CONFIDENCE, LimitValues
from hepllm.search.limit_model import FittedSelections, near_bins, peak_of, shape_variations
from hepllm.search.limit_records import LeastEfficient, Limit, UpperLimit, UpperLimits
from hepllm.search.measurements import SignalEfficiency
from hepllm.search.peak_shape import PeakShape
from hepllm.search.signal_grid import EfficiencyByMass, SignalGrid, factors_of, masses_at

METHOD = "CLs, profile likelihood ratio, pseudo-experiments"

_MARGIN = 2.0
"""Smallest distance of a mass from the ends of the m_jj range, in widths of the peak."""

_SAME = 1.5
"""Distance from an excess below which a limit is one on this excess, in widths of the peak."""

_LEAST_EFFICIENCY = 1e-6


@dataclass(frozen=True, eq=False)
class GridKnowledge:
    """What a signal grid tells about a mass besides the efficiencies.

    Attributes:
        trigger: share of the signal that triggers.
        least: by selection, the smallest efficiency of any jets, and their masses.
    """

    trigger: SignalEfficiency
    least: Sequence[tuple[SignalEfficiency, tuple[float, float]]]


@dataclass(frozen=True, eq=False)
class MassPoint:
    """A mass at which a limit is computed, and what simulation says about a signal there.

    Attributes:
        mass: mass of the resonance in GeV.
        efficiencies: by selection, the loosest first; None where they are not known.
        known: what only a signal grid tells; None without one.
    """

    mass: float
    efficiencies: Sequence[SignalEfficiency] | None
    known: GridKnowledge | None = None

    def __str__(self) -> str:
        return f"limit at {self.mass:.0f} GeV"


def upper_limits(
    result: SearchResult,
    config: SearchConfig,
    seed: int,
    *,
    efficiencies: Sequence[SignalEfficiency] | None = None,
    grid: SignalGrid | None = None,
) -> UpperLimits:
    """Computes observed and expected 95 % CL limits in steps of the mass.

    At each mass one selection is used: the one with the smallest expected limit on the signal
    in the box, from a background that is fitted without the events near this mass, so that they do
    not decide about it; without efficiencies the loosest.

    Args:
        result: result of the search.
        config: rules of the search.
        seed: seed of the pseudo-experiments.
        efficiencies: efficiency of each selection for one signal, used where there is no grid.
        grid: simulated signals of many masses, for the efficiency as a function of the mass.

    Raises:
        RunError: if the data allow no limit.
    """
    peak = PeakShape.shipped() if grid is None else peak_of(config.limit_jets)
    points = _mass_points(result, config, peak, efficiencies, grid)
    box = LimitsOfBox(
        selections=FittedSelections.of(result),
        efficiencies=[one.cut.efficiency for one in result.selections],
        peak=peak,
        excess=result.resonance.mass.value if result.is_excess else None,
        luminosity=config.luminosity,
        n_toys=config.limit_toys,
        seed=seed,
    )
    by_mass = []
    with (
        closing(
            run_tasks(box.at, points, kind="sooner", workers=config.workers, ordered=True)
        ) as done,
        progress_bar(len(points), "limits", "masses") as progress,
    ):
        for _, limit in done:
            by_mass.append(limit)
            progress.update()
    of = efficiencies[0].of if efficiencies else None
    if grid is not None:
        heavy, light = max(config.limit_jets), min(config.limit_jets)
        of = f"{grid.description}, X {heavy:g} GeV, Y {light:g} GeV"
    return UpperLimits(
        confidence=CONFIDENCE,
        method=METHOD,
        n_toys=config.limit_toys,
        efficiency_of=of,
        efficiency_by_mass=grid is not None,
        luminosity_ifb=config.luminosity,
        by_mass=by_mass,
    )


def limit_masses(edges: Floats, step: float, peak: PeakShape) -> list[float]:
    """Masses of a curve of limits in GeV, in equal steps of the logarithm.

    The first and the last are two widths of the peak inside the m_jj range.

    Args:
        edges: (B + 1,) in GeV.
        step: largest step over the mass.
        peak: shape of the signal.
    """
    low, high = float(edges[0]), float(edges[-1])
    least = low / (1 - _MARGIN * peak.resolution(low))
    most = high / (1 + _MARGIN * peak.resolution(high))
    n_steps = max(1, int(np.ceil(np.log(most / least) / step)))
    return [float(mass) for mass in np.geomspace(least, most, n_steps + 1)]


def _mass_points(
    result: SearchResult,
    config: SearchConfig,
    peak: PeakShape,
    efficiencies: Sequence[SignalEfficiency] | None,
    grid: SignalGrid | None,
) -> list[MassPoint]:
    edges = result.spectra.edges
    masses = limit_masses(edges, config.limit_step, peak)
    if result.region is not None:
        low, high = result.region.low, result.region.high
        steps = max(1, int(np.ceil(np.log(high / low) / config.limit_step)))
        masses = [float(mass) for mass in np.geomspace(low, high, steps + 1)]
    if grid is None:
        return [MassPoint(mass, efficiencies) for mass in masses]
    inside = [mass for mass in masses if grid.covers(mass)]
    m_jj_range = float(edges[0]), float(edges[-1])
    fitted = [grid.efficiency(one.cut, m_jj_range) for one in result.selections]
    wanted = masses_at(inside, config.limit_jets)
    by_selection = [one.at(wanted) for one in fitted]
    trigger = grid.trigger_efficiency().at(wanted)
    found = {
        mass: MassPoint(
            mass,
            [one[place] for one in by_selection],
            GridKnowledge(trigger[place], [_least(one, grid, mass) for one in fitted]),
        )
        for place, mass in enumerate(inside)
    }
    return [found.get(mass, MassPoint(mass, None)) for mass in masses]


def _least(
    fitted: EfficiencyByMass, grid: SignalGrid, mass: float
) -> tuple[SignalEfficiency, tuple[float, float]]:
    """The smallest efficiency at a mass, and the masses of the jets, among those of the grid."""
    pairs = grid.pairs_at(mass)
    values = fitted.at(np.column_stack([np.full(len(pairs), mass), pairs]))
    lowest = int(np.argmin([one.value for one in values]))
    return values[lowest], (float(pairs[lowest, 0]), float(pairs[lowest, 1]))


@dataclass(frozen=True, eq=False)
class LimitsOfBox:
    """All that the limits of a box have in common."""

    selections: FittedSelections
    efficiencies: Sequence[float]
    peak: PeakShape
    excess: float | None
    luminosity: float | None
    n_toys: int
    seed: int

    def at(self, point: MassPoint) -> UpperLimit:
        """Computes the limits at one mass."""
        edges, known = self.selections.spectra.edges, point.efficiencies
        _, variations = shape_variations(self.peak, edges, point.mass)
        other = self._other(point.mass)
        chosen, efficiency = 0, None
        if known is not None:
            near = near_bins(edges, point.mass, self.peak)
            if other is not None and self.excess is not None:
                near |= near_bins(edges, self.excess, self.peak)
            chosen = self.selections.choose(variations, near, known)
            efficiency = known[chosen] if known[chosen].value > 0 else None
        test = self.selections.test(chosen, variations, factors_of(efficiency), other)
        random = np.random.default_rng([self.seed, 34, round(point.mass)])
        selected, scaled = test.limits(random, self.n_toys)
        found = UpperLimit(
            mass_gev=point.mass,
            selection=self.efficiencies[chosen],
            selected=_limit(selected, 1.0),
            signal_efficiency=efficiency,
            box=None,
        )
        if efficiency is None:
            return found
        changes = {"box": _limit(scaled, 1 / efficiency.value)}
        return found.model_copy(update=changes | self._of_grid(point, chosen, scaled))

    def _other(self, mass: float) -> Floats | None:
        """The shape of the excess of the box, shape (B,), if it is not at this mass."""
        if self.excess is None:
            return None
        if abs(np.log(mass / self.excess)) < _SAME * self.peak.resolution(mass):
            return None
        shares = self.peak.shares(self.selections.spectra.edges, self.excess)
        return np.asarray(shares / shares.sum())

    def _of_grid(self, point: MassPoint, chosen: int, scaled: LimitValues) -> dict[str, object]:
        """Fields of the record that need a signal grid."""
        if point.known is None or point.efficiencies is None:
            return {}
        lowest, jets = point.known.least[chosen]
        least = LeastEfficient(
            m_jets_gev=jets,
            efficiency=lowest.value,
            observed=scaled.observed / max(lowest.low, _LEAST_EFFICIENCY),
        )
        trigger, cross_section = point.known.trigger.value, None
        if self.luminosity is not None:
            per_fb = self.luminosity * trigger * point.efficiencies[chosen].value
            cross_section = _limit(scaled, 1 / per_fb)
        return {
            "least_efficient": least,
            "trigger_efficiency": trigger,
            "cross_section_fb": cross_section,
        }


def _limit(values: LimitValues, factor: float) -> Limit:
    low_95, low_68, median, high_68, high_95 = (factor * one for one in values.expected)
    return Limit(
        observed=factor * values.observed,
        expected=median,
        expected_68=(low_68, high_68),
        expected_95=(low_95, high_95),
    )
