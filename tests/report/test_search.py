"""A search in words and tables: what stands in the record is told, and what is missing."""

from __future__ import annotations

from hepllm.report.search import search_chapter
from hepllm.report.text import as_text
from hepllm.search.limit_records import Limit, UpperLimit, UpperLimits
from hepllm.search.measurements import Measurement
from hepllm.search.records import (
    BumpWindow,
    FitQuality,
    JetMasses,
    LocalPeakFindings,
    NoSearch,
    SearchFindings,
    SelectionFindings,
    SelectionFitQuality,
    SpuriousSignalFindings,
)

MEASURED = Measurement(value=3509.4, below=11.0, above=12.0, method="minos")
LIMIT = UpperLimit(
    mass_gev=3500.0,
    selection=0.01,
    selected=Limit(observed=12.34, expected=10.0, expected_68=(7.0, 14.0), expected_95=(5.0, 20.0)),
    signal_efficiency=None,
    box=None,
)


def _findings(**changes: object) -> SearchFindings:
    selection = SelectionFindings(
        efficiency=0.01,
        score_threshold=1.5,
        n_selected=39,
        bump=BumpWindow(m_jj_gev=(3422.1, 3597.4), n_observed=28, n_expected=3.09, local_p=8.9e-18),
        p_value=0.0321,
        significance_global=1.9,
        n_toys=1000,
        n_toys_exceeding=31,
        fit=SelectionFitQuality(n_parameters=2, goodness_p=0.41, goodness_p_without_resonance=None),
        shape_after_against_before=None,
        shape_without_resonance=None,
    )
    found = SearchFindings(
        n_events=500,
        m_jj_range_gev=(2600.0, 8000.0),
        n_in_range=412,
        p_value=0.018,
        significance_global=2.1,
        n_toys=1000,
        n_toys_exceeding=17,
        n_toys_failed=0,
        resonance_mass_gev=MEASURED,
        resonance_relative_width=MEASURED,
        resonance_width_at_limit=False,
        resonance_fit_valid=True,
        jet_masses_gev=JetMasses(light=MEASURED, heavy=None),
        n_signal_selected=MEASURED,
        n_signal_box=None,
        signal_over_background=None,
        signal_efficiency=None,
        upper_limits=None,
        best_selection=0.01,
        selections=[selection],
        spectrum_before_cut=FitQuality(n_parameters=3, goodness_p=0.9),
        warnings=["the turn-on is seen"],
    )
    return found.model_copy(update=changes)


def _text(found: SearchFindings | NoSearch) -> str:
    return as_text(search_chapter(found, "box"))


def test_each_number_of_a_peak_stands_below_its_heading() -> None:
    (selection,) = _findings().selections
    peak = LocalPeakFindings(
        mass_gev=3490.0, n_signal=34.4, significance_local=8.2, p_value_local=1.2e-16
    )
    spurious = SpuriousSignalFindings(
        mass_gev=5226.0,
        n_signal=-0.5,
        noise=0.2,
        over_error=-0.32,
        over_error_beyond_noise=0.0,
        n_signal_at_resonance=0.0,
    )
    changed = selection.model_copy(update={"local_peak": peak, "spurious_signal": spurious})
    found = _findings(selections=[changed])
    tables = [one for one in search_chapter(found, "box").tables if one.caption.startswith("Peaks")]
    (row,) = (row for group in tables[0].groups for row in group.rows)
    told = dict(zip(tables[0].heads, [row.name, *(cell.text for cell in row.cells)], strict=True))
    assert (told["kept"], told["mass [GeV]"], told["events"]) == ("0.01", "3490", "34.4")
    assert (told["sigma"], told["over error"]) == ("8.2", "-0.32")


def test_verdict_and_selections_are_told() -> None:
    lines = _text(_findings()).splitlines()
    assert lines[0] == "Search for a resonance in box"
    assert lines[3].startswith("p = 0.018 (2.1 sigma) for any window of any selection: 17 of 1000")
    assert "Warning: the turn-on is seen." in lines
    (row,) = [line.split() for line in lines if line.startswith("0.01")]
    assert row == ["0.01", "39", "3422-3597", "28", "3.1", "8.9e-18", "0.032", "0.41", "-", "-"]
    assert "-: too few events for a shape." in lines


def test_p_value_without_an_exceeding_toy_is_a_bound() -> None:
    text = _text(_findings(p_value=1e-3, significance_global=3.09, n_toys_exceeding=0))
    assert "p <= 0.001 (at least 3.1 sigma)" in text
    assert "\nexcess: mass [GeV]" in text


def test_limits_are_a_table() -> None:
    limits = UpperLimits(confidence=0.95, method="CLs", by_mass=[LIMIT])
    text = _text(_findings(upper_limits=limits))
    assert "Upper limits on signal events, 95% CL" in text
    (row,) = [line.split() for line in text.splitlines() if line.startswith("3500")]
    assert row == ["3500", "0.01", "12.3", "10", "[7,", "14]", "-", "-"]
    assert "-: the efficiency is not known." in text
    assert "cross section" not in text
    assert "Upper limits" not in _text(_findings())


def test_cross_sections_are_shown_where_a_luminosity_is_stated() -> None:
    box = LIMIT.selected.model_copy(update={"observed": 24.7})
    per_fb = LIMIT.selected.model_copy(update={"observed": 0.321})
    limit = LIMIT.model_copy(update={"box": box, "cross_section_fb": per_fb})
    limits = UpperLimits(
        confidence=0.95, method="CLs", luminosity_ifb=30, by_mass=[limit],
        efficiency_of="signals, X 500 GeV, Y 100 GeV", efficiency_by_mass=True,
    )  # fmt: skip
    text = _text(_findings(upper_limits=limits))
    assert "the efficiency at each mass, signals, X 500 GeV, Y 100 GeV" in text
    assert "in fb, with the stated luminosity of 30/fb" in text
    for shown in ("24.7", "0.321", "cross section"):
        assert shown in text


def test_a_box_that_cannot_be_searched_says_why() -> None:
    assert "No search: it has no masses." in _text(NoSearch(problem="it has no masses"))
