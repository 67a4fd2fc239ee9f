"""Scores of every kind of input, the same as eval gives, whole or not at all."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
import uproot
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from hepllm import cli
from hepllm.arrays import Floats
from hepllm.config import override_config
from hepllm.data.dataset import read_dataset
from hepllm.errors import InputError, RunError
from hepllm.model.inputs import ModelInputs
from hepllm.model.prompts import render
from hepllm.runs.predictor import Predictor, load_predictor
from hepllm.runs.run_model import PieceScorer
from hepllm.stages import predict as stage
from hepllm.stages.evaluate import evaluate
from hepllm.stages.predict import Prediction, predict, prediction_config, rows_of_texts


@pytest.fixture(scope="module")
def folder(tiny_data: Path, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run, and a black box of 60 events as a file and as a dataset."""
    folder = tmp_path_factory.mktemp("predict")
    shutil.copytree(tiny_data, folder, dirs_exist_ok=True)
    shutil.copytree(tiny_run, folder / "run")
    return folder


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return load_predictor(folder / "run")


@pytest.fixture(scope="module")
def expected(folder: Path) -> pa.Table:
    """What eval writes about the black box."""
    (report,) = evaluate(folder / "run", dataset=folder / "data" / "bb")
    return pq.read_table(report.files[1])


def run(
    predictor: Predictor, source: Path, output: Path, *overrides: str, overwrite: bool = False
) -> Prediction:
    changes = ["preprocess.chunk_size=25", *overrides]
    config = override_config(prediction_config(predictor.run), changes)
    return predict(predictor, source, output, config, overwrite=overwrite)


def feature_table(folder: Path, path: Path) -> Path:
    dataset = read_dataset(folder / "data" / "bb")
    names = [name for name in dataset.manifest.features if "softdrop" not in name]
    events = dataset.load(names)
    columns = {name: events.column(name) for name in names}
    pq.write_table(pa.table({**columns, "label": events.label}), path)
    return path


@pytest.mark.parametrize(
    ("kind", "ending"), list(product(["events", "dataset", "features"], ["parquet", "csv", "root"]))
)
def test_every_input_and_format_has_the_scores_of_eval(
    kind: str,
    ending: str,
    *,
    folder: Path,
    predictor: Predictor,
    expected: pa.Table,
    tmp_path: Path,
) -> None:
    source = {
        "events": lambda: folder / "bb.h5",
        "dataset": lambda: folder / "data" / "bb",
        "features": lambda: feature_table(folder, tmp_path / "bb.parquet"),
    }[kind]()
    output = tmp_path / f"scores.{ending}"
    made = run(predictor, source, output)
    assert (made.n_events, made.n_scored) == (60, 60)
    found = read(output)
    for name in ("event_id", "label"):
        np.testing.assert_array_equal(found[name], expected[name].to_numpy())
    for name in ("score", "probability"):
        np.testing.assert_allclose(found[name], expected[name].to_numpy(), atol=1e-3)
    assert set(tmp_path.iterdir()) <= {output, tmp_path / "bb.parquet"}


def read(path: Path) -> dict[str, NDArray[np.float64]]:
    if path.suffix == ".root":
        with uproot.open(path) as file:
            assert str(file["probability_prior"]) == "training balance 1:1"
            assert str(file["sources"]) == "bb"
            columns: dict[str, NDArray[np.float64]] = file["scores"].arrays(library="np")
            return columns
    table = pacsv.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)
    if path.suffix == ".parquet":
        prior = table.schema.field("probability").metadata[b"prior"]
        assert prior == b"training balance 1:1"
    return {name: table[name].to_numpy() for name in ("event_id", "label", "score", "probability")}


def test_a_stopped_run_goes_on_with_what_is_missing(
    folder: Path,
    predictor: Predictor,
    expected: pa.Table,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output, whole = tmp_path / "scores.parquet", PieceScorer.columns
    calls = []

    def break_off(self: PieceScorer, rows: ModelInputs) -> dict[str, Floats]:
        calls.append(len(rows))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(self, rows)

    monkeypatch.setattr(PieceScorer, "columns", break_off)
    with pytest.raises(KeyboardInterrupt):
        run(predictor, folder / "bb.h5", output)
    assert not output.exists()
    made = run(predictor, folder / "bb.h5", output)
    assert calls == [25, 25, 25, 10]
    assert (made.n_events, made.n_scored) == (60, 35)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet"]
    found = pq.read_table(output)["score"].to_numpy()
    np.testing.assert_allclose(found, expected["score"].to_numpy(), atol=1e-3)


def test_unfinished_work_of_another_input_is_not_mixed_in(
    folder: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "scores.csv"

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(stage, "_assemble", fail)
        with pytest.raises(RunError, match="disk full"):
            run(predictor, folder / "bb.h5", output)
    with pytest.raises(InputError, match="an unfinished run with other inputs"):
        run(predictor, folder / "rnd.h5", output)
    assert run(predictor, folder / "rnd.h5", output, overwrite=True).n_scored == 200


def test_the_prior_is_stated_or_estimated(
    folder: Path, predictor: Predictor, tmp_path: Path
) -> None:
    stated = run(predictor, folder / "bb.h5", tmp_path / "a.parquet", "evaluation.prior=0.001")
    assert stated.prior == "stated signal fraction 0.001"
    table = pq.read_table(tmp_path / "a.parquet")
    score, probability = table["score"].to_numpy(), table["probability"].to_numpy()
    calibrated = predictor.calibration.map.logits(score, 0.001)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-calibrated)), rtol=1e-9)
    found = run(predictor, folder / "bb.h5", tmp_path / "b.parquet", "evaluation.prior=estimate")
    assert found.prior.startswith("estimated signal fraction")


def test_what_cannot_be_scored_or_written_is_told(
    folder: Path, predictor: Predictor, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"one of \.parquet, \.csv, \.root"):
        run(predictor, folder / "bb.h5", tmp_path / "scores.txt")
    (tmp_path / "scores.csv").touch()
    with pytest.raises(InputError, match="--overwrite"):
        run(predictor, folder / "bb.h5", tmp_path / "scores.csv")
    with pytest.raises(InputError, match=r"gone\.h5"):
        run(predictor, folder / "gone.h5", tmp_path / "new.csv")
    pq.write_table(pa.table({"m_jj": [3000.0, 3100.0]}), tmp_path / "poor.parquet")
    with pytest.raises(InputError, match="have none of the model's features"):
        run(predictor, tmp_path / "poor.parquet", tmp_path / "new.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"scores.csv", "poor.parquet"}


def test_a_pasted_prompt_is_the_event_that_it_was(
    folder: Path, predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    events = read_dataset(folder / "data" / "bb").load(predictor.names)
    texts = [
        render(dict(zip(predictor.names, row, strict=True)), predictor.names, "full", fusion=False)
        for row in events.features[:5]
    ]
    rows = rows_of_texts(texts, predictor.names)
    np.testing.assert_allclose(rows, events.features[:5], atol=1e-9)
    with caplog.at_level("WARNING", "hepllm"):
        short = rows_of_texts(["event m=0123 t=0.45"], predictor.names)
    assert np.isfinite(short).sum() == 2
    assert "treated as missing" in caplog.text
    with pytest.raises(InputError, match="no feature found"):
        rows_of_texts(["hello"], predictor.names)
    with pytest.raises(InputError, match="none of the model's features"):
        rows_of_texts(["m_jj: 3500.0000000000"], predictor.names)
    with pytest.raises(InputError, match="the text has no values of the model's features"):
        rows_of_texts(["event m=9999 t=9.99"], predictor.names)


def test_the_command_line_scores_files_and_texts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str | Path) -> Result:
        line = ["predict", str(folder / "run"), *map(str, arguments), "-q"]
        return CliRunner().invoke(cli.cli, line)

    done = command(folder / "bb.h5", "--output", tmp_path / "s.csv", "--prior", "0.01")
    assert done.exit_code == 0, done.output
    assert "60 events" in done.stdout
    assert "stated signal fraction 0.01" in done.stdout
    assert (tmp_path / "s.csv").read_text().count("\n") == 61
    done = command("--text", "event m=0123 dm=0400 t=0.30 T=0.20")
    assert done.stdout.startswith("score ")
    assert command().exit_code == 2  # nothing to score
    assert command(folder / "bb.h5").exit_code == 0
    assert pq.read_table(tmp_path / "scores" / "bb.parquet").num_rows == 60


@pytest.mark.parametrize("kind", ["bb.h5", "data/bb"])
@pytest.mark.parametrize("ending", ["parquet", "csv", "root"])
def test_features_are_kept_beside_the_scores(
    kind: str, ending: str, *, folder: Path, predictor: Predictor, tmp_path: Path
) -> None:
    config = override_config(prediction_config(predictor.run), ["preprocess.chunk_size=25"])
    output, keep = tmp_path / f"s.{ending}", ["m_jj", "jet_mass_light", "m_jj"]
    predict(predictor, folder / kind, output, config, keep=keep)
    events = read_dataset(folder / "data" / "bb").load(["m_jj", "jet_mass_light"])
    if ending == "root":
        with uproot.open(output) as file:
            found = file["scores"].arrays(library="np")
    else:
        table = pacsv.read_csv(output) if ending == "csv" else pq.read_table(output)
        assert table.column_names[-2:] == ["m_jj", "jet_mass_light"]
        found = {name: table[name].to_numpy() for name in table.column_names}
    for name in ("m_jj", "jet_mass_light"):
        np.testing.assert_allclose(found[name], events.column(name), rtol=1e-12)
    with pytest.raises(InputError, match=r"has no feature 'mjj' \(did you mean 'm_jj'\?\)"):
        predict(predictor, folder / kind, tmp_path / "t.csv", config, keep=["mjj"])
    assert list(tmp_path.iterdir()) == [output]


def test_scores_go_where_a_link_points(folder: Path, predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "s.csv").symlink_to(tmp_path / "disk" / "large")
    run(predictor, folder / "data" / "bb", tmp_path / "s.csv")
    assert (tmp_path / "s.csv").is_symlink()
    assert pacsv.read_csv(tmp_path / "disk" / "large").num_rows == 60
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["large"]
