"""Evaluation beside other runs: trained with less, several seeds, stacked, in several mixtures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from hepllm import cli
from hepllm.baselines.boosting import fit_boosting
from hepllm.baselines.fitting import fit_baselines, readable_baselines
from hepllm.baselines.scorer import Scorer, TrainingSample
from hepllm.config import Config, EvaluationConfig, override_config
from hepllm.data.event_table import EventTable
from hepllm.errors import HepllmError, InputError
from hepllm.evaluation.metrics import auc
from hepllm.evaluation.scores import scored_events
from hepllm.report.records import UnlabelledMetrics
from hepllm.report.sets import EvaluatedSet
from hepllm.runs import run_baselines
from hepllm.runs.comparison import name_retrained
from hepllm.runs.folder import open_run, training_events
from hepllm.runs.spread import spread_of_runs
from hepllm.schema import feature_names
from hepllm.stages.evaluate import evaluate
from hepllm.stages.preprocess import preprocess

pytestmark = pytest.mark.usefixtures("undrawn_figures")


@pytest.fixture(scope="module")
def folder(recipes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that may be evaluated."""
    folder = tmp_path_factory.mktemp("compare")
    return Path(shutil.copytree(recipes, folder, dirs_exist_ok=True))


@pytest.fixture(scope="module")
def config(folder: Path) -> Callable[..., Config]:
    """``config("evaluation.stack=true")`` is that of the run, with changes."""
    own = open_run(folder / "seed1").config
    return lambda *overrides: override_config(own, overrides)


@pytest.fixture(scope="module")
def report(folder: Path, config: Callable[..., Config]) -> EvaluatedSet:
    settings = config("evaluation.stack=true", "evaluation.prior=estimate")
    compare = [folder / "text", folder / "numbers"]
    (made,) = evaluate(folder / "seed1", compare=compare, config=settings)
    return made


def test_runs_trained_with_less_stand_beside_the_ablations(
    report: EvaluatedSet, folder: Path, config: Callable[..., Config]
) -> None:
    ablation = report.metrics.ablation
    assert set(ablation) == {
        "nfa_permuted",
        "nfa_zeroed",
        "text_permuted",
        "text_only",
        "numbers_only",
    }
    assert [name for name in ablation if ablation[name].retrained] == [
        "text_only",
        "numbers_only",
    ]
    assert "llm trained without part of its input:" in report.text
    assert {"text_only", "numbers_only"} <= set(report.metrics.paired)
    quick = config("evaluation.baselines=[]", "evaluation.ablations=false")
    (alone,) = evaluate(folder / "text", config=quick)
    assert ablation["text_only"].auc.value == pytest.approx(alone.metrics.auc.value, abs=1e-6)
    assert ablation["text_only"].max_sic.threshold == pytest.approx(
        alone.metrics.max_sic.threshold, abs=1e-4
    )


def test_a_run_that_reads_as_much_has_the_name_of_its_folder(folder: Path, tmp_path: Path) -> None:
    again = open_run(Path(shutil.copytree(folder / "numbers", tmp_path / "again")))
    text = open_run(Path(shutil.copytree(folder / "text", tmp_path / "words")))
    assert list(name_retrained(open_run(folder / "numbers"), [again])) == ["again"]
    assert list(name_retrained(open_run(folder / "text"), [text])) == ["words"]
    assert list(name_retrained(open_run(folder / "seed1"), [again, text])) == [
        "numbers_only",
        "text_only",
    ]


def test_all_baselines_and_the_stack_have_the_same_events(report: EvaluatedSet) -> None:
    baselines = report.metrics.baselines
    names = ["boosting", "boosting_extended", "mlp", "logistic", "cut", "stack"]
    assert list(baselines) == names
    assert {one.n_background for one in baselines.values()} == {report.metrics.n_background}
    assert set(report.metrics.contrasts) == {"stack-llm", "stack-boosting"}
    assert " ".join(report.metrics.stack.split()) in " ".join(report.text.split())


def test_the_extended_boosting_reads_features_of_its_own(
    folder: Path, config: Callable[..., Config]
) -> None:
    quick = config("evaluation.ablations=false", "evaluation.baselines=[boosting_extended]")
    (made,) = evaluate(folder / "seed1", config=quick)
    run = open_run(folder / "seed1")
    names = feature_names("extended")
    training = training_events(run.dataset(), run.config.train, run.config.seed, names)
    sample = TrainingSample(training.features, names, training.label, training.weight, seed=1)
    test = run.dataset().load(names, "test")
    expected = fit_boosting(sample).score(test.features)
    area = auc(scored_events(expected, test.label))
    assert made.metrics.baselines["boosting_extended"].auc.value == pytest.approx(area.value)


def test_the_extended_boosting_is_left_out_where_it_cannot_be(
    folder: Path,
    config: Callable[..., Config],
    tiny_config: Callable[..., Config],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    without = ("preprocess.extended=false", "preprocess.executor=serial")
    settings = tiny_config(*without, "preprocess.jets.n_jets=2")
    (box,) = preprocess([folder / "rnd.h5"], tmp_path / "other", settings)
    quick = config(
        "evaluation.ablations=false", "evaluation.baselines=[boosting_extended, logistic]"
    )
    with caplog.at_level("INFO", "hepllm"):
        (made,) = evaluate(folder / "seed1", dataset=box.dataset.folder, config=quick)
    assert list(made.metrics.baselines) == ["logistic"]
    assert "no baseline 'boosting_extended': its features need preprocess.extended" in caplog.text
    names = feature_names("extended")
    assert readable_baselines(["boosting_extended"], names, names) == []


def test_views_are_ratios_of_the_same_scores(report: EvaluatedSet) -> None:
    views = report.metrics.views
    assert list(views) == ["1:1", "1:10"]
    assert views["1:1"].n_signal == views["1:1"].n_background
    assert views["1:10"].n_background == pytest.approx(10 * views["1:10"].n_signal, abs=5)
    assert "in several signal:background ratios" in report.text
    for view in views.values():
        assert view.n_signal <= report.metrics.n_signal
        assert view.n_background <= report.metrics.n_background


def test_sculpting_is_measured_for_every_classifier(
    folder: Path, config: Callable[..., Config]
) -> None:
    wide = [f"evaluation.search.{one}" for one in ("m_jj_min=100", "m_jj_max=9000")]
    quick = ["evaluation.ablations=false", "evaluation.baselines=[boosting]"]
    (found,) = evaluate(folder / "seed1", compare=[folder / "text"], config=config(*wide, *quick))
    sculpting, spectra = found.metrics.sculpting, found.curves.spectra
    assert list(sculpting.classifiers) == ["llm", "boosting", "text_only"]
    assert sculpting.n_background == found.metrics.n_background == sum(spectra.before)
    for name, one in sculpting.classifiers.items():
        assert {*one.cuts, *one.undefined} == {"0.1", "0.01", "0.001"}
        for cut, measured in one.cuts.items():
            assert sum(spectra.after[name][cut]) == measured.n_passing
    drawn = "sculpting.png" in [file.name for file in found.files]
    assert drawn == any(one.cuts for one in sculpting.classifiers.values())
    assert "m_jj of the background after cuts on the score" in found.text


def test_probabilities_are_told(report: EvaluatedSet) -> None:
    found = report.metrics.calibration
    assert found.prior_n_events == report.metrics.n_signal + report.metrics.n_background
    assert report.metrics.probability_prior == found.prior
    assert "distributed as in the validation data" in " ".join(report.text.split())


@pytest.mark.parametrize(
    ("other", "message"),
    [("natural", "another balance"), ("text", "compared already"), ("seed1", "is the run itself")],
)
def test_runs_that_differ_in_more_are_refused(other: str, message: str, folder: Path) -> None:
    twice = [folder / other] * 3
    with pytest.raises(InputError, match=message):
        evaluate(folder / "seed1", compare=twice)


QUICK = ("--set", "evaluation.ablations=false", "--set", "evaluation.baselines=[boosting]", "-q")


def told(*arguments: object) -> Result:
    return CliRunner().invoke(cli.cli, ["eval", *map(str, arguments), *QUICK])


def test_several_runs_are_told_together(folder: Path) -> None:
    runs = [folder / "seed1", folder / "seed2"]
    tree = json.loads(told(*runs, "--json").stdout)
    assert list(tree["runs"]) == [str(run) for run in runs]
    values = [tree["runs"][str(run)]["rnd-test"]["auc"] for run in runs]
    found = tree["spread"]["rnd-test"]
    assert found["spread"]["llm"]["auc"]["median"] == pytest.approx(np.mean(values))
    assert list(found["spread"]) == ["llm", "boosting"]
    assert found["seeds"] == [1, 2]
    boosting = [tree["runs"][str(run)]["rnd-test"]["baselines"]["boosting"]["auc"] for run in runs]
    difference = found["differences"]["llm - boosting"]["auc"]
    assert difference["estimate"] == pytest.approx(np.mean(np.subtract(values, boosting)))
    assert difference["low"] < difference["estimate"] < difference["high"]
    text = told(*runs).stdout
    assert "Median of 2 runs on rnd-test" in text
    assert "Differences of means over 2 runs on rnd-test" in text


def test_two_recipes_are_compared(folder: Path) -> None:
    other = [folder / "numbers", folder / "numbers2"]
    shutil.copytree(*other, dirs_exist_ok=True)
    config = other[1] / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace("seed: 1\n", "seed: 3\n", 1))
    made = told(folder / "seed1", folder / "seed2", "--against", *other, "--json")
    found = json.loads(made.stdout)["spread"]["rnd-test"]
    assert (found["name"], found["other"]["name"]) == ("seed", "numbers")
    means = [part["means"]["llm"]["auc"]["estimate"] for part in (found, found["other"])]
    assert found["against"]["llm"]["auc"]["estimate"] == pytest.approx(means[0] - means[1])
    picture = folder / "seed1" / "eval" / "rnd-test" / "spread-seeds.png"
    assert picture.is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("seed1", "numbers"), "differs from"),
        (("seed1", "--against", "numbers"), "at least 2"),
        (("seed1", "seed2", "--against", "numbers"), "at least 2"),
        (("seed1", "seed2", "--against", "seed1"), "named twice"),
        (("seed1", "seed2", "--against"), "needs at least one RUN"),
        (("seed1", "seed2", "--against", "--json"), "needs at least one RUN"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(
    arguments: tuple[str, ...], message: str, folder: Path
) -> None:
    made = told(*(one if one.startswith("-") else folder / one for one in arguments))
    assert made.exit_code
    assert message in f"{made.output} {made.exception}"


def test_several_runs_have_their_own_baselines_and_the_same_events(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []

    def spy(sample: TrainingSample, names: Sequence[str]) -> dict[str, Scorer]:
        seeds.append(sample.seed)
        return fit_baselines(sample, names)

    monkeypatch.setattr(run_baselines, "fit_baselines", spy)
    runs = [folder / "seed1", folder / "seed2"]
    made = told(*runs, "--seed", 9, "--dataset", folder / "rnd", "--json")
    assert list(dict.fromkeys(seeds)) == [1, 2]
    used = [open_run(run).used_events() for run in runs]
    assert not np.array_equal(*used)
    tree = json.loads(made.stdout)["runs"]
    left_out = [tree[str(run)]["rnd"]["n_excluded_as_seen"] for run in runs]
    assert left_out == [len(np.union1d(*used))] * 2


SELECTION = "jet1_tau21 < 0.7 and m_jj > 0"  # neither is an input of the model


def test_a_selection_holds_for_test_and_validation_events(
    folder: Path, config: Callable[..., Config]
) -> None:
    run = open_run(folder / "seed1")
    quick = ("evaluation.ablations=false", "evaluation.baselines=[]", "evaluation.views=[]")
    names = ("jet1_tau21", "m_jj")

    def passes(table: EventTable) -> np.ndarray:
        return (table.column("jet1_tau21") < 0.7) & (table.column("m_jj") > 0)

    evaluate(folder / "seed1", config=config(*quick))
    every = pq.read_table(folder / "seed1/eval/rnd-test/scores.parquet").to_pandas()
    (made,) = evaluate(folder / "seed1", config=config(*quick, f"evaluation.select={SELECTION}"))
    test = passes(run.dataset().load(names, "test"))
    assert 0 < test.sum() < len(test)
    kept = pq.read_table(folder / "seed1/eval/rnd-test/scores.parquet").to_pandas()
    np.testing.assert_allclose(kept["score"], every["score"][test], atol=1e-5)
    found = made.metrics
    assert (found.select, found.n_unselected) == (SELECTION, len(test) - test.sum())
    assert found.n_signal + found.n_background == test.sum()
    signal, background = (kept["score"][kept["label"] == label].to_numpy() for label in (1, 0))
    assert found.auc.value == pytest.approx((signal[:, None] > background).mean())
    validation = run.validation_table(names)
    chosen = passes(validation) & (validation.label == 1)
    scores = run.validation_scores()[chosen]
    point = next(one for one in found.working_points if "eps_s >= 0.5" in one.chosen_by)
    assert (scores >= point.threshold).mean() >= 0.5 > (scores > point.threshold).mean()
    assert f"Only events with {SELECTION}; {found.n_unselected} further" in made.text


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("m_jj > 1e9", "no validation event passes the selection 'm_jj > 1e9'; loosen it"),
        ("mjj > 3", "unknown feature 'mjj' (did you mean 'm_jj'?)"),
    ],
)
def test_a_selection_that_cannot_be_used_is_refused(
    selection: str, message: str, folder: Path
) -> None:
    made = CliRunner().invoke(cli.cli, ["eval", str(folder / "seed1"), "--select", selection])
    assert isinstance(made.exception, HepllmError)
    assert message in str(made.exception)


UNLABELLED = UnlabelledMetrics.model_construct(n_events=3)


def test_without_a_common_set_there_is_nothing_to_put_together() -> None:
    lone = EvaluatedSet("bb", UNLABELLED)
    with pytest.raises(InputError, match="no set with labels"):
        spread_of_runs({Path("a"): [lone], Path("b"): [lone]}, [], EvaluationConfig(), 1)
