from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

from hepllm.config import Config, LossConfig, TrainConfig, override_config
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.data.event_table import EventTable
from hepllm.errors import InputError, RunError
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import score_events
from hepllm.report.records import RunRecord
from hepllm.report.sets import EvaluatedSet
from hepllm.runs.folder import open_run, training_events
from hepllm.runs.hypotheses import with_hypotheses
from hepllm.runs.samples import collect_sets
from hepllm.runs.score_files import calibrate
from hepllm.schema import BACKGROUND
from hepllm.stages.evaluate import evaluate
from hepllm.stages.preprocess import preprocess
from hepllm.stages.train import _load_data, _prepare, resume, train

pytestmark = pytest.mark.usefixtures("undrawn_figures")
PROMISED_KEYS = (
    "n_signal",
    "n_background",
    "auc",
    "max_sic",
    "max_sic_interval",
    "sic_at_0.3",
    "sic_at_0.5",
    "accuracy",
)


@pytest.fixture(scope="module")
def config(tiny_config: Callable[..., Config]) -> Config:
    return tiny_config("preprocess.executor=serial")


@pytest.fixture(scope="module")
def folder(tiny_data: Path) -> Path:
    return tiny_data


@pytest.fixture(scope="module")
def trained(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that may be evaluated and gone on with."""
    return Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("chain") / "run"))


@pytest.fixture(scope="module")
def reports(folder: Path, trained: Path) -> dict[str, EvaluatedSet]:
    return {report.name: report for report in evaluate(trained, all_blackboxes=True)}


def test_a_run_says_what_it_was_trained_on(trained: Path, config: Config) -> None:
    run = open_run(trained)
    assert run.config == with_hypotheses(config, None)
    (start,) = run.record.starts
    assert {"date", "command", "versions"} == set(start.tree())
    written = json.loads((trained / "run.json").read_text())
    former = {key: value for key, value in written.items() if key != "schema_version"}
    assert written["schema_version"] == 1
    assert RunRecord.of_former_version(former) == written
    dataset = run.dataset()
    events = training_events(dataset, config.train, config.seed)
    assert run.record.n_train == {
        "signal": int((events.label == 1).sum()),
        "background": int((events.label == 0).sum()),
    }
    assert run.record.n_train["signal"] == run.record.n_train["background"]
    seen = set(run.used_events().tolist())
    assert seen == set(events.event_digest.tolist()) | set(
        run.validation_table(()).event_digest.tolist()
    )
    test_events = dataset.load((), "test").event_digest
    assert not seen & set(test_events.tolist())


def test_cuts_may_be_chosen_on_more_events_than_are_validated_on(
    folder: Path, config: Config, tmp_path: Path
) -> None:
    changes = ["train.epochs=1", "train.validation_events=6", "train.final_validation_events=20"]
    dataset = folder / "data" / "rnd"
    made = train(dataset, tmp_path / "run", override_config(config, changes), overwrite=False)
    assert sum(made.record.n_validation.values()) == 6
    run = open_run(made.folder)
    table = run.validation_table(config.train.feature_names())
    classifier, encoder = run.load_classifier()
    expected = score_events(classifier, encoder, ModelInputs(table.features), batch_size=32)
    assert len(run.validation_scores()) == 20
    np.testing.assert_allclose(run.validation_scores(), expected, atol=1e-3)
    np.testing.assert_array_equal(run.validation_labels()[0], table.label)
    assert set(table.event_digest.tolist()) <= set(run.used_events().tolist())


def validations(run: Path) -> list[dict[str, float]]:
    """What a training found at each validation."""
    lines = map(json.loads, (run / "history.jsonl").read_text().splitlines())
    return [
        {name.removeprefix("validation/"): value for name, value in line.items()}
        for line in lines
        if "validation/auc" in line
    ]


def test_training_beats_chance(trained: Path) -> None:
    assert max(found["auc"] for found in validations(trained)) > 0.7


def test_evaluation_writes_what_it_promises(reports: dict[str, EvaluatedSet]) -> None:
    assert set(reports) == {"rnd-test", "bb"}
    for report in reports.values():
        names = {file.name for file in report.files}
        assert names == {
            "metrics.json",
            "curves.json",
            "scores.parquet",
            "sic.png",
            "roc.png",
            "scores.png",
            "reliability.png",
            *(f"top_event_{place}.png" for place in (1, 2, 3)),
        }
        written = json.loads(report.files[0].read_text())
        assert written == json.loads(json.dumps(report.metrics.tree()))
        for key in PROMISED_KEYS:
            assert key in written
            assert key in written["baselines"]["boosting"]
        assert f"Classifiers on {report.name}" in report.text
    assert set(reports["rnd-test"].metrics.ablation) == {
        "nfa_permuted",
        "nfa_zeroed",
        "text_permuted",
    }


def test_scores_stand_beside_their_events(
    folder: Path, trained: Path, reports: dict[str, EvaluatedSet]
) -> None:
    table = pq.read_table(reports["bb"].files[1])
    assert table.column_names == ["event_id", "source", "label", "score", "probability"]
    assert sorted(table["event_id"].to_pylist()) == list(range(60))
    key = np.loadtxt(folder / "box.key")
    np.testing.assert_array_equal(table["label"], key[table["event_id"].to_numpy()])
    score, probability = (table[name].to_numpy() for name in ("score", "probability"))
    found = reports["bb"].metrics.calibration
    used = calibrate(open_run(trained), "auto").map
    assert (found.method, found.training_fraction) == (used.method, 0.5)
    assert "none" in {one.method for one in found.losses}
    np.testing.assert_allclose(
        np.log(probability / (1 - probability)), used.logits(score), atol=1e-6
    )
    assert table.schema.metadata[b"probability_prior"] == b"training balance 1:1"


def test_a_fresh_process_gives_the_same_scores(
    folder: Path, trained: Path, reports: dict[str, EvaluatedSet]
) -> None:
    expected = pq.read_table(reports["rnd-test"].files[1])["score"].to_numpy()
    reports["rnd-test"].files[1].unlink()
    command = [sys.executable, "-m", "hepllm.cli", "eval", str(trained), "--json", "-q"]
    command += ["--set", "evaluation.ablations=false", "--set", "evaluation.baselines=[]"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=dict(os.environ), timeout=300
    )
    assert set(json.loads(done.stdout)) == {"rnd-test"}
    again = pq.read_table(reports["rnd-test"].files[1])["score"].to_numpy()
    np.testing.assert_allclose(again, expected, atol=1e-3)


def test_a_raw_black_box_gives_what_its_dataset_gives(
    folder: Path, trained: Path, reports: dict[str, EvaluatedSet]
) -> None:
    (raw,) = evaluate(trained, blackbox=folder / "box.h5", masterkey=folder / "box.key")
    assert raw.metrics.auc.value == pytest.approx(reports["bb"].metrics.auc.value, abs=1e-6)


def test_a_dataset_is_one_set_though_it_is_a_black_box_too(folder: Path, trained: Path) -> None:
    run, bb = open_run(trained), folder / "data" / "bb"
    for named, expected in ((bb, ["rnd-test", "bb"]), (None, ["rnd-test", "bb"])):
        sets = collect_sets(run, dataset=named, blackbox=None, all_blackboxes=True, seen_by=())
        assert [one.name for one in sets] == expected


def test_events_that_were_trained_on_are_left_out(
    folder: Path,
    trained: Path,
    config: Config,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # The same events in a dataset of another split seed: the split alone would not protect.
    other = config.model_copy(
        update={
            "preprocess": config.preprocess.model_copy(
                update={"splits": config.preprocess.splits.model_copy(update={"seed": 7})}
            )
        }
    )
    preprocess([folder / "rnd.h5"], tmp_path / "again", other)
    (report,) = evaluate(trained, dataset=tmp_path / "again")
    n_seen = len(open_run(trained).used_events())
    assert report.metrics.n_excluded_as_seen == n_seen
    assert report.metrics.n_signal + report.metrics.n_background == 200 - n_seen
    assert "were seen in training" in caplog.text


def test_a_dataset_of_other_jets_is_refused(
    folder: Path, trained: Path, tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    other = tiny_config("preprocess.preset=diary", "preprocess.executor=serial")
    preprocess([folder / "rnd.h5"], tmp_path / "other", other)
    with pytest.raises(InputError, match="preprocess it with the same settings"):
        evaluate(trained, dataset=tmp_path / "other")


def test_without_labels_there_are_scores_only(folder: Path, trained: Path) -> None:
    (report,) = evaluate(trained, blackbox=folder / "box.h5")
    assert report.metrics.n_signal is None
    assert pq.read_table(report.files[1])["label"].unique().to_pylist() == [-1]


def test_a_model_that_follows_m_jj_takes_no_box_without_labels(
    folder: Path, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config("train.features=all", "train.epochs=1")
    train(folder / "data" / "rnd", tmp_path / "run", config, overwrite=False)
    with pytest.raises(InputError, match="sculpts a bump"):
        evaluate(tmp_path / "run", blackbox=folder / "box.h5")


def test_a_finished_run_resumes_to_itself_and_longer_training_goes_on(
    folder: Path, config: Config, trained: Path
) -> None:
    before = validations(trained)
    again = resume(trained, [])
    assert list(again.result.validations) == before == validations(trained)


def test_balance_and_rate_may_change_on_resume(
    folder: Path, config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1.0})})
    dataset = folder / "data" / "rnd"
    first = train(dataset, tmp_path / "run", short, overwrite=False)
    seen = set(open_run(first.folder).used_events().tolist())
    with caplog.at_level(logging.INFO, logger="hepllm"):
        again = resume(first.folder, ["train.balance=natural", "train.lr=5e-4", "train.epochs=2"])
    assert "from here on train.balance is natural (it was 1:1)" in caplog.text
    assert "from here on train.lr is 0.0005 (it was 0.001)" in caplog.text
    run = open_run(first.folder)
    assert run.config.train.lr == 5e-4
    natural = training_events(read_dataset(dataset), run.config.train, run.config.seed)
    assert run.record.n_train == {
        "signal": int((natural.label == 1).sum()),
        "background": int((natural.label == 0).sum()),
    }
    assert run.record.n_train["background"] > first.record.n_train["background"]
    assert again.result.steps == 2 * (len(natural) // config.train.batch_size)
    # What was seen under the first balance still counts as seen under a third.
    resume(first.folder, ["train.balance=2:1"])
    assert seen | set(natural.event_digest.tolist()) <= set(run.used_events().tolist())


def test_fewer_epochs_than_were_done_are_refused(trained: Path) -> None:
    before = (trained / "config.yaml").read_text()
    with pytest.raises(InputError, match=r"more than the \d+ of train.epochs=2; give more epochs"):
        resume(trained, ["train.epochs=2"])
    assert (trained / "config.yaml").read_text() == before


@pytest.mark.parametrize(
    "change", ["train.features=all", "seed=7", "backbone.lora.r=4", "prompt.layout=full"]
)
def test_what_the_weights_rest_on_stays_on_resume(trained: Path, change: str) -> None:
    before = (trained / "config.yaml").read_text()
    with pytest.raises(InputError, match="cannot change in a training that has begun"):
        resume(trained, [change])
    assert (trained / "config.yaml").read_text() == before


def test_a_run_does_not_go_on_with_another_dataset(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"not on {tmp_path}; leave the dataset out"):
        resume(trained, [], dataset_folder=tmp_path)


def test_a_run_folder_that_cannot_be_made_is_told_before_the_model_is_loaded(
    folder: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("hepllm.stages.train.make_classifier")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is not a folder that can be written to"):
        train(folder / "data" / "rnd", tmp_path / "file" / "run", config, overwrite=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_device_and_the_model_are_looked_for_before_events_are_read(
    folder: Path, config: Config, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("hepllm.stages.train._load_data")
    for change, told in (
        ("backbone.device=cuda", "cuda was asked for"),
        ("backbone.name=/no/such/model", "no such folder"),
    ):
        wrong = override_config(config, [change])
        with pytest.raises(InputError, match=told):
            train(folder / "data" / "rnd", tmp_path / "run", wrong, overwrite=False)
    with pytest.raises(InputError, match="cuda was asked for"):
        resume(trained, ["backbone.device=cuda"])


def test_events_in_two_splits_stop_the_training(
    folder: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "hepllm.stages.train.validation_events",
        lambda dataset, config, limit, seed, particles=0: training_events(
            dataset, config, seed, particles=particles
        ).take(np.arange(3, 40)),
    )
    with pytest.raises(RunError, match="37 events are in both the training and validation split"):
        train(folder / "data" / "rnd", tmp_path / "run", config, overwrite=False)
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_not_overwritten(
    folder: Path, config: Config, trained: Path, tmp_path: Path
) -> None:
    dataset = folder / "data" / "rnd"
    with pytest.raises(InputError, match="--resume, or replace it with --overwrite"):
        train(dataset, trained, config, overwrite=False)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="contains no run but other files; choose another"):
        train(dataset, tmp_path, config, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("change", ["backbone.name=/no/such/model", "train.memory_limit_gib=0.01"])
def test_a_start_that_fails_leaves_everything_as_it_was(
    folder: Path, trained: Path, config: Config, tmp_path: Path, change: str
) -> None:
    dataset, wrong = folder / "data" / "rnd", override_config(config, [change])
    shutil.copytree(trained, tmp_path / "run")
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    with pytest.raises(InputError):
        train(dataset, tmp_path / "new", wrong, overwrite=False)
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError):
        train(dataset, tmp_path / "run", wrong, overwrite=True)
    after = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    assert after == before


def test_processes_on_different_cards_must_have_one_precision(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With "auto", an RTX 2070 scales its loss, and an RTX 3070 does not."""
    classifier = SimpleNamespace(autocast_dtype=torch.float16)
    monkeypatch.setattr("hepllm.stages.train.make_classifier", lambda _: (classifier, None))
    monkeypatch.setattr("hepllm.stages.train.settle_memory", Mock())
    compared: dict[str, str] = {}
    team: Any = SimpleNamespace(
        threads=lambda _: 1, together=nullcontext, require_same=compared.update
    )
    record: Any = SimpleNamespace(n_train={"signal": 1, "background": 1}, weak=None)
    data: Any = SimpleNamespace(truth=None)
    _prepare(config, record, data, team)
    assert [text for name, text in compared.items() if "precision" in name] == ["torch.float16"]


def test_one_class_is_enough_where_the_objective_says_so(
    folder: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def background(dataset: Dataset, train: TrainConfig, seed: int, **options: Any) -> EventTable:
        table = training_events(dataset, train, seed, **options)
        return table.take(table.label == BACKGROUND)

    monkeypatch.setattr("hepllm.stages.train.training_events", background)
    dataset = read_dataset(folder / "data" / "rnd")
    with pytest.raises(InputError, match=r"leaves none of the \d+ signal events in its train"):
        _load_data(dataset, config)
    monkeypatch.setattr(LossConfig, "needs_both_classes", property(lambda _: False))
    data = _load_data(dataset, config)
    assert (data.train.label == BACKGROUND).all()
    assert set(data.validation.label.tolist()) == {0, 1}


def test_a_dataset_without_labels_cannot_train(
    folder: Path, config: Config, tmp_path: Path
) -> None:
    preprocess([folder / "box.h5"], tmp_path / "bb", config)
    with pytest.raises(InputError, match="no signal and no background events in its train split"):
        train(tmp_path / "bb", tmp_path / "run", config, overwrite=False)
    assert not (tmp_path / "run").exists()


def test_a_dataset_that_changed_is_noticed(
    folder: Path,
    config: Config,
    tmp_path: Path,
    write_lhco: Callable[..., Path],
    dijet_events: Callable[..., NDArray[np.float64]],
) -> None:
    file = write_lhco(tmp_path / "a.h5", dijet_events(80, seed=5))
    preprocess([file], tmp_path / "a", config)
    short = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1.0})})
    train(tmp_path / "a", tmp_path / "run", short, overwrite=False)
    write_lhco(tmp_path / "a.h5", dijet_events(80, seed=6))
    preprocess([file], tmp_path / "a", config, overwrite=True)
    with pytest.raises(InputError, match="contents have changed"):
        evaluate(tmp_path / "run")
    assert read_dataset(tmp_path / "a").n_events == 80


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("run.json", "not a run"),
        ("config.yaml", "not a run"),
        ("checkpoints/best.json", "no checkpoint here"),
        ("events.parquet", "did not finish"),
        ("validation.parquet", "did not finish"),
    ],
)
def test_a_run_without_one_of_its_files_is_named(
    missing: str, expected: str, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "copy")
    (tmp_path / "copy" / missing).unlink()
    with pytest.raises(InputError, match=expected):
        evaluate(tmp_path / "copy")
