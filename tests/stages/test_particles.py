"""A model that reads the constituents of jets: the same scores by every way, and clear refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from hepllm.api import EventClassifier
from hepllm.config import Config, override_config
from hepllm.data.dataset import read_dataset
from hepllm.errors import InputError
from hepllm.learning.inputs import model_inputs
from hepllm.runs.folder import open_run
from hepllm.runs.kept_scores import hash_events
from hepllm.runs.predictor import load_predictor
from hepllm.runs.run_baselines import RunBaselines
from hepllm.stages.evaluate import evaluate
from hepllm.stages.explain import explain
from hepllm.stages.predict import predict, predict_texts, prediction_config
from hepllm.stages.preprocess import preprocess
from hepllm.stages.train import train

pytestmark = pytest.mark.usefixtures("undrawn_figures")

SETTINGS = (
    "preprocess.particles_per_jet=8",
    "preprocess.executor=serial",
    "fusion.particles.max_constituents=6",
    "fusion.particles.width=16",
    "evaluation.bootstrap=20",
    "evaluation.baselines=[boosting, particles]",
)


@pytest.fixture(scope="module")
def folder(
    make_once: Callable[[str, Callable[[Path], None]], Path],
    tiny_config: Callable[..., Config],
    tiny_data: Path,
) -> Path:
    """The dataset ``data``, and the runs ``both`` and ``particles`` by what they read.

    The first also reads numbers in its text, and the second nothing else than particles.
    """

    def fill(place: Path) -> None:
        for name in ("both", "particles"):
            layout = "compact" if name == "both" else "minimal"
            settings = (f"fusion.inputs={name}", f"prompt.layout={layout}")
            config = tiny_config(*SETTINGS, *settings)
            if not (place / "data").exists():
                preprocess([tiny_data / "rnd.h5"], place / "data", config)
            train(place / "data", place / name, config, overwrite=False)

    return make_once("particle-runs", fill)


def scores_of(folder: Path, name: str, events: Path, tmp_path: Path, *settings: str) -> NDArray:
    predictor = load_predictor(folder / name)
    config = override_config(prediction_config(predictor.run), settings)
    made = predict(predictor, events, tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet", config)
    return pq.read_table(made.path)["score"].to_numpy()


@pytest.mark.parametrize("name", ["both", "particles"])
def test_files_datasets_workers_and_arrays_have_equal_scores(
    name: str,
    folder: Path,
    tiny_data: Path,
    tmp_path: Path,
    dijet_events: Callable[..., NDArray[np.float64]],
) -> None:
    from_dataset = scores_of(folder, name, folder / "data", tmp_path)
    from_file = scores_of(folder, name, tiny_data / "rnd.h5", tmp_path, "preprocess.chunk_size=70")
    assert from_dataset.std() > 0
    np.testing.assert_allclose(from_file, from_dataset, atol=1e-4)
    rows = dijet_events(200, seed=1)[:20, :-1].reshape(20, -1, 3)
    particles = ak.Array(
        [[dict(zip(("pt", "eta", "phi"), one, strict=True)) for one in row] for row in rows]
    )
    classifier = EventClassifier.load(folder / name)
    scores = classifier.score(particles[particles["pt"] > 0])
    np.testing.assert_allclose(scores, from_dataset[:20], atol=1e-3)


@pytest.mark.slow
def test_workers_read_particles_too(folder: Path, tiny_data: Path, tmp_path: Path) -> None:
    alone = scores_of(folder, "both", tiny_data / "rnd.h5", tmp_path, "preprocess.chunk_size=70")
    workers = ("preprocess.chunk_size=70", "evaluation.scoring.workers=2")
    by_two = scores_of(folder, "both", tiny_data / "rnd.h5", tmp_path, *workers)
    np.testing.assert_allclose(by_two, alone, atol=1e-5)


def test_the_constituents_decide_the_score(folder: Path) -> None:
    predictor = load_predictor(folder / "particles")
    run = predictor.run
    table = run.dataset().load(predictor.names, "test", particles=6)
    inputs = model_inputs(table)
    before = predictor.score(inputs)
    order = np.roll(np.arange(len(inputs)), 1)
    assert np.abs(predictor.score(inputs.exchange(order, "particles")) - before).mean() > 0.01
    np.testing.assert_array_equal(predictor.score(inputs.exchange(order, "numbers")), before)
    others = hash_events(inputs.exchange(order, "particles"))
    assert not (others == hash_events(inputs)).any()


def test_an_evaluation_destroys_numbers_and_particles(folder: Path) -> None:
    (both,) = evaluate(folder / "both")
    assert {"nfa_permuted", "particles_permuted"} <= both.metrics.ablation.keys()
    assert "particles" in both.metrics.baselines
    (alone,) = evaluate(folder / "particles")
    assert "particles_permuted" not in alone.metrics.ablation
    kept = (folder / "both" / "scores" / "data-test" / "llm.parquet").stat().st_mtime_ns
    evaluate(folder / "both")
    assert (folder / "both" / "scores" / "data-test" / "llm.parquet").stat().st_mtime_ns == kept


def test_a_set_without_particles_has_no_baseline_of_them(
    tiny_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run = open_run(Path(shutil.copytree(tiny_run, tmp_path / "run")))
    assert "particles" in run.config.evaluation.baselines
    assert "particles" not in RunBaselines.of(run, run.config.evaluation.baselines).names


def test_the_constituents_are_one_part_of_an_explanation(folder: Path, tmp_path: Path) -> None:
    predictor = load_predictor(folder / "both")
    config = prediction_config(predictor.run)
    (report,) = explain(predictor, config, ["7"], output=tmp_path)
    found = report.tree["attribution"]
    assert found["particles"] != 0
    assert found["sum"] == pytest.approx(found["difference"], abs=found["tolerance"])
    assert found["sum"] == pytest.approx(found["numbers"] + found["text"] + found["particles"])
    assert "The constituents of both jets contribute" in report.text


def test_events_without_particles_are_refused(
    folder: Path, tiny_data: Path, tmp_path: Path
) -> None:
    predictor, plain = load_predictor(folder / "both"), tiny_data / "data" / "rnd"
    config = predictor.run.config
    needed = r"particles_per_jet=6"
    with pytest.raises(InputError, match=needed):
        train(plain, tmp_path / "run", config, overwrite=False)
    with pytest.raises(InputError, match=needed):
        predict(predictor, plain, tmp_path / "scores.parquet", prediction_config(predictor.run))
    with pytest.raises(InputError, match=needed):
        evaluate(folder / "both", dataset=tiny_data / "data" / "bb")
    with pytest.raises(InputError, match=needed):
        explain(predictor, config, ["7"], source=plain)
    with pytest.raises(InputError, match="a text does not have"):
        predict_texts(predictor, ["jet1_mass: 100"], "training")
    with pytest.raises(InputError, match="awkward array"):
        EventClassifier.load(folder / "both").score({"jet_mass_light": [90.0]})


def test_features_alone_cannot_be_scored(folder: Path, tmp_path: Path) -> None:
    table = read_dataset(folder / "data").load(("jet1_mass", "jet2_mass"))
    file = tmp_path / "features.csv"
    np.savetxt(file, table.features, delimiter=",", header="jet1_mass,jet2_mass", comments="")
    predictor = load_predictor(folder / "both")
    with pytest.raises(InputError, match="no particles, which the model reads"):
        predict(predictor, file, tmp_path / "s.csv", prediction_config(predictor.run))


def test_a_run_records_what_it_reads(folder: Path) -> None:
    run = open_run(folder / "particles")
    assert run.config.fusion.constituents == 6
    assert json.loads((run.folder / "run.json").read_text())["n_train"]["signal"] > 0
