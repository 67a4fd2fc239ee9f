"""A search from scores and masses to a submission, as the LHC Olympics asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from hepllm.arrays import Bools, Floats
from hepllm.config.evaluation import SearchConfig
from hepllm.errors import RunError
from hepllm.evaluation.efficiency import efficiency
from hepllm.search.box import BoxEvents, SearchResult, SelectionResult
from hepllm.search.caveats import warnings_of
from hepllm.search.hunt import search
from hepllm.search.limit_records import UpperLimits
from hepllm.search.limits import upper_limits
from hepllm.search.measurements import Measurement, SignalEfficiency
from hepllm.search.peak_tests import SpuriousSignal
from hepllm.search.rare import RareP
from hepllm.search.records import (
    BumpWindow,
    ExtrapolatedSignificance,
    FitQuality,
    JetMasses,
    LocalPeakFindings,
    SearchFindings,
    SelectionFindings,
    SelectionFitQuality,
    SelectionTruth,
    SpuriousSignalFindings,
    Truth,
)
from hepllm.search.region import MassRegion
from hepllm.search.response import shipped_response
from hepllm.search.signal_grid import SignalGrid
from hepllm.search.spectra import ScoreCut


@dataclass(frozen=True, eq=False)
class ReferenceSignal:
    """Simulated signal that the classifier was not trained on, for the efficiency of cuts.

    Arrays have shape (N,); m_jj is in GeV; ``description`` says where the events come from.
    """

    score: Floats
    m_jj: Floats
    weight: Floats
    description: str


@dataclass(frozen=True, eq=False)
class Key:
    """The key of a box: the true class of N events, with their score and m_jj in GeV."""

    is_signal: Bools
    score: Floats
    m_jj: Floats


def search_box(
    events: BoxEvents,
    settings: SearchConfig,
    seed: int,
    *,
    reference: ReferenceSignal | None = None,
    grid: SignalGrid | None = None,
    region: MassRegion | None = None,
) -> tuple[SearchResult, SearchFindings]:
    """Searches a box for a resonance, and computes upper limits.

    Args:
        events: events of the box.
        settings: rules, all fixed before anybody looks at the box.
        seed: seed of pseudo-experiments and replicas.
        reference: signal for efficiencies; without it, findings that need them are None.
        grid: signals of many masses, for the efficiencies of limits, and of the masses found.
        region: masses of the excesses that count; None for the whole range.

    Returns:
        The result, with the arrays that pictures need, and the findings for ``submission.json``.

    Raises:
        InputError: if a score is not finite, or the box has too few events in the m_jj range.
        RunError: if the background cannot be fitted.
    """
    result = search(events, settings, seed, region=region)
    limits, problems = None, []
    efficiencies = efficiencies_of(result, reference)
    try:
        limits = upper_limits(result, settings, seed, efficiencies=efficiencies, grid=grid)
    except RunError as error:
        problems.append(str(error))
    findings = findings_of(result, reference, limits, grid)
    warnings = [*findings.warnings, *problems]
    return result, findings.model_copy(update={"warnings": warnings})


def signal_efficiency(
    reference: ReferenceSignal, cut: ScoreCut, m_jj_range: tuple[float, float]
) -> SignalEfficiency | None:
    """Returns the efficiency of a cut for simulated signal, with its 68 % interval.

    Signed weights may move the estimate out of [0, 1]; it is then set to the nearer end.

    Returns:
        The efficiency; None where the weights do not sum to a positive number.
    """
    low, high = m_jj_range
    passes = (reference.m_jj >= low) & (reference.m_jj < high)
    passes &= reference.score > cut.threshold
    found = efficiency(passes, reference.weight, 0.68)
    if found is None:
        return None
    low, high = found.interval
    return SignalEfficiency(
        value=min(max(found.value, 0.0), 1.0),
        low=low,
        high=high,
        n_events=float(reference.weight.sum() ** 2 / np.square(reference.weight).sum()),
        of=reference.description,
    )


def corrected_number(
    n_signal: Measurement, efficiency: SignalEfficiency, simulation: float = 0.0
) -> Measurement | None:
    """Returns the signal events before the selection.

    The error of the efficiency and its relative difference to other simulations are systematic
    errors. None where the efficiency may be 0.
    """
    if efficiency.value <= 0 or efficiency.low <= 0:
        return None
    found = n_signal.scaled(1 / efficiency.value)
    error = (efficiency.high - efficiency.low) / 2 / efficiency.value
    return found.with_systematics(
        efficiency=abs(found.value) * error, simulation=abs(found.value) * simulation
    )


def efficiencies_of_found(result: SearchResult, grid: SignalGrid) -> list[SignalEfficiency] | None:
    """Returns the efficiency of each selection for the masses that were found.

    None where the jet masses are not known, or the grid does not reach the mass of the resonance.
    """
    light, heavy = (result.jet_masses[jet].peak for jet in ("light", "heavy"))
    mass = result.resonance.mass.value
    if light is None or heavy is None or not grid.covers(mass):
        return None
    masses = np.array([[mass, heavy.value, light.value]])
    return [grid.efficiency(one.cut, _range_of(result)).at(masses)[0] for one in result.selections]


def disagreement(result: SearchResult, efficiencies: Sequence[SignalEfficiency]) -> float:
    """Returns by how much selections differ on the number of signal events in the box.

    The loosest selection depends least on the simulation of the score. Its number minus that of
    the best selection, beyond the statistical error of the loosest, is what the simulated
    efficiency may be wrong by: it is large where simulated scores are not those of the box.
    """
    loosest, least = result.selections[0], efficiencies[0]
    chosen, efficiency = result.chosen, efficiencies[result.best]
    if min(least.value, efficiency.value) <= 0:
        return 0.0
    size, error = (one / least.value for one in loosest.n_peak)
    difference = size - chosen.n_peak[0] / efficiency.value
    return float(np.sqrt(max(difference**2 - error**2, 0.0)))


def efficiencies_of(
    result: SearchResult, reference: ReferenceSignal | None
) -> list[SignalEfficiency] | None:
    """Returns the efficiency of each selection for simulated signal; None if not known."""
    if reference is None:
        return None
    m_jj_range = _range_of(result)
    found = [signal_efficiency(reference, one.cut, m_jj_range) for one in result.selections]
    known = [one for one in found if one is not None]
    return known if len(known) == len(found) else None


def findings_of(
    result: SearchResult,
    reference: ReferenceSignal | None,
    limits: UpperLimits | None = None,
    grid: SignalGrid | None = None,
) -> SearchFindings:
    """Returns all findings of a search as a record; None leaves out what needs an argument."""
    overall, resonance, rare = result.toys.overall, result.resonance, result.toys.rare
    efficiencies = efficiencies_of(result, reference)
    if grid is not None and result.is_excess:
        efficiencies = efficiencies_of_found(result, grid) or efficiencies
    efficiency = None if efficiencies is None else efficiencies[result.best]
    number = None if efficiencies is None else _number_in_box(result, efficiencies)
    ratio = None
    if number is not None and number.value < result.n_events:
        ratio = number.value / (result.n_events - number.value)
    region = result.region
    return SearchFindings(
        mass=result.mass,
        n_events=result.n_events,
        m_jj_range_gev=_range_of(result),
        region_gev=None if region is None else (region.low, region.high),
        n_regions=1 if region is None else region.trials,
        n_in_range=result.n_in_range,
        p_value=overall.value,
        significance_global=overall.significance,
        n_toys=overall.n_toys,
        n_toys_exceeding=overall.n_exceeding,
        n_toys_failed=result.toys.n_failed,
        significance_global_extrapolated=None if rare is None else _extrapolated(rare),
        significance_local=result.chosen.local.significance,
        resonance_mass_gev=resonance.mass,
        resonance_relative_width=resonance.width,
        resonance_width_at_limit=resonance.width_at_limit,
        resonance_fit_valid=resonance.is_valid,
        jet_masses_gev=JetMasses(
            **{jet: one.peak for jet, one in result.jet_masses.items()},
            after_soft_drop=result.is_groomed,
        ),
        n_signal_selected=resonance.n_signal,
        n_signal_box=number,
        signal_over_background=ratio,
        signal_efficiency=efficiency,
        upper_limits=limits,
        best_selection=result.chosen.cut.efficiency,
        selections=[_selection(one, result) for one in result.selections],
        spectrum_before_cut=FitQuality(
            n_parameters=int(result.rejected.n_parameters[0]),
            goodness_p=result.toys.rejected_goodness.value,
        ),
        warnings=warnings_of(result),
    )


def truth_of(findings: SearchFindings, key: Key) -> Truth:
    """Returns the true content of a box, by its key and the cuts that a search has recorded."""
    low, high = findings.m_jj_range_gev
    inside = (key.m_jj >= low) & (key.m_jj < high)
    n_signal = int(key.is_signal.sum())
    n_background = max(len(key.is_signal) - n_signal, 1)
    masses = key.m_jj[key.is_signal & inside]
    selections = []
    for one in findings.selections:
        passes = inside & (key.score > one.score_threshold)
        n_passing = int((key.is_signal & passes).sum())
        selections.append(
            SelectionTruth(
                efficiency=one.efficiency,
                n_signal=n_passing,
                eps_s=n_passing / n_signal if n_signal else None,
                eps_b=float((~key.is_signal & passes).sum() / n_background),
            )
        )
    return Truth(
        n_signal_box=n_signal,
        n_signal_in_range=len(masses),
        signal_over_background=n_signal / n_background,
        median_m_jj_of_signal_gev=float(np.median(masses)) if len(masses) else None,
        selections=selections,
    )


def _range_of(result: SearchResult) -> tuple[float, float]:
    edges = result.spectra.edges
    return float(edges[0]), float(edges[-1])


def _number_in_box(
    result: SearchResult, efficiencies: Sequence[SignalEfficiency]
) -> Measurement | None:
    """Returns the signal events in the whole box, with the efficiencies of simulated signal.

    None without an excess, where the fit describes a fluctuation and no signal, and where the fit
    finds no peak.
    """
    n_signal = result.resonance.n_signal
    if not result.is_excess or n_signal.value <= 0:
        return None
    simulation = shipped_response().efficiency_difference
    number = corrected_number(n_signal, efficiencies[result.best], simulation)
    if number is None:
        return None
    return number.with_systematics(selections=disagreement(result, efficiencies))


def _extrapolated(rare: RareP) -> ExtrapolatedSignificance:
    low, high = rare.interval
    value, least, most = (float(norm.isf(p)) for p in (rare.value, high, low))
    return ExtrapolatedSignificance(
        value=value,
        low=least,
        high=most,
        p_value=rare.value,
        n_toys=rare.n_toys,
        n_toys_exceeding=rare.n_exceeding,
    )


def _spurious(found: SpuriousSignal, mass: float) -> SpuriousSignalFindings:
    place = int(np.abs(found.n_signal / found.error).argmax())
    return SpuriousSignalFindings(
        mass_gev=float(found.mass[place]),
        n_signal=float(found.n_signal[place]),
        noise=float(found.noise[place]),
        over_error=float(found.n_signal[place] / found.error[place]),
        over_error_beyond_noise=float(found.beyond_noise.max()),
        n_signal_at_resonance=found.systematic_at(mass),
    )


def _selection(one: SelectionResult, result: SearchResult) -> SelectionFindings:
    bump, outside, edges = one.bump, one.goodness_outside, result.spectra.edges
    return SelectionFindings(
        efficiency=one.cut.efficiency,
        score_threshold=one.cut.threshold,
        n_selected=one.cut.n_selected,
        bump=BumpWindow(
            m_jj_gev=(float(edges[bump.start]), float(edges[bump.start + bump.width])),
            n_observed=bump.n_observed,
            n_expected=bump.n_expected,
            local_p=bump.local_p,
        ),
        p_value=one.p_value.value,
        significance_global=one.p_value.significance,
        n_toys=one.p_value.n_toys,
        n_toys_exceeding=one.p_value.n_exceeding,
        fit=SelectionFitQuality(
            n_parameters=one.n_parameters,
            goodness_p=one.goodness.value,
            goodness_p_without_resonance=None if outside is None else outside.value,
        ),
        shape_after_against_before=one.shape,
        shape_without_resonance=one.shape_outside,
        local_peak=LocalPeakFindings(
            mass_gev=one.local.mass,
            n_signal=one.local.n_signal,
            significance_local=one.local.significance,
            p_value_local=one.local.p_value,
        ),
        spurious_signal=_spurious(one.spurious, result.resonance.mass.value),
    )
