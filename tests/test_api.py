"""The Python interface gives what the command line gives, for every form of an event."""

from __future__ import annotations

import json
import os
import pickle
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

import hepllm
from hepllm import EventClassifier
from hepllm.config import Config
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable
from hepllm.errors import ConfigError, InputError
from hepllm.model.prompts import render
from hepllm.stages.train import train

SETTINGS = ("train.threads=1", "train.epochs=2", "evaluation.calibration=none")

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


def test_tables_of_other_libraries_are_mappings_too(
    classifier: EventClassifier, events: EventTable
) -> None:
    expected = classifier.rows(events.features[:9])
    columns = {name: events.column(name)[:9] for name in reversed(classifier.features)}
    kinds = [(name, np.float64) for name in columns]
    structured = np.empty(9, dtype=kinds)
    for name, values in columns.items():
        structured[name] = values
    arrow = pa.table({name: pa.array(v, from_pandas=True) for name, v in columns.items()})
    records = ak.zip({name: ak.Array(values) for name, values in columns.items()})
    for table in (structured, arrow, *arrow.to_batches(), records, pd.DataFrame(columns)):
        np.testing.assert_array_equal(classifier.rows(table), expected)


def test_nulls_of_arrow_and_awkward_are_missing(classifier: EventClassifier) -> None:
    name, *others = classifier.features
    nothing = dict.fromkeys(others)
    for table in (
        pa.table({name: [1.0, None]} | {other: [None, None] for other in others}),
        ak.Array([{name: 1.0} | nothing, {name: None} | nothing]),
        [{name: 1.0} | nothing, nothing],
    ):
        found = classifier.rows(table)[:, 0]
        assert found[0] == 1
        assert np.isnan(found[1])


def test_columns_that_are_absent_are_refused(
    classifier: EventClassifier, events: EventTable
) -> None:
    columns = {name: events.column(name)[:4] for name in classifier.features}
    misnamed = {name.replace("mass", "mas"): column for name, column in columns.items()}
    with pytest.raises(InputError, match=r"no columns .* jet_mass_light, jet_mass_delta, .*mean"):
        classifier.rows(misnamed)
    rows = classifier.rows({**columns, "jet_mass_light": np.full(4, np.nan)})
    assert np.isnan(rows).sum() == 4


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


_SCRIPT = """
from hepllm import EventClassifier
print(__name__)
classifier = EventClassifier.load({run!r})
settings = classifier._config.preprocess
assert settings.executor == "processes", settings.executor
print(classifier.score_file({events!r}, "s.parquet").n_events)
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_file", [True, False])
def test_a_plain_script_scores_a_file_with_workers(
    is_file: bool, tmp_path: Path, tiny_data: Path, tiny_config: Callable[..., Config]
) -> None:
    """Neither the script nor its standard input is run again by the processes that cluster."""
    config = tiny_config("preprocess.workers=2", "preprocess.chunk_size=20")
    assert config.preprocess.executor == "processes"
    train(tiny_data / "data" / "rnd", tmp_path / "run", config, overwrite=False)
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT.format(run="run", events=str(tiny_data / "rnd.h5")))
    with script.open() as stream:
        done = subprocess.run(
            [sys.executable, *(["script.py"] if is_file else ["-"])],
            stdin=stream,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(NOTEBOOK.parents[2])},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["__main__", "200"]
    assert "Traceback" not in done.stderr
    assert len(pq.read_table(tmp_path / "s.parquet")) == 200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "s.parquet", "script.py"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"jet_mas_light": [1.0]}, "did you mean 'jet_mass_light'"),
        ({}, "no columns"),
        ({"jet_mass_light": [1.0, np.inf]}, "'jet_mass_light': 1 infinite"),
        ({"jet_mass_light": [[1.0], [2.0]]}, r"one number of each event.*\(2, 1\)"),
        (pa.table({"jet_mass_light": ["heavy"]}), "expected numbers"),
        (np.zeros((3, 2)), "X has 2 features.*expected rows of"),
        (np.full((3, 2), np.inf), "infinity"),
        ("nothing", "no feature found"),
        (ak.Array([[{"pt": 1.0}]]), "need three-momenta.*found pt"),
        (ak.Array([[{"pt": -1.0, "eta": 0.0, "phi": 0.0}]]), "pT < 0"),
        (ak.Array([{"pt": 1.0, "eta": 0.0, "phi": 0.0}]), "no columns for the model's features"),
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


@pytest.fixture(scope="module")
def trained(
    events: EventTable, tmp_path_factory: pytest.TempPathFactory, quick_trainings: None
) -> EventClassifier:
    """A classifier that ``fit`` made of two features of the events, in another order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("fit"))
        estimator = EventClassifier("tiny", SETTINGS, random_state=3)
        return estimator.fit(_frame(events), np.where(events.label == 1, "signal", "qcd"))


def _frame(events: EventTable) -> pd.DataFrame:
    return pd.DataFrame({name: events.column(name) for name in ("tau21_light", "jet_mass_light")})


def test_fit_leaves_a_run_that_scores_as_the_classifier(
    trained: EventClassifier, events: EventTable
) -> None:
    frame = _frame(events)
    assert trained.run_.name == "fit-1"
    assert list(trained.classes_) == ["qcd", "signal"]
    assert list(trained.feature_names_in_) == ["tau21_light", "jet_mass_light"]
    assert trained.features == ("jet_mass_light", "tau21_light")
    loaded = EventClassifier.load(trained.run_)
    probability = trained.predict_proba(frame)
    np.testing.assert_array_equal(loaded.predict_proba(frame), probability)
    chosen = trained.predict(frame)
    np.testing.assert_array_equal(chosen == "signal", probability[:, 1] > 0.5)
    truth = np.where(events.label == 1, "signal", "qcd")
    assert trained.score(frame, truth) == np.mean(chosen == truth)
    np.testing.assert_allclose(
        trained.decision_function(frame), np.log(probability[:, 1] / probability[:, 0]), atol=1e-9
    )


def test_an_array_has_the_columns_that_fit_had(
    trained: EventClassifier, events: EventTable
) -> None:
    frame = _frame(events)
    np.testing.assert_array_equal(
        trained.predict_proba(frame.to_numpy()), trained.predict_proba(frame)
    )


def test_a_pickle_is_small_and_refers_to_the_run_folder(
    trained: EventClassifier, events: EventTable
) -> None:
    frame = _frame(events)[:5]
    stored = pickle.dumps(trained)
    assert len(stored) < 2000
    found = pickle.loads(stored)  # noqa: S301 (our own)
    np.testing.assert_array_equal(found.predict_proba(frame), trained.predict_proba(frame))
    assert list(found.classes_) == ["qcd", "signal"]
    assert len(pickle.dumps(found)) < 2000


def test_an_unpickled_classifier_notices_other_weights(
    trained: EventClassifier, events: EventTable, tmp_path: Path
) -> None:
    frame = _frame(events)[:5]
    shutil.copytree(trained.run_, tmp_path / "run")
    stored = pickle.dumps(EventClassifier.load(tmp_path / "run"))
    found = pickle.loads(stored)  # noqa: S301 (our own)
    for file in (tmp_path / "run").rglob("nfa.safetensors"):
        file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(InputError, match="weights have changed"):
        found.predict(frame)
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(InputError, match="no such run"):
        found.predict(frame)


def test_scikit_learn_clones_searches_and_pipes_classifiers(
    trained: EventClassifier,
    events: EventTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    copy = clone(trained)
    assert copy.get_params() == trained.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(_frame(events))
    assert "config='tiny'" in repr(copy)
    half = FunctionTransformer(lambda table: table[["jet_mass_light", "tau21_light"]])
    search = GridSearchCV(
        make_pipeline(half, copy),
        {"eventclassifier__settings": [(*SETTINGS, "train.nfa_lr=1e-3")]},
        cv=2,
        scoring="roc_auc",
    )
    frame = pd.DataFrame(
        {name: events.column(name) for name in ("jet_mass_light", "tau21_light", "tau21_heavy")}
    )
    search.fit(frame, events.label)
    assert 0 <= search.best_score_ <= 1
    made = sorted(path.name for path in (tmp_path / "runs").glob("fit-?"))
    assert made == ["fit-1", "fit-2", "fit-3"]


def test_explanations_are_those_of_the_events(trained: EventClassifier, events: EventTable) -> None:
    frame = _frame(events)[:2]
    found = trained.explain(frame)
    np.testing.assert_allclose([one.score for one in found], trained.score(frame), atol=1e-5)
    assert set(found[0].facts) == set(trained.features)
    assert str(found[1]).startswith("Event 1")


@pytest.mark.parametrize("kind", ["dok_array", "dok_matrix", "csr_array", "lil_matrix"])
def test_sparse_matrices_are_refused_as_such(kind: str) -> None:
    """Those of a dictionary of keys are mappings, but not of columns."""
    matrix = getattr(scipy.sparse, kind)(np.eye(6))
    with pytest.raises((TypeError, InputError), match=r"[Ss]parse"):
        EventClassifier("tiny").fit(matrix, [0, 1] * 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": [1] * 200}, "one class"),
        ({"y": [0, 1, 2, 3] * 50}, "Only binary"),
        ({"y": [0, 1]}, "2 values for 200 events"),
        ({"y": None}, "requires y"),
        ({"X": {"label": np.ones(200)}}, "'label' is a name of hepllm"),
        ({"X": {"jet_mass_light": np.ones(200)}}, "too alike"),
        ({"X": np.ones((200, 3))}, "too alike"),
        ({"X": np.full((200, 3), np.inf)}, "infinity"),
        ({"sample_weight": np.zeros(200)}, "weights of background are zero"),
        ({"sample_weight": [np.nan] * 200}, "finite"),
        ({"validation_fraction": 1.0}, "between 0 and 1"),
        ({"config": "timy"}, "did you mean 'tiny'"),
    ],
)
def test_what_cannot_be_fitted_is_told_and_leaves_nothing(
    *,
    change: dict[str, Any],
    message: str,
    events: EventTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {"X": _frame(events), "y": events.label, **change}
    parameters = {
        name: given.pop(name) for name in ("config", "validation_fraction") if name in given
    }
    settings = (*SETTINGS, "prompt.layout=minimal")
    estimator = EventClassifier(**{"config": "tiny", "settings": settings, **parameters})
    with pytest.raises((InputError, ConfigError), match=message):
        estimator.fit(**given)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_particles_are_fitted_as_their_features(
    dijet_events: Callable[..., NDArray[np.float64]], tmp_path: Path, quick_trainings: None
) -> None:
    rows = dijet_events(60, seed=1)
    triplets = rows[:, :-1].reshape(60, 700, 3)
    slots = [ak.from_regular(ak.Array(triplets[:, :, axis])) for axis in range(3)]
    padded = ak.zip(dict(zip(("pt", "eta", "phi"), slots, strict=True)))
    particles = padded[padded.pt > 0]
    settings = (*SETTINGS, "train.features=[jet_mass_light]", "train.epochs=1")
    made = EventClassifier("tiny", settings, run=tmp_path / "run").fit(particles, rows[:, -1])
    assert made.run_ == tmp_path / "run"
    assert made.features == ("jet_mass_light",)
    column = made.rows(particles)
    np.testing.assert_allclose(made.score(column), made.score(particles), atol=1e-6)
    with pytest.raises(InputError, match="exists"):
        made.fit(particles, rows[:, -1])


def test_own_columns_are_fitted_too(
    tmp_path: Path, quick_trainings: None, caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(1)
    label = np.arange(120) % 2
    frame = pd.DataFrame({"b_tag": random.normal(label, 0.3), "jet1_tua21": random.random(120)})
    settings = (*SETTINGS, "prompt.layout=minimal", "train.epochs=12")
    made = EventClassifier("tiny", settings, run=tmp_path / "run").fit(frame, label)
    assert made.features == ("b_tag", "jet1_tua21")
    assert "'jet1_tua21' is no feature of hepllm" in caplog.text
    assert "(did you mean 'jet1_tau21'?)" in caplog.text
    assert "'b_tag'" not in caplog.text
    assert roc_auc_score(label, made.predict_proba(frame)[:, 1]) > 0.8
    loaded = EventClassifier.load(made.run_)
    np.testing.assert_array_equal(loaded.score(frame.to_numpy()), made.score(frame))
    assert set(loaded.explain(frame[:1])[0].facts) == {"b_tag", "jet1_tua21"}
    array = EventClassifier("tiny", settings, run=tmp_path / "array").fit(frame.to_numpy(), label)
    assert array.features == ("x0", "x1")


EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": "one event is not divided into two",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_finds_the_rules_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_trainings: None
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = (*SETTINGS, "prompt.layout=minimal")
    check_estimator(
        EventClassifier("tiny", settings), expected_failed_checks=EXPECTED_FAILURES, on_skip=None
    )


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


@pytest.mark.parametrize("module", ["hepllm", "hepllm.api", "hepllm.cli"])
def test_threads_wait_passively_unless_the_user_says_otherwise(module: str) -> None:
    code = f"import os, {module}; print(os.environ['OMP_WAIT_POLICY'], end='')"
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for stated, expected in (({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=kept | stated,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == expected, done.stderr
        assert not done.stderr  # nothing that a library says reaches a notebook
