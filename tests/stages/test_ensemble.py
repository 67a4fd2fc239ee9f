"""Ensembles: runs like others, whose score is the mean of their members' calibrated logits."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from hepllm import EventClassifier
from hepllm.arrays import Floats
from hepllm.cli import cli
from hepllm.config import Config, ScoringConfig, override_config
from hepllm.data.notes import find_events
from hepllm.errors import InputError, RunError
from hepllm.evaluation.averaging import SPREAD
from hepllm.evaluation.metrics import auc
from hepllm.evaluation.scores import scored_events
from hepllm.learning.inputs import model_inputs
from hepllm.model.inputs import ModelInputs
from hepllm.report.page import Chapter
from hepllm.runs import members
from hepllm.runs.cascade import open_cascade
from hepllm.runs.comparison import Contest
from hepllm.runs.ensemble_model import EnsembleModel, open_model
from hepllm.runs.folder import Run, open_run
from hepllm.runs.kept_scores import KeptScores
from hepllm.runs.members import join, name_runs
from hepllm.runs.predictor import load_predictor
from hepllm.runs.run_model import PieceScorer
from hepllm.runs.score_files import calibrate
from hepllm.runs.scored_datasets import score_by_run
from hepllm.stages.ensemble import make_ensemble
from hepllm.stages.evaluate import evaluate
from hepllm.stages.explain import explain
from hepllm.stages.predict import predict
from hepllm.stages.report import report

pytestmark = pytest.mark.usefixtures("undrawn_figures")
QUICK = (
    *("evaluation.baselines=[]", "evaluation.ablations=false", "evaluation.bootstrap=20"),
    *("evaluation.calibration=platt", "evaluation.scoring.executor=serial"),
)
SERIAL = ScoringConfig(executor="serial")
RUNS = ("seed1", "natural")


class ByFirst:
    """A classifier whose score is the first feature."""

    @staticmethod
    def score(features: Floats, hypothesis: object = None) -> Floats:
        del hypothesis
        return features[:, 0]


@pytest.fixture(scope="module")
def folder(recipes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that may be scored, and the ensemble ``both`` of two with a baseline."""
    folder = tmp_path_factory.mktemp("ensemble")
    for name in (*RUNS, "rnd"):
        shutil.copytree(recipes / name, folder / name)
    make_ensemble(
        [folder / name for name in RUNS],
        quick(open_run(folder / "seed1")),
        folder / "both",
        baselines=["boosting_extended"],
    )
    return folder


def quick(run: Run, *changes: str) -> Config:
    return override_config(run.config, [*QUICK, *changes])


def logits_of(folder: Path, name: str, inputs: ModelInputs) -> Floats:
    """Calibrated logits of a run alone, for the signal fraction of the first run's training."""
    run, first = open_run(folder / name), open_run(folder / "seed1")
    found = calibrate(run, "platt").map
    return found.logits(
        PieceScorer(open_model(run, None)).score(inputs), calibrate(first, "none").map.prior
    )


@pytest.fixture(scope="module")
def model(folder: Path) -> EnsembleModel:
    """The model of the ensemble, whose members are loaded once."""
    found = open_model(open_run(folder / "both"), None)
    assert isinstance(found, EnsembleModel)
    return found


@pytest.fixture(scope="module")
def expected(folder: Path, model: EnsembleModel) -> tuple[Floats, Floats]:
    """Mean and spread of the test events, from the members one by one."""
    ensemble = model.run
    table = ensemble.dataset().load(ensemble.config.train.feature_names(), "test")
    inputs = model_inputs(table, open_run(folder / "seed1").config.train.feature_names())
    logits = [logits_of(folder, name, inputs) for name in RUNS]
    logits.append(model.member_logits(model_inputs(table))["boosting_extended"])
    return np.mean(logits, axis=0), np.std(logits, axis=0, ddof=1)


def test_an_ensemble_is_evaluated_beside_its_members(
    folder: Path, expected: tuple[Floats, Floats]
) -> None:
    ensemble = open_run(folder / "both")
    (found,) = evaluate(folder / "both", config=quick(ensemble))
    table = pq.read_table(folder / "both/eval/rnd-test/scores.parquet")
    np.testing.assert_allclose(table["score"].to_numpy(), expected[0], rtol=1e-6)
    np.testing.assert_allclose(table[SPREAD].to_numpy(), expected[1], rtol=1e-5)
    results = found.metrics
    assert results.classifier == "ensemble"
    own = auc(scored_events(table["score"].to_numpy(), table["label"].to_numpy())).value
    assert results.auc.value == pytest.approx(own)
    assert set(results.paired) == {*RUNS, "boosting_extended"}
    for name in results.paired:
        difference = own - results.baselines[name].auc.value
        assert results.paired[name].auc.estimate == pytest.approx(difference)


def test_its_validation_events_are_those_that_no_member_was_trained_on(folder: Path) -> None:
    ensemble, runs = open_run(folder / "both"), [open_run(folder / name) for name in RUNS]
    for run in runs:
        assert np.isin(run.used_events(), ensemble.used_events()).all()
        trained = np.setdiff1d(run.used_events(), run.validation_digests())
        assert (find_events(ensemble.validation_digests(), trained) < 0).all()
    mean = np.mean(list(ensemble.validation_members().values()), axis=0)
    np.testing.assert_allclose(ensemble.validation_scores(), mean)
    rows = find_events(ensemble.validation_digests(), runs[0].validation_digests())
    own = calibrate(runs[0], "platt").map.logits(runs[0].validation_scores()[rows])
    np.testing.assert_allclose(ensemble.validation_members()["seed1"], own)
    assert ensemble.record.n_train == runs[0].record.n_train


def test_it_predicts_and_searches_with_the_same_scores(
    folder: Path,
    expected: tuple[Floats, Floats],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ensemble = open_run(folder / "both")
    serial = quick(ensemble)
    predict(load_predictor(folder / "both", serial), folder / "rnd", tmp_path / "s.parquet", serial)
    table, whole = pq.read_table(tmp_path / "s.parquet"), ensemble.dataset().load(())
    is_test = whole.split == "test"
    np.testing.assert_allclose(table["score"].to_numpy()[is_test], expected[0], rtol=1e-6)
    np.testing.assert_allclose(table[SPREAD].to_numpy()[is_test], expected[1], rtol=1e-5)
    found = score_by_run(ensemble, folder / "rnd", serial)
    np.testing.assert_array_equal(found.chosen.table.event_digest, whole.event_digest[is_test])
    np.testing.assert_allclose(found.box.events.score, expected[0], rtol=1e-6)
    monkeypatch.setattr("hepllm.report.data_uris.drawn_as", lambda *_: b"")
    monkeypatch.setattr("hepllm.stages.report.data_chapter", lambda *_: Chapter("Data"))
    page = report([folder / "both"], tmp_path / "report.md").read_text()
    assert "boosting_extended" in page
    assert "Members of both" in page


def test_a_cascade_leaves_the_spread_to_the_events_that_members_score(
    model: EnsembleModel,
) -> None:
    run, config = model.run, quick(model.run, "evaluation.cascade=0.3")
    cascade = open_cascade(run, config.evaluation, ByFirst())
    assert cascade is not None
    inputs = model_inputs(run.dataset().load(run.config.train.feature_names(), "test"))
    found = PieceScorer(model, cascade).columns(inputs)
    kept = cascade.cut.keeps(inputs.numbers[:, 0])
    assert 0 < kept.sum() < len(kept)
    np.testing.assert_array_equal(np.isfinite(found[SPREAD]), kept)
    np.testing.assert_allclose(
        found[SPREAD][kept], model.columns(inputs.take(kept))[SPREAD], rtol=1e-6
    )
    none = PieceScorer(model, cascade).columns(inputs.take(~kept))
    assert np.isnan(none[SPREAD]).all()
    contest = Contest(config.evaluation, 1, model, KeptScores.of(run, SERIAL), cascade)
    measured = contest.measure("rnd-test", inputs)
    np.testing.assert_allclose(measured.score, found["score"], rtol=1e-6)
    np.testing.assert_array_equal(np.isfinite(measured.members["natural"]), kept)


def test_a_copy_of_a_run_has_no_spread_and_all_may_move(tiny_run: Path, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    runs = [str(shutil.copytree(tiny_run, before / name)) for name in ("a", "b")]
    command = ["ensemble", *runs, "--output", str(before / "mean"), "--json"]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)["mean"]["members"]
    assert [one["run"] for one in told] == ["../a", "../b"]
    refused = CliRunner().invoke(cli, command)
    assert "give --overwrite" in str(refused.exception)
    shutil.move(before, after)
    runs = [open_run(after / name) for name in ("a", "mean")]
    alone, both = (open_model(run, None) for run in runs)
    n_features = len(runs[0].config.train.feature_names())
    rows = ModelInputs(np.random.default_rng(1).gamma(4, 50, (4, n_features)))
    own = calibrate(runs[0], runs[0].config.evaluation.calibration).map
    found = both.columns(rows)
    np.testing.assert_allclose(found["score"], own.logits(alone.columns(rows)["score"]), rtol=1e-6)
    np.testing.assert_allclose(found[SPREAD], 0, atol=1e-12)
    classifier = EventClassifier.load(after / "mean")
    order = np.argsort(classifier.predict_proba(rows.numbers)[:, 1])
    np.testing.assert_array_equal(order, np.argsort(found["score"]))


def test_a_worker_opens_the_same_ensemble(model: EnsembleModel) -> None:
    inputs = ModelInputs(np.full((2, len(model.run.config.train.feature_names())), 50.0))
    again = pickle.loads(pickle.dumps(model))  # noqa: S301 (as a worker does)
    np.testing.assert_array_equal(again.columns(inputs)["score"], model.columns(inputs)["score"])
    made, arguments = model.__reduce__()
    with pytest.raises(RunError, match="its weights have changed"):
        made(*arguments[:-1], "others")


def test_a_member_that_is_gone_or_has_changed_is_told(folder: Path, tmp_path: Path) -> None:
    for name in ("seed1", "natural", "both"):
        shutil.copytree(folder / name, tmp_path / name)
    stored = tmp_path / "both/members/boosting_extended.safetensors"
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + b"0")
    with pytest.raises(InputError, match="missing or changed since the ensemble was made"):
        open_model(open_run(tmp_path / "both"), None)
    stored.write_bytes(whole)
    first, other = open_run(tmp_path / "seed1"), tmp_path / "natural" / "config.yaml"
    before = other.read_text()
    other.write_text(before.replace("- m_jj\n", "").replace("features: cathode", "features: all"))
    with pytest.raises(InputError, match="natural reads other features than when"):
        open_model(open_run(tmp_path / "both"), None)
    other.write_text(before)
    best = next((first.checkpoints).glob("step-*/nfa.safetensors")).parent
    for file in first.checkpoints.glob("step-*/nfa.safetensors"):
        file.write_bytes((best / "nfa.safetensors").read_bytes()[:-4] + b"1234")
    with pytest.raises(InputError, match="seed1 was trained again since"):
        open_model(open_run(tmp_path / "both"), None)
    shutil.rmtree(tmp_path / "seed1")
    with pytest.raises(InputError, match=r"member .*seed1 is missing; restore it"):
        open_model(open_run(tmp_path / "both"), None)


def test_what_an_ensemble_cannot_do_is_told_in_one_line(folder: Path, tmp_path: Path) -> None:
    ensemble = open_run(folder / "both")
    config = quick(ensemble)
    predictor = load_predictor(folder / "both", config)
    with pytest.raises(InputError, match=r"is an ensemble.*name one of its members.*natural"):
        explain(predictor, config, ["1"])
    done = CliRunner().invoke(cli, ["embed", str(folder / "both")])
    assert "is an ensemble" in str(done.exception)
    with pytest.raises(InputError, match="its member seed1 reads no hypotheses"):
        load_predictor(folder / "both", config, "Z' to a 500 GeV and a 100 GeV particle")
    with pytest.raises(InputError, match="is an ensemble itself; name its members"):
        make_ensemble([folder / "both", folder / "seed1"], config, tmp_path / "x")
    assert not list(tmp_path.iterdir())


def test_classifiers_that_cannot_be_joined_are_refused(
    folder: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (open_run(folder / name) for name in RUNS)
    config = quick(first)
    with pytest.raises(InputError, match="at least two members"):
        join([first], (), config)
    with pytest.raises(InputError, match="no member 'logistic'; the baselines that can be one are"):
        join([first], ["logistic"], config)
    with pytest.raises(InputError, match="was trained on jets"):
        join([first, open_run(tiny_run)], (), config)
    with pytest.raises(InputError, match="takes the baselines of one RUN"):
        join([first, second], ["boosting"], config, with_runs=False)
    with pytest.raises(InputError, match="exists and is no ensemble"):
        make_ensemble([first.folder, second.folder], config, first.folder, overwrite=True)
    features = second.config.train.model_copy(update={"features": "all"})
    unsafe = replace(second, config=second.config.model_copy(update={"train": features}))
    assert unsafe.is_search_safe != first.is_search_safe
    with pytest.raises(InputError, match="reads features that follow m_jj"):
        join([first, unsafe], (), config)
    labels = second.validation_labels()
    monkeypatch.setattr(Run, "validation_labels", lambda run: (
        (1 - labels[0], labels[1]) if run.folder == second.folder else labels
    ))  # fmt: skip
    with pytest.raises(InputError, match="has other labels of"):
        members.write_ensemble(join([first, second], (), config), tmp_path / "x", threads=1)


def test_baselines_alone_can_be_an_ensemble(folder: Path, tmp_path: Path) -> None:
    run = open_run(folder / "seed1")
    made = make_ensemble(
        [run.folder],
        quick(run),
        tmp_path / "mean",
        baselines=["boosting", "boosting_extended"],
        with_runs=False,
    )
    assert [one.name for one in made.record.members] == ["boosting", "boosting_extended"]
    found = open_model(open_run(tmp_path / "mean"), None)
    table = run.dataset().load(found.run.config.train.feature_names(), "test")
    assert (found.columns(model_inputs(table))[SPREAD] > 0).all()


def test_runs_are_named_by_as_much_of_their_folders_as_tells_them_apart(tmp_path: Path) -> None:
    runs = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    assert name_runs(runs, ()) == ["a-run", "b-run"]
    assert name_runs([runs[0], tmp_path / "boosting"], ["boosting"])[0] == "a-run"
    assert name_runs([tmp_path / "x", tmp_path / "y"], ()) == ["x", "y"]
    with pytest.raises(InputError, match="given twice"):
        name_runs([runs[0], runs[0]], ())
