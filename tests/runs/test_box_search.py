"""The search in a black box through ``hepllm eval``, from files to submission.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

from hepllm.config import Config
from hepllm.data.dataset import read_dataset
from hepllm.errors import InputError
from hepllm.report.sets import EvaluatedSet
from hepllm.runs.box_search import cascade_warnings
from hepllm.search.records import Submission
from hepllm.stages.evaluate import evaluate
from hepllm.stages.preprocess import preprocess
from hepllm.stages.train import train

pytestmark = pytest.mark.usefixtures("undrawn_figures")
M_ZPRIME, N_SIGNAL, N_BACKGROUND = 3800.0, 60, 4000
QUICK = (
    "evaluation.cascade=0.3",
    "evaluation.ablations=false",
    "evaluation.baselines=[]",
    "evaluation.views=[]",
)


def _events(n_signal: int, n_background: int, seed: int) -> dict[str, np.ndarray]:
    """Features of a resonance of two jets of 400 and 90 GeV over falling QCD."""
    random = np.random.default_rng(seed)
    n_events = n_signal + n_background
    is_signal = random.permutation(np.arange(n_events) < n_signal)
    m_jj = 2600 + random.exponential(600, n_events)
    m_jj[is_signal] = random.normal(M_ZPRIME, 0.036 * M_ZPRIME, n_signal)
    light, heavy = random.lognormal(4.3, 0.5, n_events), random.lognormal(5.2, 0.5, n_events)
    light[is_signal] = random.normal(90, 8, n_signal)
    heavy[is_signal] = random.normal(400, 25, n_signal)
    light, heavy = np.minimum(light, heavy), np.maximum(light, heavy)
    tau21 = np.clip(random.normal(0.6, 0.12, (n_events, 2)), 0.02, 1)
    tau21[is_signal] = np.clip(random.normal(0.25, 0.08, (n_signal, 2)), 0.02, 1)
    return {
        "m_jj": m_jj,
        "jet_mass_light": light,
        "jet_mass_delta": heavy - light,
        "tau21_light": tau21[:, 0],
        "tau21_heavy": tau21[:, 1],
        "label": is_signal.astype(int),
    }


def _write(path: Path, columns: dict[str, np.ndarray]) -> Path:
    pacsv.write_csv(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def config(tiny_config: Callable[..., Config]) -> Callable[..., Config]:
    return lambda *overrides: tiny_config(
        "preprocess.workers=1",
        "preprocess.executor=serial",
        "train.features=cathode",
        "train.epochs=1",
        *overrides,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, config: Callable[..., Config]) -> Path:
    """A run, and boxes with and without labels, without masses, with few events."""
    folder = tmp_path_factory.mktemp("blackbox")
    _write(folder / "rnd.csv", _events(300, 300, seed=1))
    preprocess([folder / "rnd.csv"], folder / "rnd", config())
    train(folder / "rnd", folder / "run", config(), overwrite=False)
    box = _events(N_SIGNAL, N_BACKGROUND, seed=2)
    hidden = {name: values for name, values in box.items() if name != "label"}
    _write(folder / "hidden.csv", hidden)
    _write(folder / "few.csv", {name: values[:500] for name, values in hidden.items()})
    _write(folder / "flat.csv", {name: v for name, v in hidden.items() if name != "m_jj"})
    _write(folder / "known.csv", box)
    preprocess([folder / "known.csv"], folder / "known", config())
    return folder


@pytest.fixture(scope="module")
def report(folder: Path, config: Callable[..., Config]) -> EvaluatedSet:
    (made,) = evaluate(folder / "run", blackbox=folder / "hidden.csv", config=config(*QUICK))
    return made


def test_submission_finds_the_resonance(report: EvaluatedSet, folder: Path) -> None:
    file = folder / "run" / "eval" / "hidden" / "submission.json"
    tree = json.loads(file.read_text())
    assert tree["schema_version"] == 1
    assert tree == {"schema_version": 1, **json.loads(json.dumps(report.metrics.tree()["search"]))}
    assert Submission.read(file, "").tree() == tree
    assert report.metrics.n_signal is None
    assert tree["p_value"] == pytest.approx(1 / 10_001)
    assert tree["n_toys"] == 10_000
    mass = tree["resonance_mass_gev"]
    assert abs(mass["value"] - M_ZPRIME) < 4 * max(mass["below"], mass["above"])
    assert mass["above"] < 0.01 * M_ZPRIME
    for jet, truth in (("light", 90), ("heavy", 400)):
        found = tree["jet_masses_gev"][jet]
        assert abs(found["value"] - truth) < 0.04 * truth
        assert 0 < found["above"] < 0.1 * truth
    box = tree["n_signal_box"]
    assert abs(box["value"] - N_SIGNAL) < 4 * max(box["below"], box["above"])
    ratio = tree["signal_over_background"]
    n_events = N_SIGNAL + N_BACKGROUND
    assert ratio == pytest.approx(box["value"] / (n_events - box["value"]))
    assert "truth" not in tree


def test_submission_says_what_it_comes_from(report: EvaluatedSet, folder: Path) -> None:
    tree = report.metrics.tree()["search"]
    made = read_dataset(folder / "run" / "eval" / "hidden" / "hidden")
    assert tree["blackbox"]["digest"] == made.digest
    assert tree["config"]["efficiencies"] == [0.1, 0.03, 0.01, 0.003, 0.001]
    assert set(tree["versions"]) == {"hepllm", "numpy", "scipy", "iminuit", "pyBumpHunter"}
    assert [one["efficiency"] for one in tree["selections"]] == [
        0.1,
        0.03,
        0.01,
    ]  # others keep too few
    assert tree["features"] == ["jet_mass_light", "jet_mass_delta", "tau21_light", "tau21_heavy"]
    assert "Search for a resonance in hidden" in report.text
    assert "for any window of any selection: 0 of 10000 pseudo-experiments" in report.text
    assert {"submission.json", "search.png", "search_jets.png"} <= {f.name for f in report.files}
    assert all(file.stat().st_size > 100 for file in report.files)


@pytest.mark.parametrize(("keep", "is_told"), [(0.05, True), (0.1, True), (0.3, False)])
def test_a_cascade_tighter_than_the_selections_is_told(
    keep: float, is_told: bool, config: Callable[..., Config]
) -> None:
    settings = config("evaluation.search.efficiencies=[0.1,0.01]", f"evaluation.cascade={keep}")
    told = cascade_warnings(settings.evaluation)
    assert bool(told) == is_told
    assert all("the loosest selection keeps 0.1" in one for one in told)
    assert cascade_warnings(config("evaluation.cascade=null").evaluation) == []


def test_search_reads_no_labels(
    report: EvaluatedSet, folder: Path, config: Callable[..., Config]
) -> None:
    settings = config(*QUICK, "evaluation.search.run=always")
    (known,) = evaluate(folder / "run", blackbox=folder / "known", config=settings)
    tree = known.metrics.tree()["search"]
    hidden = report.metrics.tree()["search"]
    for key in ("p_value", "resonance_mass_gev", "n_signal_selected", "selections"):
        assert tree[key] == hidden[key]
    assert tree["truth"]["n_signal_box"] == N_SIGNAL
    kept = tree["truth"]["selections"][0]
    assert kept["n_signal"] == round(kept["eps_s"] * N_SIGNAL)
    assert known.metrics.auc.value > 0.9
    (plain,) = evaluate(folder / "run", blackbox=folder / "known", config=config(*QUICK))
    assert plain.metrics.search is None


@pytest.mark.parametrize(
    ("box", "message"),
    [("few.csv", "needs 1000 events with 2600 < m_jj < 8000 GeV"), ("flat.csv", "needs m_jj")],
)
def test_box_that_cannot_be_searched_is_scored(
    box: str, message: str, folder: Path, config: Callable[..., Config]
) -> None:
    (made,) = evaluate(folder / "run", blackbox=folder / box, config=config(*QUICK))
    assert message in made.metrics.search.problem
    assert message in made.text
    output = folder / "run" / "eval" / Path(box).stem
    assert (output / "scores.parquet").is_file()
    assert not (output / "submission.json").exists()


def test_features_that_follow_the_mass_are_refused(
    folder: Path, config: Callable[..., Config], tmp_path: Path
) -> None:
    sees_mass = config("train.features=[m_jj,tau21_light,tau21_heavy]")
    train(folder / "rnd", tmp_path / "run", sees_mass, overwrite=False)
    with pytest.raises(InputError, match="sculpts a bump in QCD") as raised:
        evaluate(tmp_path / "run", blackbox=folder / "hidden.csv", config=sees_mass)
    assert "train.features=search" in str(raised.value)
    assert raised.value.exit_code == 2
    always = config("train.features=cathode", "evaluation.search.run=always")
    with pytest.raises(InputError, match="follow m_jj"):
        evaluate(tmp_path / "run", blackbox=folder / "known", config=always)
    assert not (tmp_path / "run" / "eval" / "hidden" / "scores.parquet").exists()
