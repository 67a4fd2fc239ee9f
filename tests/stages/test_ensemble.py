"""Ensembles of runs: their scores, what these are worth, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from hepllm.cli import cli
from hepllm.config import override_config
from hepllm.data.dataset import read_dataset
from hepllm.data.notes import find_events, read_notes
from hepllm.errors import InputError
from hepllm.evaluation.averaging import EnsembleRecord
from hepllm.evaluation.metrics import auc
from hepllm.evaluation.scores import scored_events
from hepllm.runs import members
from hepllm.runs.folder import open_run
from hepllm.runs.members import name_members, score_members
from hepllm.runs.score_files import calibrate
from hepllm.runs.scored_datasets import join_scores
from hepllm.stages.ensemble import average_runs
from hepllm.stages.evaluate import evaluate

pytestmark = pytest.mark.usefixtures("undrawn_figures")
_QUICK = ["evaluation.baselines=[]", "evaluation.ablations=false", "evaluation.bootstrap=50"]


@pytest.fixture(scope="module")
def folder(recipes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that may be scored."""
    folder = tmp_path_factory.mktemp("ensemble")
    return Path(shutil.copytree(recipes, folder, dirs_exist_ok=True))


def test_a_run_and_its_copy_are_the_run(tiny_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    runs = [Path(shutil.copytree(tiny_run, tmp_path / name)) for name in ("a", "b")]
    dataset = tiny_data / "data" / "bb"
    command = ["ensemble", *map(str, runs), "--dataset", str(dataset)]
    options = ["--output", str(tmp_path / "mean"), "--set", "evaluation.bootstrap=50"]
    done = CliRunner().invoke(cli, [*command, *options])
    assert done.exit_code == 0, done.output
    assert "Ensemble on bb" in done.output
    run = open_run(runs[0])
    config = override_config(run.config, _QUICK)
    (alone,) = evaluate(runs[0], dataset=dataset, config=config)
    notes = read_notes(tmp_path / "mean" / "scores.parquet", "")
    assert not notes.column("spread").any()
    own = pq.read_table(runs[0] / "eval" / "bb" / "scores.parquet")
    np.testing.assert_array_equal(notes.column("event_id"), own["event_id"].to_numpy())
    expected = calibrate(run, config.evaluation.calibration).map.logits(own["score"].to_numpy())
    np.testing.assert_allclose(notes.column("score"), expected, rtol=1e-12)
    record = EnsembleRecord.read(tmp_path / "mean" / "ensemble.json", "")
    assert record.results is not None
    assert [one.run for one in record.members] == ["../a", "../b"]
    assert record.results.auc.value == pytest.approx(alone.metrics.tree()["auc"])
    assert record.results.paired["a"].auc.estimate == pytest.approx(0)

    # The folder stands for its members, also when all was moved together.
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("a", "b", "mean"):
        shutil.move(tmp_path / name, moved / name)
    again = ["ensemble", str(moved / "mean"), "--dataset", str(dataset), "--json"]
    done = CliRunner().invoke(cli, [*again, "--output", str(tmp_path / "again"), *options[2:]])
    assert done.exit_code == 0, done.output
    assert [one["run"] for one in json.loads(done.stdout)["bb"]["members"]] == [
        "../moved/a",
        "../moved/b",
    ]

    box = join_scores(dataset, tmp_path / "again" / "scores.parquet", config)
    np.testing.assert_array_equal(box.box.events.score, notes.column("score"))


def test_seeds_and_a_baseline_are_measured_on_their_test_events(
    folder: Path, tmp_path: Path
) -> None:
    runs = [folder / "seed1", folder / "seed2"]
    config = override_config(open_run(runs[0]).config, _QUICK)
    made = average_runs(runs, config, tmp_path, baselines=["boosting_extended"])
    notes, results = read_notes(tmp_path / "scores.parquet", ""), made.record.results
    assert results is not None
    names = ["seed1", "seed2", "boosting_extended"]
    logits = np.stack([notes.column(f"score_{name}") for name in names])
    np.testing.assert_allclose(notes.column("score"), logits.sum(axis=0) / 3)
    assert (notes.column("spread") > 0).all()
    table = read_dataset(folder / "rnd").load((), "test")
    np.testing.assert_array_equal(notes.event_digest, table.event_digest)
    areas = {}
    for name, column in (("ensemble", "score"), *((one, f"score_{one}") for one in names)):
        areas[name] = auc(scored_events(notes.column(column), table.label)).value or 0.0
        assert results.classifiers[name].auc.value == pytest.approx(areas[name])
    assert set(results.paired) == set(names)
    for name, pair in results.paired.items():
        assert pair.auc.estimate == pytest.approx(areas["ensemble"] - areas[name])


def test_events_of_any_training_are_left_out(folder: Path) -> None:
    runs = [open_run(folder / name) for name in ("seed1", "natural")]
    settings = override_config(runs[0].config, _QUICK).evaluation
    found = score_members(runs, (), folder / "rnd", settings, threads=1)
    for run in runs:
        assert (find_events(found.chosen.table.event_digest, run.used_events()) < 0).all()
    shared = found.shared_validation()
    for member, logits in zip(found.members, shared.logits, strict=True):
        assert np.isin(logits, member.validation).all()
    # Logits of a run with another balance are for the first run's signal fraction.
    natural = found.members[1]
    assert natural.calibration.prior != found.prior
    shift = np.log(found.prior / (1 - found.prior))
    shift -= np.log(natural.calibration.prior / (1 - natural.calibration.prior))
    own = natural.calibration.logits(natural.run.validation_scores())
    np.testing.assert_allclose(natural.validation, own + shift)


def test_runs_that_cannot_be_joined_are_refused(
    folder: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (open_run(folder / name) for name in ("seed1", "seed2"))
    config = override_config(first.config, _QUICK)
    with pytest.raises(InputError, match="at least two members"):
        average_runs([first.folder], config, tmp_path)
    with pytest.raises(InputError, match="trained on another dataset"):
        average_runs([first.folder, tiny_run], config, tmp_path)
    with pytest.raises(InputError, match="no baseline 'forest'; there are boosting,"):
        average_runs([first.folder], config, tmp_path, baselines=["forest"])
    cascaded = override_config(config, ["evaluation.cascade=0.1"])
    with pytest.raises(InputError, match="set it to null"):
        average_runs([first.folder, second.folder], cascaded, tmp_path)
    features = second.config.train.model_copy(update={"features": "all"})
    unsafe = replace(second, config=second.config.model_copy(update={"train": features}))
    monkeypatch.setattr(members, "check_backbone", lambda _: None)
    assert unsafe.is_search_safe != first.is_search_safe
    with pytest.raises(InputError, match=r"seed[12]: reads features that follow m_jj"):
        score_members([first, unsafe], (), None, config.evaluation, threads=1)
    assert not list(tmp_path.iterdir())


def test_runs_are_named_by_as_much_of_their_folders_as_tells_them_apart(tmp_path: Path) -> None:
    runs = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    assert name_members(runs, ()) == ["a-run", "b-run"]
    assert name_members([runs[0], tmp_path / "mlp"], ["mlp"])[0] == "a-run"
    assert name_members([tmp_path / "x", tmp_path / "y"], ()) == ["x", "y"]
    with pytest.raises(InputError, match="given twice"):
        name_members([runs[0], runs[0]], ())
