"""Hypotheses from the training to every command that scores."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from hepllm import EventClassifier
from hepllm.cli import cli
from hepllm.config import Config, load_config
from hepllm.data.signal_points import SignalPoint, SignalPoints, points_beside
from hepllm.errors import ConfigError, InputError
from hepllm.runs.folder import open_run
from hepllm.stages.ensemble import make_ensemble
from hepllm.stages.evaluate import evaluate
from hepllm.stages.label import label
from hepllm.stages.preprocess import preprocess
from hepllm.stages.train import resume, train

MASSES = ((500.0, 100.0), (300.0, 300.0), (250.0, 80.0))
TEXT = "Z' to a 500 GeV and a 100 GeV particle, both to two quarks"
ASKED = "grid-test-500qq-100qq"

pytestmark = pytest.mark.usefixtures("undrawn_figures")


def _grid(file: Path, n_each: int = 120) -> None:
    """Writes signal of three pairs of masses, and as much background, with the points beside."""
    random = np.random.default_rng(3)
    masses = np.repeat(MASSES, 2 * n_each, axis=0)
    label = np.arange(len(masses)) % 2
    of_background = np.exp(random.uniform(np.log(40), np.log(600), masses.shape))
    both = np.where(label[:, None] == 1, masses, of_background) * random.normal(
        1, 0.05, masses.shape
    )
    light, heavy = np.sort(both, axis=1).T
    tau21 = np.clip(random.normal(0.55 - 0.2 * label[:, None], 0.1, masses.shape), 0.05, 1)
    columns = {
        "m_jj": random.exponential(700, len(label)) + 2600,
        "jet_mass_light": light,
        "jet_mass_delta": heavy - light,
        "tau21_light": tau21[:, 0],
        "tau21_heavy": tau21[:, 1],
        "label": label,
    }
    rows = np.column_stack(list(columns.values()))
    np.savetxt(file, rows, delimiter=",", header=",".join(columns), comments="", fmt="%.6g")
    points = [
        SignalPoint(
            m_zprime=3500, m_x=x, m_y=y, first=place * 2 * n_each, events=2 * n_each,
            generated=2 * n_each,
        )
        for place, (x, y) in enumerate(MASSES)
    ]  # fmt: skip
    SignalPoints(points=points).write(points_beside(file))


@pytest.fixture(scope="module")
def config(tiny_config: Callable[..., Config]) -> Callable[..., Config]:
    """Settings of a quick training on the grid."""
    common = (
        *("preprocess.executor=serial", "train.features=cathode", "train.epochs=2"),
        *("evaluation.baselines=[]", "evaluation.scoring.executor=serial"),
        *("train.keep_checkpoints=99", "evaluation.search.run=never"),
        *("preprocess.format=features", "prompt.layout=question"),
    )
    return lambda *changes: tiny_config(*common, *changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, config: Callable[..., Config]) -> Path:
    """The dataset ``grid``, and a run on it with hypotheses."""
    made = tmp_path_factory.mktemp("hypotheses")
    _grid(made / "grid.csv")
    preprocess([made / "grid.csv"], made / "grid", config())
    train(made / "grid", made / "run", config(), overwrite=False)
    return made


def test_a_run_keeps_what_it_was_trained_on(folder: Path) -> None:
    run = open_run(folder / "run")
    assert run.config.train.hypothesis.enabled is True
    assert run.config.fusion.decays is False  # all signals decay alike
    trained = run.record.hypotheses
    assert trained is not None
    assert (trained.heavier_max, trained.lighter_min, trained.decays) == (500, 80, ("qq",))
    assert _history(run.folder, "validation/auc_open")


def test_a_run_from_before_decays_in_the_adapter_has_none(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    file = tmp_path / "run" / "config.yaml"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if not line.startswith("  decays: false")))
    assert load_config(file).fusion.decays == "auto"
    assert open_run(tmp_path / "run").config == open_run(folder / "run").config
    resume(tmp_path / "run", ["train.epochs=3"])


def _history(run: Path, name: str) -> dict[int, float]:
    lines = map(json.loads, (run / "history.jsonl").read_text().splitlines())
    return {one["step"]: one[name] for one in lines if name in one}


def test_a_resumed_training_repeats_the_losses(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    whole = _history(folder / "run", "train/loss")
    saved = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
    for later in saved[2:]:
        shutil.rmtree(later)
    resume(tmp_path / "run", [])
    assert _history(tmp_path / "run", "train/loss") == whole
    with pytest.raises(InputError, match=r"train\.hypothesis\.enabled cannot change"):
        resume(tmp_path / "run", ["train.hypothesis.enabled=false"])


def test_labelled_events_in_training_are_resumed_and_labelling_reads_them(
    folder: Path,
    config: Callable[..., Config],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    wanted = config("train.examples.most=4", "train.micro_batch_size=5")
    train(folder / "grid", tmp_path / "run", wanted, overwrite=False)
    whole = _history(tmp_path / "run", "train/loss")
    assert whole != _history(folder / "run", "train/loss")
    for later in sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[2:]:
        shutil.rmtree(later)
    resume(tmp_path / "run", [])
    assert _history(tmp_path / "run", "train/loss") == whole
    pool = ("label.method=few-shot", "label.pool=8", "label.budget=32", "label.context=3")
    for run, is_warned in (("run", False), (str(folder / "run"), True)):
        caplog.clear()
        label(
            folder / "grid",
            config(*pool, f"label.backend={tmp_path / run}", "label.split=test"),
            tmp_path / "labels.csv",
            overwrite=True,
        )
        assert ("never showed it labelled events" in caplog.text) is is_warned


def test_labels_by_an_average_over_the_hypotheses_of_a_run(
    folder: Path,
    config: Callable[..., Config],
    tiny_run: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = ("label.method=iterated", "label.pool=12", "label.split=test", "label.context=4")
    asked = (*pool, "label.hypotheses.masses=3", f"label.backend={folder / 'run'}")
    report = label(folder / "grid", config(*asked), tmp_path / "labels.csv")
    assert report.record.backend.endswith("averaged over hypotheses")
    assert "best explained by masses of " in report.text
    assert " of their likelihood)" in report.text
    assert 80 <= report.record.details["likeliest hypothesis: mass of the lighter particle"] <= 500
    assert "never showed it labelled events" not in caplog.text
    with pytest.raises(InputError, match="--hypothesis states one; leave one of them out"):
        label(folder / "grid", config(*asked), tmp_path / "stated.csv", hypothesis=TEXT)
    without = (*pool, "label.hypotheses.masses=3", f"label.backend={tiny_run}")
    with pytest.raises(
        InputError, match=r"trained without hypotheses.*label\.hypotheses\.masses=0"
    ):
        label(folder / "grid", config(*without), tmp_path / "without.csv")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (("label.hypotheses.masses=1", "label.backend=run"), "must be 0, or 2 and more"),
        (("label.hypotheses.masses=3",), "set backend to its folder"),
        (
            ("label.hypotheses.masses=3", "label.backend=run", "label.names=[signal,background]"),
            "names are not read",
        ),
    ],
)
def test_averages_that_mean_nothing_are_refused(
    config: Callable[..., Config], changes: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        config(*changes)


def test_the_test_split_is_scored_without_and_under_own_hypotheses(folder: Path) -> None:
    without, own = evaluate(folder / "run")
    assert (without.name, own.name) == ("grid-test", "grid-test-own")
    assert without.metrics.hypothesis is None
    assert own.metrics.hypothesis == "own"
    assert "text_permuted" not in without.metrics.ablation
    assert "text_permuted" in own.metrics.ablation
    assert own.metrics.auc.value != without.metrics.auc.value
    assert "under its own hypothesis" in own.text
    assert own.metrics.n_signal == without.metrics.n_signal
    again = evaluate(folder / "run", hypotheses=["own"])
    assert [one.name for one in again] == ["grid-test-own"]
    assert again[0].metrics.auc == own.metrics.auc


def test_each_signal_is_measured_against_all_background(
    folder: Path, config: Callable[..., Config]
) -> None:
    wanted = config("evaluation.by_signal=true", "evaluation.ablations=false")
    (found,) = evaluate(folder / "run", hypotheses=["own"], config=wanted)
    by_signal = found.metrics.by_signal
    assert list(by_signal) == [
        "Z' -> X (250 GeV, qq) Y (80 GeV, qq)",
        "Z' -> X (300 GeV, qq) Y (300 GeV, qq)",
        "Z' -> X (500 GeV, qq) Y (100 GeV, qq)",
    ]
    assert sum(one.n_signal for one in by_signal.values()) == found.metrics.n_signal
    assert {one.n_background for one in by_signal.values()} == {found.metrics.n_background}
    assert "for each signal under its own hypothesis" in found.text
    with pytest.raises(InputError, match="--by-signal measures each signal"):
        evaluate(folder / "run", hypotheses=[TEXT], config=wanted)


def test_a_stated_hypothesis_is_in_names_and_records(folder: Path) -> None:
    (found,) = evaluate(folder / "run", hypotheses=[TEXT])
    assert found.name == ASKED
    assert found.metrics.hypothesis == TEXT
    assert TEXT in found.text
    file = folder / "run" / "eval" / ASKED / "scores.parquet"
    assert pq.read_schema(file).metadata[b"hypothesis"].decode() == TEXT
    assert (folder / "run" / "scores" / "validation-500qq-100qq" / "llm.parquet").is_file()


def test_several_hypotheses_are_asked_in_one_evaluation(folder: Path) -> None:
    other = TEXT.replace("500", "300")
    found = evaluate(folder / "run", hypotheses=[TEXT, other])
    assert [one.metrics.hypothesis for one in found] == [TEXT, other]
    (alone,) = evaluate(folder / "run", hypotheses=[other])
    assert found[1].metrics.auc == alone.metrics.auc != found[0].metrics.auc
    with pytest.raises(InputError, match=r"states the same as .*; give it once"):
        evaluate(folder / "run", hypotheses=[TEXT, TEXT.replace("500 GeV", "500.0 GeV")])


def test_the_python_interface_and_predict_agree_with_eval(folder: Path, tmp_path: Path) -> None:
    evaluate(folder / "run", hypotheses=[TEXT])
    of_eval = pq.read_table(folder / "run" / "eval" / ASKED / "scores.parquet")
    classifier = EventClassifier.load(folder / "run")
    table = open_run(folder / "run").dataset().load(classifier.features, "test")
    scores = classifier.score(table.features, hypothesis=TEXT)
    np.testing.assert_allclose(scores, of_eval["score"].to_numpy(), atol=1e-5)
    assert not np.allclose(scores, classifier.score(table.features), atol=1e-3)
    probability = classifier.predict_proba(table.features, hypothesis=TEXT)[:, 1]
    assert ((probability > 0) & (probability < 1)).all()
    made = classifier.score_file(folder / "grid", tmp_path / "s.parquet", hypothesis=TEXT)
    written = pq.read_table(made.path)
    assert written.schema.metadata[b"hypothesis"].decode() == TEXT
    by_event = dict(zip(written["event_id"].to_pylist(), written["score"].to_pylist(), strict=True))
    np.testing.assert_allclose([by_event[i] for i in table.event_id.tolist()], scores, atol=1e-5)
    with pytest.raises(InputError, match="only 'hepllm eval' knows"):
        classifier.score(table.features, hypothesis="own")


def test_the_mass_of_the_resonance_changes_no_score(folder: Path) -> None:
    classifier = EventClassifier.load(folder / "run")
    table = open_run(folder / "run").dataset().load(classifier.features, "test")
    with_mass = classifier.score(table.features, hypothesis=TEXT.replace("Z'", "Z' of 3.5 TeV"))
    np.testing.assert_array_equal(with_mass, classifier.score(table.features, hypothesis=TEXT))


def test_an_explanation_shows_other_hypotheses(folder: Path) -> None:
    result = CliRunner().invoke(
        cli,
        ["explain", str(folder / "run"), "7", "--hypothesis", TEXT, "--json"],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    (tree,) = json.loads(result.stdout).values()
    assert tree["hypothesis"] == TEXT
    assert set(tree["score_elsewhere"]) > {"without a hypothesis"}
    assert "Its score would be" in tree["text"]


@pytest.mark.parametrize(
    "command",
    [
        ("eval", "{run}"),
        ("predict", "{run}", "--text", "jet_mass_light: 100"),
        ("explain", "{run}", "7"),
    ],
)
def test_a_run_without_hypotheses_refuses_them(command: tuple[str, ...], tiny_run: Path) -> None:
    words = [word.format(run=tiny_run) for word in command]
    with pytest.raises(InputError, match="trained without hypotheses"):
        CliRunner().invoke(cli, [*words, "--hypothesis", TEXT], catch_exceptions=False)


def test_training_with_hypotheses_needs_several_signals(
    tiny_data: Path, tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    wanted = tiny_config("train.hypothesis.enabled=true", "prompt.layout=question")
    with pytest.raises(InputError, match="at least 2 signals with known masses, found 0"):
        train(tiny_data / "data" / "rnd", tmp_path / "run", wanted, overwrite=False)
    train(tiny_data / "data" / "rnd", tmp_path / "run", tiny_config(), overwrite=False)
    kept = load_config(tmp_path / "run" / "config.yaml")
    assert kept.train.hypothesis.enabled is False
    assert open_run(tmp_path / "run").record.hypotheses is None


def test_an_ensemble_of_runs_is_asked_as_they_are(
    folder: Path, config: Callable[..., Config], tmp_path: Path
) -> None:
    runs = [Path(shutil.copytree(folder / "run", tmp_path / name)) for name in ("a", "b")]
    settings = config("evaluation.ablations=false")
    made = make_ensemble(runs, settings, tmp_path / "both")
    assert made.record.hypotheses == open_run(runs[0]).record.hypotheses
    (alone,) = evaluate(runs[0], hypotheses=[TEXT], config=settings)
    (both,) = evaluate(tmp_path / "both", hypotheses=[TEXT], config=settings)
    assert (both.name, both.metrics.hypothesis) == (ASKED, TEXT)
    assert both.metrics.auc.value == pytest.approx(alone.metrics.auc.value)
    table = pq.read_table(tmp_path / "both" / "eval" / ASKED / "scores.parquet")
    np.testing.assert_allclose(table["spread"].to_numpy(), 0, atol=1e-9)
