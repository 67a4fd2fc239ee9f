"""``hepllm search RUN DATASET --scan``: from a run with hypotheses to ``scan.json``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from hepllm.cli import cli
from hepllm.config import Config
from hepllm.data.signal_points import SignalPoint, SignalPoints, points_beside
from hepllm.runs.run_model import PieceScorer
from hepllm.search.plane_records import PlaneScan
from hepllm.stages.preprocess import preprocess
from hepllm.stages.train import train
from hepllm.weak.mixture_records import MixtureScan

MASSES = ((500.0, 100.0), (300.0, 300.0), (250.0, 80.0))

SCAN = (
    *(
        "--set",
        "evaluation.search.plane.masses=3",
        "--set",
        "evaluation.search.plane.m_min=100",
        "--set",
        "evaluation.search.plane.toys=200",
    ),
    *("--set", "evaluation.search.plane.max_toys=200", "--set", "evaluation.search.limit_toys=50"),
    *("--set", "evaluation.search.efficiencies=[0.05]"),
)

pytestmark = pytest.mark.usefixtures("undrawn_figures")


def events(masses: np.ndarray, is_signal: np.ndarray, seed: int) -> np.ndarray:
    """Rows of m_jj, jet masses, tau21 and label, for true masses of X and Y (N, 2)."""
    random = np.random.default_rng(seed)
    of_background = np.exp(random.uniform(np.log(40), np.log(600), masses.shape))
    both = np.where(is_signal[:, None], masses, of_background)
    light, heavy = np.sort(both * random.normal(1, 0.05, masses.shape), axis=1).T
    tau21 = np.clip(random.normal(0.55 - 0.2 * is_signal[:, None], 0.1, masses.shape), 0.05, 1)
    m_jj = np.where(is_signal, random.normal(3500, 80, len(masses)),
                    random.exponential(700, len(masses)) + 2600)  # fmt: skip
    return np.column_stack([m_jj, light, heavy - light, tau21, is_signal])


def write(file: Path, rows: np.ndarray) -> None:
    names = "m_jj,jet_mass_light,jet_mass_delta,tau21_light,tau21_heavy,label"
    np.savetxt(file, rows, delimiter=",", header=names, comments="", fmt="%.6g")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_config: Callable[..., Config]) -> Path:
    """A run that was trained on three signals, and a ``box`` with one of them."""
    made = tmp_path_factory.mktemp("scan")
    config = tiny_config(
        *("preprocess.executor=serial", "preprocess.format=features", "prompt.layout=question"),
        *("train.features=cathode", "train.epochs=1", "evaluation.scoring.executor=serial"),
    )
    n_each = 600
    masses = np.repeat(MASSES, n_each, axis=0)
    write(made / "grid.csv", events(masses, np.arange(len(masses)) % 2 == 1, 3))
    points = [
        SignalPoint(
            m_zprime=3500, m_x=x, m_y=y, first=place * n_each, events=n_each, generated=n_each
        )
        for place, (x, y) in enumerate(MASSES)
    ]
    SignalPoints(points=points).write(points_beside(made / "grid.csv"))
    preprocess([made / "grid.csv"], made / "grid", config)
    train(made / "grid", made / "run", config, overwrite=False)
    n_box = 1500
    write(made / "box.csv", events(np.tile(MASSES[0], (n_box, 1)), np.arange(n_box) < 30, 4))
    preprocess([made / "box.csv"], made / "box", config)
    return made


def search(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["search", *map(str, words), "-q"])


@pytest.fixture(scope="module")
def scanned(folder: Path) -> Path:
    """The folder of a scan."""
    done = search(folder / "run", folder / "box", "--scan", "--output", folder / "scan", *SCAN)
    assert done.exit_code == 0, done.output
    assert "under any of" in done.output
    return folder / "scan"


def test_every_point_has_a_p_value_and_a_limit(scanned: Path) -> None:
    found = PlaneScan.read(scanned / "scan.json", "scan again")
    masses = [one.m_jets_gev for one in found.points]
    assert len(set(masses)) == found.n_points == len(masses) == 2
    assert found.trained_range is not None
    assert found.trained_range.heavier_max == 500
    assert all(250 <= heavy <= 500 and 80 <= light <= 300 for heavy, light in masses)
    assert found.p_value >= min(one.p_value for one in found.points)
    assert found.n_toys == 200
    for one in found.points:
        assert one.n_selected == pytest.approx(0.05 * found.n_in_range, abs=5)
        assert one.limit is not None
        assert one.limit.selected.expected > 0
    known = [one for one in found.points if one.limit is not None and one.limit.box is not None]
    assert (500.0, 100.0) in [one.m_jets_gev for one in known]


def test_files_and_page(scanned: Path) -> None:
    names = {file.name for file in scanned.iterdir()}
    assert names == {"scan.json", "scan.txt", "scan.html", "scan.png", "scan_limits.png"}
    page = (scanned / "scan.html").read_text()
    assert "Scan of hypotheses in box" in page
    assert page.count("data:image/png") == 2


def test_scores_are_kept_by_hypothesis(
    folder: Path, scanned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = sorted((folder / "run" / "scores" / "box-scan").glob("*.parquet"))
    assert len(kept) == PlaneScan.read(scanned / "scan.json", "").n_points
    calls = []
    score = PieceScorer.columns

    def counted(self: PieceScorer, inputs: object) -> object:
        calls.append(len(inputs))  # type: ignore[arg-type]
        return score(self, inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(PieceScorer, "columns", counted)
    again = ("--scan", "--output", scanned, "--overwrite", "--json", *SCAN)
    done = search(folder / "box", "--run", folder / "run", *again)
    assert done.exit_code == 0, done.output
    assert not calls
    assert json.loads(done.stdout)["best"]
    kept[0].unlink()
    assert search(folder / "box", "--run", folder / "run", *again).exit_code == 0
    in_range = PlaneScan.read(scanned / "scan.json", "").n_in_range
    assert sum(calls) == in_range


def test_what_does_not_fit_is_refused(folder: Path, scanned: Path) -> None:
    run, box = folder / "run", folder / "box"
    for words, reason in (
        ((box, "--scan"), "give --run RUN"),
        ((run, box, "--scan", "--hypothesis", "X -> bb"), "give one of them"),
        ((run, box, "--scan", "--output", scanned), "give --overwrite to replace"),
        (
            (
                run,
                box,
                "--scan",
                "--set",
                "evaluation.search.plane.m_min=600",
                "--set",
                "evaluation.search.plane.m_max=700",
                "--output",
                "o",
            ),
            "no pair of masses",
        ),
    ):
        done = search(*words)
        assert done.exit_code in (1, 2)
        assert reason in f"{done.output}{done.exception}"


FIT = (
    *("--scan", "--fit", "--set", "evaluation.search.plane.fit.interval_toys=20"),
    *("--set", "evaluation.search.min_events=100"),
)


@pytest.mark.parametrize(
    ("classifier", "template"),
    [("llm", None), ("boosting_differences", "sidebands"), ("boosting_hypothesis", "box")],
)
def test_masses_and_fraction_are_fitted(
    folder: Path, tmp_path: Path, classifier: str, template: str | None
) -> None:
    settings = [f"evaluation.search.plane.fit.classifier={classifier}"]
    if template == "sidebands":
        settings.append("evaluation.search.plane.fit.region=[3200,3800]")
    if template is not None:
        place = folder / "grid" if template == "box" else template
        settings.append(f"evaluation.search.plane.fit.template={place}")
    words = [word for one in settings for word in ("--set", one)]
    done = search(folder / "run", folder / "box", *FIT, *SCAN, *words, "--output", tmp_path / "o")
    assert done.exit_code == 0, done.output
    assert "Masses and fraction of a signal in box" in done.output
    names = {file.name for file in (tmp_path / "o").iterdir()}
    assert names == {"mixture.json", "mixture.txt", "mixture.html", "mixture.png"}
    found = MixtureScan.read(tmp_path / "o" / "mixture.json", "fit again")
    assert found.classifier == classifier
    assert found.n_data > 100
    assert found.n_template > 100
    scanned = [one for one in found.points if one.p_value is not None]
    assert len(scanned) == 2
    assert len(found.points) > 2
    assert found.p_value >= min(one.p_value or 1 for one in scanned)
    for one in (found.fraction, found.n_signal, found.m_heavy_gev, found.m_light_gev):
        (low, high), (lower, higher) = one.interval_68, one.interval_95
        assert lower <= low <= high <= higher
    assert found.n_signal.value == pytest.approx(found.fraction.value * found.n_data)
    if template is None:
        assert "did not use" in found.template
        kept = folder / "run" / "scores" / "box-scan"
        assert len(list(kept.glob("*.parquet"))) >= len(found.points)


def test_a_fit_that_is_not_possible_is_refused(folder: Path) -> None:
    run, box = folder / "run", folder / "box"
    for words, reason in (
        ((run, box, "--fit"), "--fit: needs --scan"),
        ((run, box, *FIT, "--set", "evaluation.cascade=0.1"), "no likelihood ratio"),
        ((run, box, *FIT, "--set", "evaluation.search.plane.fit.region=[3500,3510]"), "widen"),
        ((run, box, *FIT, "--set", "evaluation.search.plane.fit.template=sidebands"), "a region"),
        ((run, box, *FIT, "--set", "evaluation.search.plane.fit.region=[9,3]"), "must be lower"),
    ):
        done = search(*words, *SCAN, "--output", folder / "none")
        assert done.exit_code in (1, 2)
        assert reason in f"{done.output}{done.exception}"
    assert not (folder / "none").exists()


@pytest.mark.slow
def test_a_scan_that_is_killed_goes_on_to_the_same_result(
    folder: Path, scanned: Path, tmp_path: Path
) -> None:
    run, scores = tmp_path / "run", tmp_path / "run" / "scores"
    shutil.copytree(folder / "run", run)
    shutil.rmtree(scores, ignore_errors=True)
    words = ("search", run, folder / "box", "--scan", "--output", "out", *SCAN)
    command = [sys.executable, "-m", "hepllm", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}

    def killed_when(condition: Callable[[], bool]) -> None:
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            end = time.monotonic() + 120
            while not condition():
                assert process.poll() is None, process.communicate()[1].decode()
                assert time.monotonic() < end
                time.sleep(0.002)
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (tmp_path / "out" / "scan.json").exists()

    killed_when(lambda: any(scores.rglob("*.arrow")))  # within the scores of a hypothesis
    killed_when(lambda: len(list(scores.rglob("*.parquet"))) >= 2)  # between two
    killed_when((tmp_path / "out" / ".partial").exists)  # while the results are written
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("scan.json", "scan.txt", "scan.html", "scan.png", "scan_limits.png")
    }
    before, after = (
        json.loads((place / "scan.json").read_text()) for place in (scanned, tmp_path / "out")
    )
    assert after == before
