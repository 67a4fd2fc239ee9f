"""The part of a report about the search for a resonance in a black box."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from hepllm.provenance import shown_date
from hepllm.report.cells import count_cell
from hepllm.report.conclusions import p_text
from hepllm.report.page import Cell, Chapter, Group, Listing, Picture, Row, Table
from hepllm.search.limit_records import Limit, UpperLimit, UpperLimits
from hepllm.search.measurements import Measurement, SignalEfficiency
from hepllm.search.records import (
    ExtrapolatedSignificance,
    LocalPeakFindings,
    NoSearch,
    SearchFindings,
    SelectionFindings,
    SpuriousSignalFindings,
    Submission,
    Unblinding,
)

PICTURES: Mapping[str, tuple[str, str]] = {
    "search.png": (
        "Spectrum of the mass after the cut on the score, with the background fit and pulls",
        "Mass after the cut, with the background fit.",
    ),
    "search_scan.png": (
        "Local p-value of a peak as a function of its mass, for each selection",
        "Local p-value by mass, for each selection; without the trials in mass.",
    ),
    "search_jets.png": (
        "Masses of the lighter and the heavier jet in the window of the largest excess",
        "Jet masses in the window, with the side-bands scaled to it.",
    ),
    "search_limits.png": (
        "Observed and expected upper limits on the signal as a function of the mass",
        "Upper limits by mass: observed, and expected without signal with bands of 68 and 95 %.",
    ),
}
"""Alternative text and caption of each picture of a search."""

_SELECTION_HEADS = (
    "kept",
    "events",
    "window [GeV]",
    "seen",
    "expected",
    "local p",
    "global p",
    "fit p",
    "KS p",
    "KS p without peak",
)
_PEAK_HEADS = (
    "kept",
    "mass [GeV]",
    "events",
    "sigma",
    "local p",
    "spurious at [GeV]",
    "spurious events",
    "over error",
)
_LIMIT_HEADS = ("mass [GeV]", "kept", "after the cut", "expected", "in the box", "expected")
_CROSS_SECTION_HEADS = ("cross section", "expected")


def search_chapter(
    found: SearchFindings | NoSearch,
    name: str,
    pictures: Sequence[Picture] = (),
    unblinding: Unblinding | None = None,
) -> Chapter:
    """Presents the findings of a search in the box ``name``, or why there was none.

    Args:
        found: findings, or the reason.
        name: name of the box.
        pictures: pictures of the search.
        unblinding: what the key of the box says; None where it was not read.
    """
    title = f"Search for a resonance in {name}"
    asked = found.hypothesis if isinstance(found, Submission) else None
    if isinstance(found, NoSearch):
        return Chapter(title, texts=[f"No search: {found.problem}."])
    return Chapter(
        title,
        texts=[_verdict(found), *(f"Warning: {text}." for text in found.warnings)],
        facts=[
            *([] if asked is None else [("scored under the hypothesis", asked)]),
            *_findings(found),
            *_key(found, unblinding),
        ],
        tables=[
            _selection_table(found.selections),
            *_peak_tables(found.selections),
            *_limit_tables(found.upper_limits),
        ],
        pictures=pictures,
        listings=[Listing("The submission, as JSON", json.dumps(found.tree(), indent=1))],
    )


def origin_facts(found: Submission) -> list[tuple[str, str]]:
    """Says where the scores come from, and which events and masses count."""
    facts = []
    if found.run is not None:
        facts.append(("scores", f"by the run {found.run}"))
    if found.scores is not None:
        files = ", ".join(one.file for one in found.scores.files) or "arrays"
        facts.append(("scores", f"column '{found.scores.score}' of {files}"))
        if found.scores.jet_masses:
            facts.append(("jet masses", ", ".join(found.scores.jet_masses)))
    if found.weak is not None:
        facts.append(("scores", f"by classifiers of the box itself, against: {found.weak}"))
    if found.region_gev is not None:
        low, high = found.region_gev
        facts.append(
            ("excesses count", f"from {low:.0f} to {high:.0f} GeV, 1 of {found.n_regions} regions")
        )
    if found.select is not None:
        facts.append(("only events with", found.select))
    return facts


def _verdict(found: SearchFindings) -> str:
    low, high = found.m_jj_range_gev
    return (
        f"{p_text(found)} for any window of any selection: "
        f"{found.n_toys_exceeding} of {found.n_toys} pseudo-experiments are as extreme. "
        f"{_extrapolated(found.significance_global_extrapolated)}"
        f"{found.n_in_range} of {found.n_events} events have "
        f"{low:.0f} < {found.mass} < {high:.0f} GeV."
    )


def _extrapolated(found: ExtrapolatedSignificance | None) -> str:
    if found is None:
        return ""
    return (
        f"Extrapolated with weighted pseudo-experiments: {found.value:.2f} sigma "
        f"[{found.low:.2f}, {found.high:.2f}], p = {found.p_value:.2g}. "
    )


def _findings(found: SearchFindings) -> list[tuple[str, str]]:
    what = "excess" if found.is_excess else "largest fluctuation, no excess"
    jets, cut = found.jet_masses_gev, f"{found.best_selection:g}"
    scores = found.scores if isinstance(found, Submission) else None
    missing = "too few events" if scores is None or scores.jet_masses else "not given"
    groomed = " after soft drop" if jets.after_soft_drop else ""
    facts = [
        (f"{what}: mass [GeV]", _measured(found.resonance_mass_gev)),
        (f"light jet mass{groomed} [GeV]", _measured(jets.light, missing)),
        (f"heavy jet mass{groomed} [GeV]", _measured(jets.heavy, missing)),
        (f"signal events after the cut at {cut}", _measured(found.n_signal_selected)),
    ]
    best = next(one for one in found.selections if one.efficiency == found.best_selection)
    if best.local_peak is not None:
        peak = best.local_peak
        text = f"{peak.significance_local:.1f} sigma at {peak.mass_gev:.0f} GeV"
        facts.append((f"local significance of the peak after the cut at {cut}", text))
    if found.n_signal_box is not None:
        ratio = found.signal_over_background
        in_ratio = "" if ratio is None else f", S/B {ratio:.2g}"
        facts.append(("signal events in the box", f"{_measured(found.n_signal_box)}{in_ratio}"))
    if found.signal_efficiency is not None:
        facts.append(("with the efficiency", _efficiency(found.signal_efficiency)))
    return facts


def _efficiency(found: SignalEfficiency) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}], that of {found.of}"


def _measured(found: Measurement | None, reason: str = "not known") -> str:
    """Formats a number with its 68 % interval."""
    return reason if found is None else f"{found} ({found.method})"


def _key(found: SearchFindings, unblinding: Unblinding | None) -> list[tuple[str, str]]:
    if unblinding is None:
        return []
    truth = unblinding.truth
    kept = ", ".join(f"{one.n_signal} at {one.efficiency:g}" for one in truth.selections)
    number = f"{truth.n_signal_box} (S/B {truth.signal_over_background:.2g})"
    facts = [("key: signal events", f"{number}; after the cuts {kept}")]
    if truth.median_m_jj_of_signal_gev is not None:
        facts.append((f"key: median {found.mass} [GeV]", f"{truth.median_m_jj_of_signal_gev:.0f}"))
    dates = unblinding.labels_read, unblinding.submission_written
    read, written = (shown_date(date) for date in dates)
    facts.append(("key: read", f"{read}, after the submission was written ({written})"))
    return facts


def _selection_table(selections: Sequence[SelectionFindings]) -> Table:
    note = (
        "Intervals of 68 %. Global p: for any window, with a new fit of the background. KS p: for "
        "equal spectra before and after the cut, with all events and without the peak."
    )
    return Table(
        caption="Selections, fixed in advance by the share of the events that they keep",
        heads=_SELECTION_HEADS,
        groups=[Group("", [_selection_row(one) for one in selections])],
        notes=[note],
    )


def _selection_row(one: SelectionFindings) -> Row:
    low, high = one.bump.m_jj_gev
    shapes = (one.shape_after_against_before, one.shape_without_resonance)
    ks_p = [None if shape is None else shape.ks_p for shape in shapes]
    return Row(
        f"{one.efficiency:g}",
        [
            count_cell(one.n_selected),
            Cell(f"{low:.0f}-{high:.0f}"),
            count_cell(one.bump.n_observed),
            _number(one.bump.n_expected, ".1f"),
            _number(one.bump.local_p, ".2g"),
            _number(one.p_value, ".2g"),
            _number(one.fit.goodness_p, ".2g"),
            *(_number(value, ".2g", "too few events for a shape") for value in ks_p),
        ],
    )


def _peak_tables(selections: Sequence[SelectionFindings]) -> list[Table]:
    """The table of local significances and spurious signals; none for files of former versions."""
    rows = [
        _peak_row(one.efficiency, one.local_peak, one.spurious_signal)
        for one in selections
        if one.local_peak is not None and one.spurious_signal is not None
    ]
    if not rows:
        return []
    note = (
        "Sigma: root of the profile likelihood ratio at this mass, with all parameters of the "
        "background free; no trials. Spurious: the largest signal that the misfit of the "
        "background makes, with its noise, and over the error of a signal."
    )
    return [
        Table(
            caption="Peaks, and spurious signals",
            heads=_PEAK_HEADS,
            groups=[Group("", rows)],
            notes=[note],
        )
    ]


def _peak_row(efficiency: float, peak: LocalPeakFindings, spurious: SpuriousSignalFindings) -> Row:
    return Row(
        f"{efficiency:g}",
        [
            _number(peak.mass_gev, ".0f"),
            _number(peak.n_signal, ".1f"),
            _number(peak.significance_local, ".1f"),
            _number(peak.p_value_local, ".2g"),
            _number(spurious.mass_gev, ".0f"),
            Cell(f"{spurious.n_signal:.1f} +- {spurious.noise:.1f}", spurious.n_signal),
            _number(spurious.over_error, ".2f"),
        ],
    )


def _number(value: float | None, form: str, reason: str = "") -> Cell:
    return Cell(reason=reason) if value is None else Cell(format(value, form), value)


def _limit_tables(limits: UpperLimits | None) -> list[Table]:
    if limits is None:
        return []
    notes = [f"{limits.method}. Expected: median and 68 % of spectra without signal."]
    if limits.efficiency_of is not None:
        which = "at each mass" if limits.efficiency_by_mass else "of this signal at every mass"
        notes.append(f"In the box: with the efficiency {which}, {limits.efficiency_of}.")
    with_cross_section = any(one.cross_section_fb is not None for one in limits.by_mass)
    heads = (*_LIMIT_HEADS, *(_CROSS_SECTION_HEADS if with_cross_section else ()))
    if with_cross_section:
        notes.append(
            "Cross section times branching fraction in fb, with the stated luminosity of "
            f"{limits.luminosity_ifb:g}/fb."
        )
    return [
        Table(
            caption=f"Upper limits on signal events, {limits.confidence:.0%} CL",
            heads=heads,
            groups=[Group("", [_limit_row(one, with_cross_section) for one in limits.by_mass])],
            notes=notes,
        )
    ]


def _limit_row(one: UpperLimit, with_cross_section: bool) -> Row:
    shown = [one.selected, one.box, *([one.cross_section_fb] if with_cross_section else [])]
    cells = [cell for limit in shown for cell in _limit_cells(limit)]
    return Row(f"{one.mass_gev:.0f}", [_number(one.selection, "g"), *cells])


def _limit_cells(limit: Limit | None) -> list[Cell]:
    if limit is None:
        return [Cell(reason="the efficiency is not known")] * 2
    low, high = limit.expected_68
    return [
        _number(limit.observed, ".3g"),
        Cell(f"{limit.expected:.3g}", limit.expected, f"[{low:.3g}, {high:.3g}]"),
    ]
