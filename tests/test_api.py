"""The Python interface gives what the command line gives, for every form of an event."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import hepllm
from hepllm import EventClassifier
from hepllm.data.dataset import EventTable, read_dataset
from hepllm.errors import ConfigError, InputError
from hepllm.model.prompts import render

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial" / "api.ipynb"


@pytest.fixture(scope="module")
def folder(tiny_data: Path, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and a run where the command line would leave them."""
    folder = tmp_path_factory.mktemp("api")
    shutil.copy(tiny_data / "rnd.h5", folder)
    shutil.copytree(tiny_data / "data" / "rnd", folder / "data" / "processed" / "rnd")
    shutil.copytree(tiny_run, folder / "runs" / "latest")
    return folder


@pytest.fixture(scope="module")
def classifier(folder: Path) -> EventClassifier:
    return EventClassifier.load(folder / "runs" / "latest")


@pytest.fixture(scope="module")
def events(folder: Path, classifier: EventClassifier) -> EventTable:
    return read_dataset(folder / "data" / "processed" / "rnd").load(classifier.features)


def test_all_forms_of_an_event_have_one_score(
    folder: Path,
    classifier: EventClassifier,
    events: EventTable,
    dijet_events: Callable[..., NDArray[np.float64]],
) -> None:
    expected = classifier.predict_proba(events.features)
    assert expected.shape == (200, 2)
    np.testing.assert_allclose(expected.sum(axis=1), 1)
    columns = {name: events.column(name) for name in classifier.features}
    triplets = dijet_events(200, seed=1)[:, :-1].reshape(200, 700, 3)
    slots = [ak.from_regular(ak.Array(triplets[:, :, axis])) for axis in range(3)]
    padded = ak.zip(dict(zip(("pt", "eta", "phi"), slots, strict=True)))
    texts = [
        render(dict(zip(events.names, row, strict=True)), events.names, "full", fusion=False)
        for row in events.features[:20]
    ]
    polar = padded[padded.pt > 0]
    cartesian = ak.zip(
        {
            "px": polar.pt * np.cos(polar.phi),
            "py": polar.pt * np.sin(polar.phi),
            "pz": polar.pt * np.sinh(polar.eta),
        }
    )
    forms = [columns, pd.DataFrame(columns), polar, cartesian, texts, texts[0]]
    for form in forms:
        found = classifier.predict_proba(form)
        np.testing.assert_allclose(found, expected[: len(found)], atol=1e-3)
    assert classifier.predict_proba(texts[0]).shape == (1, 2)


def test_columns_that_are_absent_are_missing(
    classifier: EventClassifier, events: EventTable
) -> None:
    name = classifier.features[0]
    rows = classifier.rows({name: events.column(name)[:4]})
    assert rows.shape == (4, len(classifier.features))
    assert np.isnan(rows[:, 1:]).all()


def test_prior_moves_the_odds(classifier: EventClassifier, events: EventTable) -> None:
    assert classifier.training_fraction == 0.5
    odds = [
        np.divide(*classifier.predict_proba(events.features[:9], prior=prior).T[::-1])
        for prior in (0.5, 0.01)
    ]
    np.testing.assert_allclose(odds[0] / odds[1], 99, rtol=1e-6)
    with pytest.raises(InputError, match="between 0 and 1"):
        classifier.predict_proba(events.features, prior=1.0)


def test_a_file_has_the_scores_of_its_rows(
    folder: Path, classifier: EventClassifier, events: EventTable, tmp_path: Path
) -> None:
    made = classifier.score_file(folder / "rnd.h5", tmp_path / "scores.parquet")
    found = pq.read_table(made.path)["score"].to_numpy()
    np.testing.assert_allclose(found, classifier.score(events.features), atol=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"jet_mas_light": [1.0]}, "did you mean 'jet_mass_light'"),
        ({}, "no columns"),
        (np.zeros((3, 2)), "expected rows of"),
        ("nothing", "no feature found"),
        (ak.Array([[{"pt": 1.0}]]), "need three-momenta.*found pt"),
        (ak.Array([[{"pt": -1.0, "eta": 0.0, "phi": 0.0}]]), "pT < 0"),
        (ak.Array([{"pt": 1.0, "eta": 0.0, "phi": 0.0}]), r"\(2 dimensions\), found 1"),
    ],
)
def test_what_is_no_event_is_told(given: object, message: str, classifier: EventClassifier) -> None:
    with pytest.raises(InputError, match=message):
        classifier.rows(given)


def test_columns_of_different_lengths_are_told(classifier: EventClassifier) -> None:
    first, second = classifier.features[:2]
    with pytest.raises(InputError, match="different shapes"):
        classifier.rows({first: [1.0], second: [1.0, 2.0]})


def test_loading_takes_settings(folder: Path, tmp_path: Path) -> None:
    loaded = EventClassifier.load(folder / "runs" / "latest", "evaluation.calibration=none")
    rows = np.zeros((1, len(loaded.features)))
    score = loaded.score(rows)
    np.testing.assert_allclose(loaded.predict_proba(rows)[:, 1], 1 / (1 + np.exp(-score)))
    with pytest.raises(ConfigError):
        EventClassifier.load(folder / "runs" / "latest", "evaluation.calibrate=none")
    with pytest.raises(InputError, match="no such run"):
        EventClassifier.load(tmp_path / "gone")


def test_the_package_loads_nothing_before_it_is_asked() -> None:
    code = (
        "import sys, hepllm; assert 'EventClassifier' in dir(hepllm); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hepllm.nothing


def test_the_notebook_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    script = folder / "notebook.py"
    script.write_text("\n\n".join(code), encoding="utf-8")
    monkeypatch.chdir(folder)
    runpy.run_path(script.name)
    assert "prior 0.001: expected signal" in capsys.readouterr().out
