"""The first sentences of a report: what stands in the records, in words."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hepllm.config.evaluation import SearchConfig
from hepllm.report.conclusions import conclusion, searched_table
from hepllm.report.page import Chapter
from hepllm.report.records import UnlabelledMetrics
from hepllm.report.text import as_text
from hepllm.search.limit_records import Limit, UpperLimit, UpperLimits
from hepllm.search.measurements import Measurement
from hepllm.search.records import (
    Blackbox,
    BumpWindow,
    FitQuality,
    JetMasses,
    SelectionFindings,
    SelectionFitQuality,
    SelectionTruth,
    Submission,
    Truth,
    Unblinding,
)

TOOLS = Path(__file__).parents[2] / "tools" / "studies"

MASS = Measurement(value=3501.2, below=18.0, above=19.0, method="minos")
LIMIT = Limit(observed=12.4, expected=10.0, expected_68=(7.0, 14.0), expected_95=(5.0, 20.0))


def submission(p_value: float, n_exceeding: int) -> Submission:
    selection = SelectionFindings(
        efficiency=0.01,
        score_threshold=1.5,
        n_selected=39,
        bump=BumpWindow(m_jj_gev=(3422.1, 3597.4), n_observed=28, n_expected=3.09, local_p=8.9e-18),
        p_value=p_value,
        significance_global=1.9,
        n_toys=10_000,
        n_toys_exceeding=n_exceeding,
        fit=SelectionFitQuality(n_parameters=2, goodness_p=0.41, goodness_p_without_resonance=None),
        shape_after_against_before=None,
        shape_without_resonance=None,
    )
    limit = UpperLimit(
        mass_gev=3500.0, selection=0.01, selected=LIMIT, signal_efficiency=None, box=None
    )
    return Submission(
        blackbox=Blackbox(name="unknown", digest="d", sources=[], n_excluded_as_seen=0),
        run="demo",
        trained_on="t",
        features=["tau"],
        cascade=None,
        seed=1,
        config=SearchConfig(),
        versions={},
        n_events=6000,
        m_jj_range_gev=(2600.0, 8000.0),
        n_in_range=4576,
        p_value=p_value,
        significance_global=3.7 if n_exceeding == 0 else 0.5,
        n_toys=10_000,
        n_toys_exceeding=n_exceeding,
        n_toys_failed=0,
        resonance_mass_gev=MASS,
        resonance_relative_width=MASS,
        resonance_width_at_limit=False,
        resonance_fit_valid=True,
        jet_masses_gev=JetMasses(light=MASS.scaled(0.03), heavy=MASS.scaled(0.14)),
        n_signal_selected=Measurement(value=66.0, below=10.0, above=10.0, method="minos"),
        n_signal_box=None,
        signal_over_background=None,
        signal_efficiency=None,
        upper_limits=UpperLimits(method="CLs", confidence=0.95, by_mass=[limit]),
        best_selection=0.01,
        selections=[selection],
        spectrum_before_cut=FitQuality(n_parameters=3, goodness_p=0.9),
        warnings=[],
    )


def metrics(found: Submission, unblinding: Unblinding | None = None) -> UnlabelledMetrics:
    return UnlabelledMetrics.model_construct(
        n_events=6000, n_signal=None, n_background=None, search=found, unblinding=unblinding
    )


def test_an_excess_is_told_with_its_masses_and_p() -> None:
    text = conclusion("unknown", metrics(submission(1e-4, 0)))
    assert text == (
        "unknown: an excess at m_jj = 3501 [3483, 3520] GeV, with jets of 490 and 105 GeV, "
        "p <= 0.0001 (at least 3.7 sigma), of 66 [56, 76] events after the cut."
    )


def test_the_key_is_told_beside_what_was_found() -> None:
    cut = SelectionTruth(efficiency=0.01, n_signal=28, eps_s=0.2, eps_b=0.003)
    truth = Truth(
        n_signal_box=120,
        n_signal_in_range=118,
        signal_over_background=0.02,
        median_m_jj_of_signal_gev=3510.0,
        selections=[cut],
    )
    key = Unblinding(
        submission_sha256="s", submission_written="2026", labels_read="2026", truth=truth
    )
    text = conclusion("bb", metrics(submission(1e-4, 0), key))
    assert "(by the key there are 120 at a median of 3510 GeV)" in text


def test_no_excess_is_told_with_what_is_excluded() -> None:
    text = conclusion("unknown", metrics(submission(0.3, 2999)))
    assert text.startswith("unknown: no excess, p = 0.3 (0.5 sigma)")
    assert "more than 12.4 to 12.4 signal events are excluded at 95% CL" in text


@pytest.mark.parametrize("p_value", [1e-4, 0.3])
def test_a_searched_box_has_its_numbers_in_a_table(p_value: float) -> None:
    table = searched_table([("demo", "unknown", metrics(submission(p_value, 0)))])
    assert table is not None
    (group,) = table.groups
    (row,) = group.rows
    shown = dict(zip(table.heads[1:], row.cells, strict=True))
    assert shown["global p"].value == p_value
    assert shown["mass [GeV]"].value == MASS.value
    assert shown["upper limit"].value == LIMIT.observed
    assert not any(cell.reason for cell in row.cells)
    assert searched_table([]) is None
    assert "demo" in as_text(Chapter("Conclusions", tables=[table]))


def test_the_demo_ends_with_three_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    tell_search = importlib.import_module("tell_search")

    point = {"m_zprime": 3500.0, "m_x": 100.0, "m_y": 500.0}
    (tmp_path / "points.json").write_text(json.dumps({"points": [point]}))
    (tmp_path / "key").write_text("0.0\n1.0\n1.0\n")
    (tmp_path / "report.html").touch()
    file = tmp_path / "submission.json"
    options = [
        *("--truth", str(tmp_path / "points.json"), "--key", str(tmp_path / "key")),
        *("--report", str(tmp_path / "report.html")),
    ]
    for p_value, n_exceeding in ((1e-4, 0), (0.3, 2999)):
        submission(p_value, n_exceeding).write(file)
        told = CliRunner().invoke(tell_search.main, [str(file), *options])
        assert told.exit_code == 0, told.output
        found, masses, pictures = told.output.splitlines()
        assert "the box without its key (unknown, 6000 events)" in found
        assert str(tmp_path / "report.html") in pictures
        if n_exceeding:
            assert found.startswith("Nothing was found")
            assert "2 signal events" in masses
        else:
            assert "p <= 0.0001, at least 3.7 sigma" in found
            assert "(truth 3500), heavy jet 490" in masses
            assert "(truth 500), light jet 105" in masses
            assert "(truth 100)" in masses
