"""Trainings without labels: what they read, who has seen what, and a search with them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from hepllm import cli
from hepllm.config import Config, override_config
from hepllm.data.dataset import read_dataset
from hepllm.errors import InputError
from hepllm.learning.checkpoint import best_validation, newest_checkpoint
from hepllm.runs.folder import open_run
from hepllm.runs.weak_box import open_weak_inputs
from hepllm.runs.weak_datasets import write_fold_dataset
from hepllm.schema import BACKGROUND, SIGNAL
from hepllm.stages.evaluate import evaluate
from hepllm.stages.predict import predict
from hepllm.stages.preprocess import preprocess
from hepllm.stages.search import search_weakly
from hepllm.stages.weak_training import (
    BoxModels,
    FoldModels,
    model_config,
    open_fold_models,
    resume_weakly,
    train_weakly,
)
from hepllm.weak.origin import WeakRuns

pytestmark = pytest.mark.usefixtures("undrawn_figures")

QUICK = (
    *("preprocess.executor=serial", "preprocess.splits.train=0.6", "preprocess.splits.val=0.15"),
    *("train.epochs=1", "train.batch_size=128", "train.nfa_alone.epochs=12"),
    *("prompt.layout=question", "evaluation.search.workers=1", "evaluation.baselines=[]"),
    *("evaluation.search.efficiencies=[0.03]", "evaluation.search.toys=100"),
    "evaluation.search.max_toys=100",
    *("evaluation.search.limit_step=0.2", "evaluation.search.limit_toys=20"),
    *("evaluation.search.weak.features=cathode", "evaluation.search.weak.folds=2"),
    *("evaluation.search.weak.region=[3300,3700]", "evaluation.search.weak.sideband=0.1"),
    "evaluation.search.weak.min_events=100",
)


@pytest.fixture(scope="module")
def config(tiny_config: Callable[..., Config]) -> Config:
    return tiny_config(*QUICK)


@pytest.fixture(scope="module")
def make_box(resonance_table: Callable[..., Path]) -> Callable[..., Path]:
    """``make_box(folder, config)`` preprocesses a table with a resonance."""

    def make(folder: Path, config: Config, permuted: bool = False, seed: int = 1) -> Path:
        file = folder / "t.csv"
        table = resonance_table(file, 3000, 150, seed=seed, width=80, permuted=permuted)
        preprocess([table], folder / "box", config)
        return folder / "box"

    return make


@pytest.fixture(scope="module")
def box(
    tmp_path_factory: pytest.TempPathFactory, make_box: Callable[..., Path], config: Config
) -> Path:
    return make_box(tmp_path_factory.mktemp("weak"), config)


@pytest.fixture(scope="module")
def trained(box: Path, config: Config) -> Path:
    return train_weakly(box, box.parent / "runs", config, overwrite=False).folder


def test_classes_are_called_what_they_are(
    box: Path, config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says data and template, and that nearly equal scores are no collapse."""
    quick = override_config(config, ["train.nfa_alone.epochs=0"])
    models = FoldModels(tmp_path / "runs", model_config(quick))
    inputs = open_weak_inputs(box, models.config, all_columns=True)
    with caplog.at_level("INFO"):
        models.trained(inputs, inputs.tasks[0])
    assert re.search(r"training on \d+ data and \d+ template events", caplog.text)
    assert "collapsed" not in caplog.text


def test_what_is_recorded(trained: Path, box: Path) -> None:
    record = WeakRuns.read(trained / "weak_runs.json", "")
    assert [one.fold for one in record.finished] == [0, 1]
    assert all(one.validation_argos is not None for one in record.finished)
    for fold in range(2):
        run = open_run(trained / f"fold-{fold}")
        assert run.record.weak == record.origin.model_copy(update={"fold": fold})
        best = best_validation(run.checkpoints)
        newest = newest_checkpoint(run.checkpoints)
        assert newest is not None
        found = json.loads((newest / "state.json").read_text())["validations"]
        assert best["argos"] == best["merit"] == max(one["argos"] for one in found)
        weak = run.config.evaluation.search.weak
        assert weak.region == record.origin.region_gev
        assert (weak.template, weak.folds, run.config.train.choose_by) == ("sidebands", 2, "argos")
    assert record.origin.dataset_digest == read_dataset(box).digest
    low, high = record.origin.region_gev
    assert low == pytest.approx(3300, rel=0.03)
    assert high == pytest.approx(3700, rel=0.03)


def test_a_run_has_not_seen_its_fold(trained: Path, box: Path, config: Config) -> None:
    inputs = open_weak_inputs(box, model_config(config))
    seen = []
    for task in inputs.tasks:
        dataset = read_dataset(trained / "data" / f"fold-{task.fold}")
        used = open_run(trained / f"fold-{task.fold}").used_events()
        mine = inputs.table.event_digest[inputs.fold == task.fold]
        assert not np.isin(used, mine).any()
        seen.append(used)
        tables = {split: dataset.load(("m_jj",), split) for split in ("train", "val", "test")}
        assert np.isin(tables["test"].event_digest, mine).all()
        assert np.isin(tables["train"].event_digest, used).all()
        for table in tables.values():
            is_data = table.label == SIGNAL
            m_jj, weight = table.column("m_jj"), table.weight
            np.testing.assert_array_equal(is_data, task.region.signal(m_jj))
            assert weight[~is_data].sum() == pytest.approx(is_data.sum())
        lower = task.region.lower(tables["train"].column("m_jj"))
        upper = task.region.upper(tables["train"].column("m_jj"))
        weight = tables["train"].weight
        assert weight[lower].sum() == pytest.approx(weight[upper].sum(), rel=0.15)
    inside = task.region.signal(inputs.data.m_jj) | task.region.sidebands(inputs.data.m_jj)
    assert set(np.concatenate(seen)) <= set(inputs.table.event_digest[inside])


@pytest.mark.parametrize("change", ["permuted", "absent"])
def test_truth_changes_nothing(
    change: str, trained: Path, config: Config, tmp_path: Path, make_box: Callable[..., Path]
) -> None:
    """Neither other labels nor none: the model gives the same scores to the same events."""
    settings = ["preprocess.label=none"] if change == "absent" else []
    other = make_box(tmp_path, override_config(config, settings), permuted=change == "permuted")
    models = FoldModels(tmp_path / "runs", model_config(config))
    inputs = open_weak_inputs(other, models.config, all_columns=True)
    run = models.trained(inputs, inputs.tasks[0])
    expected = open_run(trained / "fold-0")
    assert read_dataset(other).digest != read_dataset(expected.record.weak.dataset).digest  # type: ignore[union-attr]
    np.testing.assert_array_equal(run.used_events(), expected.used_events())
    np.testing.assert_array_equal(run.validation_scores(), expected.validation_scores())


def test_a_search_with_the_runs(trained: Path, box: Path, tmp_path: Path) -> None:
    config = open_fold_models(trained).config
    found = search_weakly(box, config, tmp_path / "out", runs=trained)
    assert found.submission.p_value < 0.05
    assert found.weak is not None
    assert (found.weak.n_trainings, found.weak.config.classifier) == (2, "model")
    assert not (tmp_path / "out" / "models").exists()
    scores = pq.read_table(tmp_path / "out" / "scores.parquet")
    inputs = open_weak_inputs(box, config, all_columns=True)
    np.testing.assert_array_equal(scores["fold"].to_numpy(), inputs.fold)
    for task in inputs.tasks:
        joined = scores["score"].to_numpy()[inputs.fold == task.fold]
        raw = FoldModels(trained, config, is_trained=True)(inputs, task)
        assert np.array_equal(raw[np.argsort(joined)], np.sort(raw))
    # With another seed, events would be scored by a run that has seen them.
    others = {
        "evaluation.select=tau21_light < 0.8": r"has seen \d+ of the \d+ events that it is to",
        "evaluation.search.weak.folds=3": "against the template sidebands in 2 folds",
        "seed=5": "seed cannot change",
    }
    for change, message in others.items():
        changed = override_config(config, [change])
        with pytest.raises(InputError, match=message):
            search_weakly(box, changed, tmp_path / "b", runs=trained)
    assert not (tmp_path / "b").exists()


def test_a_stopped_training_goes_on(trained: Path, box: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "runs"))
    scores = open_run(folder / "fold-1").validation_scores()
    record = WeakRuns.read(folder / "weak_runs.json", "")
    shutil.rmtree(folder / "fold-1")
    record.model_copy(update={"finished": record.finished[:1]}).write(folder / "weak_runs.json")
    config = open_fold_models(folder).config
    with pytest.raises(InputError, match="not finished; go on with: hepllm train --resume"):
        search_weakly(box, config, tmp_path / "out", runs=folder)
    before = (folder / "fold-0" / "run.json").stat().st_mtime_ns
    assert resume_weakly(folder).record == record
    np.testing.assert_array_equal(open_run(folder / "fold-1").validation_scores(), scores)
    assert (folder / "fold-0" / "run.json").stat().st_mtime_ns == before


def test_events_of_the_training_are_not_scored_by_it(
    trained: Path, box: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from hepllm.runs.predictor import load_predictor

    folder = Path(shutil.copytree(trained, tmp_path / "runs"))
    run = open_run(folder / "fold-0")
    predictor = load_predictor(folder / "fold-0")
    for source in (box, box.parent / "t.csv"):
        with pytest.raises(InputError, match=r"was trained on; .* hepllm search .* --run "):
            predict(predictor, source, tmp_path / "s.parquet", run.config)
    assert "what it calls signal are data" in caplog.text
    (own,) = evaluate(folder / "fold-0")
    (other,) = evaluate(folder / "fold-0", dataset=box)
    assert own.metrics.n_excluded_as_seen == 0
    for one in (own, other):
        assert one.metrics.weak == run.record.weak
        assert "trained without labels, on data of 3338 to 3688 GeV" in " ".join(one.text.split())
    assert other.metrics.n_excluded_as_seen == len(run.used_events())
    with pytest.raises(InputError, match="a run for each fold of a box"):
        evaluate(folder)


def test_a_search_trains_its_models(
    box: Path, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = override_config(config, ["evaluation.search.weak.classifier=model"])
    found = search_weakly(box, changed, tmp_path / "out")
    assert found.submission.p_value < 0.05
    (region,) = (tmp_path / "out" / "models").iterdir()
    assert (region / "fold-1" / "validation.parquet").is_file()
    monkeypatch.setattr("hepllm.stages.weak_training.train", None)  # it is not called again
    models = BoxModels(tmp_path / "out" / "models", model_config(changed))
    inputs = open_weak_inputs(box, models.config, all_columns=True)
    scores = pq.read_table(tmp_path / "out" / "scores.parquet")
    task = inputs.tasks[0]
    raw, mine = models(inputs, task), inputs.fold == task.fold
    assert np.array_equal(raw[np.argsort(scores["score"].to_numpy()[mine])], np.sort(raw))


@pytest.mark.parametrize("template", ["simulation", "density"])
def test_other_templates_become_datasets(
    *,
    template: str,
    box: Path,
    config: Config,
    tmp_path: Path,
    make_box: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = [f"evaluation.search.weak.template={template}"]
    if template == "simulation":
        other = make_box(tmp_path, config, seed=3)
        changes.append(f"evaluation.search.weak.background={other}")
    else:
        monkeypatch.setattr(
            "hepllm.weak.density.interpolate",
            lambda features, *words, **_: np.random.default_rng(1).choice(features, words[2]),
        )
    inputs = open_weak_inputs(box, override_config(config, changes), all_columns=True)
    task = inputs.tasks[1]
    write_fold_dataset(inputs, task, tmp_path / "fold")
    dataset = read_dataset(tmp_path / "fold")
    table = dataset.load(inputs.training.maker.names)
    is_template = table.label == BACKGROUND
    inside = task.region.signal(inputs.data.m_jj)
    np.testing.assert_array_equal(
        np.sort(table.event_digest[~is_template]), np.sort(inputs.table.event_digest[inside])
    )
    assert ("m_jj" in dataset.manifest.features) == (template == "simulation")
    counts = dataset.manifest.counts
    assert counts["test"]["background"] == pytest.approx(is_template.sum() / 2, abs=1)
    train = dataset.load((), "train")
    assert train.weight[train.label == BACKGROUND].sum() == pytest.approx(
        (train.label == SIGNAL).sum()
    )
    if template == "simulation":  # its labelled signal is left out
        truth = read_dataset(other).load((), None)
        signal = truth.event_digest[truth.label == SIGNAL]
        assert not np.isin(table.event_digest[is_template], signal).any()
        assert np.isin(table.event_digest[is_template], truth.event_digest).all()


def test_settings_that_do_not_fit_are_refused(config: Config, box: Path, tmp_path: Path) -> None:
    for change, message in (
        ("evaluation.search.weak.region=null", "give --region LOW HIGH"),
        ("train.decorrelate=planing", "train.decorrelate, train.loss.disco: not with --weak"),
        ("train.unsupervised.weight=1", "train.unsupervised.weight: not with --weak"),
    ):
        changes = [change, "train.unsupervised.prior=0.1", "train.unsupervised.dataset=x"]
        with pytest.raises(InputError, match=message):
            train_weakly(box, tmp_path / "runs", override_config(config, changes), overwrite=False)
    assert not (tmp_path / "runs").exists()


def _run(*words: object) -> Result:
    return CliRunner().invoke(cli.cli, ["train", *map(str, words)])


def test_options_reach_the_training(
    box: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs: list[Config] = []
    done = resume_weakly(trained)

    def train_weak(dataset: Path, output: Path, config: Config, *, overwrite: bool) -> object:
        assert (dataset, output, overwrite) == (box, Path("out"), False)
        configs.append(config)
        return done

    monkeypatch.setattr("hepllm.stages.weak_training.train_weakly", train_weak)
    options = ("--template", "ideal", "--region", "3200", "3800", "--background", "b")
    made = _run(box, "--weak", "signal-region", *options, "--output", "out", "-q")
    assert made.exit_code == 0, made.output
    weak = configs[0].evaluation.search.weak
    assert (weak.template, weak.region, weak.background) == ("ideal", (3200, 3800), "b")
    assert f"hepllm search {box} --run {trained}" in made.output
    refused = _run(box, "--region", "3200", "3800")
    assert refused.exit_code == 2
    assert "--region: for --weak signal-region" in refused.output
