"""What a search reports: a JSON tree as the LHC Olympics asked for, and a table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hepllm.arrays import Bools, Floats
from hepllm.evaluation import cascade
from hepllm.search.caveats import warnings_of
from hepllm.search.hunt import SearchResult, SelectionResult
from hepllm.search.jet_masses import JetMass
from hepllm.search.limits import UpperLimit, limit_lines, limits_tree
from hepllm.search.resonance import Measurement
from hepllm.search.spectra import ScoreCut, ShapeDistance
from hepllm.search.toys import PValue


@dataclass(frozen=True, eq=False)
class ReferenceSignal:
    """Simulated signal that the classifier was not trained on, to count what a cut loses.

    Attributes:
        score: (N,).
        m_jj: (N,) in GeV.
        weight: (N,).
        description: where it comes from.
    """

    score: Floats
    m_jj: Floats
    weight: Floats
    description: str


@dataclass(frozen=True)
class Efficiency:
    """The share of signal in the m_jj range and above a threshold.

    Attributes:
        value: best estimate, from 0 to 1.
        low: lower end of the 68 % interval (Clopper and Pearson).
        high: upper end.
        n_events: effective number of events behind it.
    """

    value: float
    low: float
    high: float
    n_events: float


@dataclass(frozen=True, eq=False)
class Truth:
    """What a key says about N events.

    Attributes:
        is_signal: (N,).
        score: (N,).
        m_jj: (N,) in GeV.
    """

    is_signal: Bools
    score: Floats
    m_jj: Floats


def signal_efficiency(
    reference: ReferenceSignal, cut: ScoreCut, m_jj_range: tuple[float, float]
) -> Efficiency | None:
    """The efficiency of a cut for simulated signal, with its 68 % interval.

    Signed weights may take the estimate out of [0, 1]; it is put back to the nearer end.

    Returns:
        None where the weights do not sum to a positive number.
    """
    low, high = m_jj_range
    passes = (reference.m_jj >= low) & (reference.m_jj < high)
    passes &= reference.score > cut.threshold
    found = cascade.efficiency(passes, reference.weight, 0.68)
    if found is None:
        return None
    n_events = float(reference.weight.sum() ** 2 / np.square(reference.weight).sum())
    return Efficiency(min(max(found.value, 0.0), 1.0), found.low, found.high, n_events)


def corrected_number(n_signal: Measurement, efficiency: Efficiency) -> Measurement | None:
    """Signal events before the selection; errors of both in quadrature."""
    if efficiency.value <= 0 or efficiency.low <= 0:
        return None
    value = n_signal.value / efficiency.value
    below = np.hypot(n_signal.below, n_signal.value * (1 - efficiency.value / efficiency.high))
    above = np.hypot(n_signal.above, n_signal.value * (efficiency.value / efficiency.low - 1))
    method = f"{n_signal.method}, efficiency"
    return Measurement(
        value, float(below / efficiency.value), float(above / efficiency.value), method
    )


def efficiencies_of(
    result: SearchResult, reference: ReferenceSignal | None
) -> list[Efficiency] | None:
    """The efficiency of each selection for simulated signal; None if they are not known."""
    if reference is None:
        return None
    edges = result.spectra.edges
    m_jj_range = float(edges[0]), float(edges[-1])
    found = [signal_efficiency(reference, one.cut, m_jj_range) for one in result.selections]
    known = [one for one in found if one is not None]
    return known if len(known) == len(found) else None


def submission_tree(
    result: SearchResult,
    reference: ReferenceSignal | None,
    truth: Truth | None,
    limits: Sequence[UpperLimit] | None = None,
) -> dict[str, Any]:
    """Everything a search found, for ``submission.json``.

    Args:
        result: of the search.
        reference: signal for efficiencies; None leaves out what needs them.
        truth: of a key; None leaves it out.
        limits: on the signal, where nothing was found; None leaves them out.
    """
    efficiencies = efficiencies_of(result, reference)
    edges = result.spectra.edges
    tree: dict[str, Any] = {
        "n_events": result.n_events,
        "m_jj_range_gev": [float(edges[0]), float(edges[-1])],
        "n_in_range": result.n_in_range,
        "p_value": result.toys.overall.value,
        **_of_p_value(result.toys.overall, "global"),
        "n_toys_failed": result.toys.n_failed,
        "resonance_mass_gev": asdict(result.resonance.mass),
        "resonance_relative_width": asdict(result.resonance.width),
        "resonance_width_at_limit": result.resonance.width_at_limit,
        "resonance_fit_valid": result.resonance.is_valid,
        "jet_masses_gev": {
            jet: None if found.peak is None else asdict(found.peak)
            for jet, found in result.jet_masses.items()
        },
        "n_signal_selected": asdict(result.resonance.n_signal),
        **_whole_box(result, reference, efficiencies),
        "upper_limits": None if limits is None else limits_tree(limits, result, efficiencies),
        "best_selection": result.chosen.cut.efficiency,
        "selections": [_selection(one, edges) for one in result.selections],
        "spectrum_before_cut": {
            "n_parameters": int(result.rejected.n_parameters[0]),
            "goodness_p": result.toys.rejected_goodness.value,
        },
        "warnings": warnings_of(result),
    }
    if truth is not None:
        tree["truth"] = _truth(result, truth)
    return tree


def _of_p_value(p_value: PValue, name: str) -> dict[str, Any]:
    return {
        f"significance_{name}": p_value.significance,
        "n_toys": p_value.n_toys,
        "n_toys_exceeding": p_value.n_exceeding,
    }


def _whole_box(
    result: SearchResult,
    reference: ReferenceSignal | None,
    efficiencies: Sequence[Efficiency] | None,
) -> dict[str, Any]:
    """Signal in the whole box, if it is like the simulated one; all of it passed the trigger.

    Without an excess there is no number of signal events: that of the largest fluctuation says
    nothing about a signal. Nor is there one where the fit finds no peak.
    """
    if reference is None or efficiencies is None:
        return {"n_signal_box": None, "signal_over_background": None, "signal_efficiency": None}
    efficiency = efficiencies[result.best]
    number = None
    if result.is_excess and result.resonance.n_signal.value > 0:
        number = corrected_number(result.resonance.n_signal, efficiency)
    ratio = None
    if number is not None and number.value < result.n_events:
        ratio = number.value / (result.n_events - number.value)
    return {
        "n_signal_box": None if number is None else asdict(number),
        "signal_over_background": ratio,
        "signal_efficiency": asdict(efficiency) | {"of": reference.description},
    }


def _selection(one: SelectionResult, edges: Floats) -> dict[str, Any]:
    bump = one.bump
    return {
        "efficiency": one.cut.efficiency,
        "score_threshold": one.cut.threshold,
        "n_selected": one.cut.n_selected,
        "bump": {
            "m_jj_gev": [float(edges[bump.start]), float(edges[bump.start + bump.width])],
            "n_observed": bump.n_observed,
            "n_expected": bump.n_expected,
            "local_p": bump.local_p,
        },
        "p_value": one.p_value.value,
        **_of_p_value(one.p_value, "global"),
        "fit": {
            "n_parameters": one.n_parameters,
            "goodness_p": one.goodness.value,
            "goodness_p_without_resonance": (
                None if one.goodness_outside is None else one.goodness_outside.value
            ),
        },
        "shape_after_against_before": _distance(one.shape),
        "shape_without_resonance": _distance(one.shape_outside),
    }


def _distance(distance: ShapeDistance | None) -> dict[str, float] | None:
    return None if distance is None else asdict(distance)


def _truth(result: SearchResult, truth: Truth) -> dict[str, Any]:
    edges = result.spectra.edges
    inside = (truth.m_jj >= edges[0]) & (truth.m_jj < edges[-1])
    n_signal = int(truth.is_signal.sum())
    selections = []
    for one in result.selections:
        passes = inside & (truth.score > one.cut.threshold)
        n_passing = int((truth.is_signal & passes).sum())
        selections.append(
            {
                "efficiency": one.cut.efficiency,
                "n_signal": n_passing,
                "eps_s": n_passing / n_signal if n_signal else None,
                "eps_b": float(
                    (~truth.is_signal & passes).sum() / max((~truth.is_signal).sum(), 1)
                ),
            }
        )
    masses = truth.m_jj[truth.is_signal & inside]
    return {
        "n_signal_box": n_signal,
        "n_signal_in_range": len(masses),
        "signal_over_background": n_signal / max(len(truth.is_signal) - n_signal, 1),
        "median_m_jj_of_signal_gev": float(np.median(masses)) if len(masses) else None,
        "selections": selections,
    }


def format_submission(name: str, result: SearchResult, tree: dict[str, Any]) -> str:
    """The same for a person.

    Args:
        name: of the box.
        result: of the search.
        tree: made by ``submission_tree``.
    """
    low, high = tree["m_jj_range_gev"]
    overall = result.toys.overall
    what = f"{result.n_in_range} of {result.n_events} events, {low:.0f} < m_jj < {high:.0f} GeV"
    titles = ("kept", "events", "window [GeV]", "seen", "fit", "local p", "global p", "fit p")
    head = "".join(f"{title:>{width}s}" for title, width in zip(titles, _COLUMNS, strict=True))
    bound = ("p <=", "at least ") if overall.n_exceeding == 0 else ("p =", "")
    sigma = overall.significance
    in_sigma = "" if sigma is None else f" ({bound[1]}{sigma:.1f} sigma)"
    verdict = (
        f"  {bound[0]} {overall.value:.3g}{in_sigma} for any window of any selection: "
        f"{overall.n_exceeding} of {overall.n_toys} pseudo-experiments are as extreme"
    )
    lines = [
        f"{name}: search among {what}",
        f"  {head}{'KS p':>9s}{'(without peak)':>15s}",
        *(_row(one, result.spectra.edges) for one in result.selections),
    ]
    lines += _wrapped([verdict, *_findings(result, tree)])
    lines += limit_lines(tree["upper_limits"])
    lines += _wrapped(_truth_lines(tree))
    lines += _wrapped([f"  warning: {text}" for text in tree["warnings"]])
    return "\n".join(lines)


def _wrapped(texts: Sequence[str]) -> list[str]:
    return [textwrap.fill(text, 118, subsequent_indent="    ") for text in texts]


_COLUMNS = (6, 8, 14, 6, 8, 10, 10, 7)


def _row(one: SelectionResult, edges: Floats) -> str:
    bump = one.bump
    window = f"{edges[bump.start]:.0f}-{edges[bump.start + bump.width]:.0f}"
    shapes = [
        "-" if shape is None else f"{shape.ks_p:.2g}" for shape in (one.shape, one.shape_outside)
    ]
    return (
        f"  {one.cut.efficiency:6g}{one.cut.n_selected:8d}{window:>14s}"
        f"{bump.n_observed:6d}{bump.n_expected:8.1f}{bump.local_p:10.2g}{one.p_value.value:10.2g}"
        f"{one.goodness.value:7.2f}{shapes[0]:>9s}{shapes[1]:>15s}"
    )


def _findings(result: SearchResult, tree: dict[str, Any]) -> list[str]:
    what = "excess" if result.is_excess else "largest fluctuation, no excess"
    resonance, jets = result.resonance, result.jet_masses
    after = f"after the cut at {result.chosen.cut.efficiency:g}"
    masses = f"light {_mass(jets['light'])}, heavy {_mass(jets['heavy'])}"
    lines = [
        f"  {what}: mass {resonance.mass} GeV, {resonance.n_signal} events {after}",
        f"  jet masses: {masses}",
    ]
    number, efficiency = tree["n_signal_box"], tree["signal_efficiency"]
    if number is not None:
        lines.append(
            f"  whole box: {Measurement(**number)} signal events, S/B "
            f"{tree['signal_over_background'] or float('nan'):.2g}, if the efficiency is that of "
            f"{efficiency['of']}: {efficiency['value']:.3f} "
            f"[{efficiency['low']:.3f}, {efficiency['high']:.3f}]"
        )
    return lines


def _mass(found: JetMass) -> str:
    return "too few events" if found.peak is None else f"{found.peak} GeV"


def _truth_lines(tree: dict[str, Any]) -> list[str]:
    truth = tree.get("truth")
    if truth is None:
        return []
    kept = ", ".join(f"{one['n_signal']} at {one['efficiency']:g}" for one in truth["selections"])
    median = truth["median_m_jj_of_signal_gev"]
    where = "" if median is None else f", median m_jj {median:.0f} GeV"
    box = f"{truth['n_signal_box']} signal events (S/B {truth['signal_over_background']:.2g})"
    return [f"  key: {box}{where}; after the cuts {kept}"]
