"""How a file is understood is said before it is processed."""

from __future__ import annotations

import logging
from pathlib import Path

import awkward as ak
import pytest
import uproot

from hepllm.config import PreprocessConfig
from hepllm.physics.first_look import report_first_rows
from hepllm.physics.readers import open_event_file

_ROW = "500,0.1,0.2,90,400,-0.3,-2.9,60"
_NAMES = ",".join(f"jet{jet}_{name}" for jet in (1, 2) for name in ("pt", "eta", "phi", "mass"))


def _report(path: Path, text: str, caplog: pytest.LogCaptureFixture) -> tuple[list[str], list[str]]:
    path.write_text(text)
    config = PreprocessConfig()
    with caplog.at_level(logging.INFO):
        report_first_rows(open_event_file(path, config), config)
    of_level = {
        level: [one.getMessage() for one in caplog.records if one.levelno == level]
        for level in (logging.INFO, logging.WARNING)
    }
    return of_level[logging.INFO], of_level[logging.WARNING]


def test_what_is_read_derived_and_ignored_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"{_NAMES},mjj,tau_21,run,label\n" + f"{_ROW},900,0.4,7,1\n" * 4
    infos, warnings = _report(tmp_path / "a.csv", text, caplog)
    assert "read jet1_eta" in infos[0]
    assert "derived from them: jet1_energy, jet2_energy, m_jj" in infos[0]
    (warning,) = warnings
    assert "not used: mjj (did you mean 'm_jj'?), tau_21" in warning
    assert "label" not in warning


def test_columns_by_other_names_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    infos, _ = _report(tmp_path / "a.csv", "mj1,mj2\n90,60\n", caplog)
    assert "read jet1_mass from 'mj1', jet2_mass from 'mj2'; derived from them: " in infos[0]
    assert "jet_mass_light, jet_mass_delta" in infos[0]


def test_jets_that_no_selection_would_keep_are_doubted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jets = {"pt": [0.9, 0.7], "eta": [0.1, 0.2], "phi": [1.0, -2.0], "mass": [0.1, 0.05]}
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        branches = {f"FatJet_{name}": ak.Array([values] * 5) for name, values in jets.items()}
        file.mktree("Events", dict.fromkeys(branches, "var * float64")).extend(branches)
    config = PreprocessConfig()
    report_first_rows(open_event_file(path, config), config)
    assert "--set preprocess.energy_unit=TeV" in caplog.text


def test_impossible_rows_are_left_to_the_checks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, warnings = _report(tmp_path / "a.csv", "jet1_pt,jet1_eta\n500,900\n", caplog)
    assert warnings == []


def test_columns_that_are_no_features_are_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    infos, warnings = _report(tmp_path / "a.csv", f"{_NAMES},run\n{_ROW},7\n", caplog)
    assert infos[1].endswith("not used: run")
    assert warnings == []


def test_units_are_doubted_before_anything_is_processed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "jet_mass_light,jet_mass_delta\n" + "0.09,0.4\n" * 20
    _, warnings = _report(tmp_path / "a.csv", text, caplog)
    assert "--set preprocess.energy_unit=TeV" in warnings[0]
