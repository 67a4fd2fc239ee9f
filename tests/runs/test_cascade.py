"""The cascade in eval and predict: the same scores, whatever the set, the chunk or the restart."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from hepllm.baselines.boosting import BOOSTING
from hepllm.config import Config, override_config
from hepllm.data.dataset import read_dataset
from hepllm.errors import InputError
from hepllm.evaluation.scores import scored_events
from hepllm.model.inputs import ModelInputs
from hepllm.report.sets import EvaluatedSet
from hepllm.runs import cascade as cascading
from hepllm.runs.cascade import fit_boosting_alone, open_cascade
from hepllm.runs.folder import open_run
from hepllm.runs.pieces import PieceTask
from hepllm.runs.predictor import Predictor, load_predictor
from hepllm.runs.run_model import PieceScorer
from hepllm.stages.evaluate import evaluate
from hepllm.stages.predict import Prediction, predict, prediction_config
from hepllm.stages.preprocess import preprocess
from hepllm.stages.train import train

pytestmark = pytest.mark.usefixtures("undrawn_figures")
KEEP = 0.3
QUICK = (
    "evaluation.baselines=[boosting]",
    "evaluation.bootstrap=40",
    "evaluation.ablations=false",
    "evaluation.search.run=never",
)


@pytest.fixture(scope="module")
def config(tiny_config: Callable[..., Config]) -> Config:
    # Features of the search set, so that events without labels may be scored.
    return tiny_config(
        "preprocess.workers=1",
        "preprocess.chunk_size=80",
        "train.features=cathode",
        "train.epochs=1",
        *QUICK,
    )


def write_table(path: Path, n_events: int, seed: int, *, labelled: bool) -> Path:
    """Events whose classes overlap, so that the boosting has many different scores."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, n_events)
    shift = 1 + 0.7 * label
    columns = {
        "jet_mass_light": random.gamma(3.0, 40.0, n_events) * shift,
        "jet_mass_delta": random.gamma(3.0, 60.0, n_events) * shift,
        "tau21_light": random.beta(3.0 / shift, 2.0, n_events),
        "tau21_heavy": random.beta(3.0 / shift, 2.0, n_events),
    }
    pq.write_table(pa.table({**columns, **({"label": label} if labelled else {})}), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, config: Config) -> Path:
    """A run, and a black box of 250 events without labels as a file and as a dataset."""
    folder = tmp_path_factory.mktemp("cascade")
    for name, n_events, labelled in (("rnd", 1000, True), ("bb", 250, False)):
        file = write_table(folder / f"{name}.parquet", n_events, len(name), labelled=labelled)
        preprocess([file], folder / "data" / name, config)
    train(folder / "data" / "rnd", folder / "run", config, overwrite=False)
    return folder


def report(folder: Path, config: Config, *overrides: str, **options: Path) -> EvaluatedSet:
    (made,) = evaluate(folder / "run", config=override_config(config, overrides), **options)
    return made


def scores_of(made: EvaluatedSet) -> dict[str, NDArray[np.float64]]:
    table = pq.read_table(next(file for file in made.files if file.name == "scores.parquet"))
    return {name: table[name].to_numpy() for name in table.column_names if name != "source"}


@pytest.fixture(scope="module")
def plain(folder: Path, config: Config) -> dict[str, NDArray[np.float64]]:
    return scores_of(report(folder, config))


def test_a_cascade_that_keeps_all_changes_nothing(
    folder: Path, config: Config, plain: dict[str, NDArray[np.float64]]
) -> None:
    made = report(folder, config, "evaluation.cascade=1.0")
    found = scores_of(made)
    assert not found["cascaded"].any()
    for name, values in plain.items():
        np.testing.assert_array_equal(found[name], values)
    cascade = made.metrics.cascade
    assert cascade.kept_fraction == 1
    assert cascade.threshold is None
    assert cascade.validation.difference["auc"].estimate == 0


def test_kept_events_have_the_models_scores_and_rank_first(
    folder: Path, config: Config, plain: dict[str, NDArray[np.float64]]
) -> None:
    made = report(folder, config, f"evaluation.cascade={KEEP}")
    found, cascade = scores_of(made), made.metrics.cascade
    kept = ~found["cascaded"]
    assert 0 < kept.sum() < len(kept)
    np.testing.assert_allclose(found["score"][kept], plain["score"][kept], atol=1e-4)
    assert found["score"][~kept].max() < found["score"][kept].min()
    boosting = fit_boosting_alone(open_run(folder / "run"))
    dataset = read_dataset(folder / "data" / "rnd")
    names = config.train.feature_names()
    logits = boosting.score(dataset.load(names, "test").features)
    np.testing.assert_array_equal(kept, logits >= cascade.threshold)
    label = found["label"]
    for key, chosen in (("eps_s", label == 1), ("eps_b", label == 0)):
        assert getattr(cascade, key).value == pytest.approx(kept[chosen].mean())
        low, high = getattr(cascade, key).interval
        assert low <= getattr(cascade, key).value <= high
    validation = dataset.load(names, "val")
    share = boosting.score(validation.features[validation.label == 0]) >= cascade.threshold
    assert share.mean() == pytest.approx(KEEP, abs=1 / len(share))
    assert cascade.speed_up > 0
    assert "The language model scored" in made.text
    assert ((found["probability"] > 0) & (found["probability"] < 1)).all()
    assert made.metrics.baselines[BOOSTING].auc.value is not None


def test_the_boosting_is_trained_once(
    folder: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        pytest.fail("the boosting was there already")

    with monkeypatch.context() as patch:
        patch.setattr(cascading, "fit_boosting_alone", fail)
        report(folder, config, f"evaluation.cascade={KEEP}")
    alone = report(folder, config, f"evaluation.cascade={KEEP}", "evaluation.baselines=[]")
    assert alone.metrics.baselines == {}
    assert alone.metrics.cascade.n_kept < alone.metrics.cascade.n_events


def test_kept_scores_of_all_events_serve_the_cascade(
    folder: Path, config: Config, plain: dict[str, NDArray[np.float64]], monkeypatch: Any
) -> None:
    def fail(*_: object) -> None:
        pytest.fail("all events were scored before")

    monkeypatch.setattr(PieceTask, "__call__", fail)
    made = report(folder, config, f"evaluation.cascade={KEEP}", "evaluation.ablations=false")
    kept = ~scores_of(made)["cascaded"]
    assert 0 < kept.sum() < len(kept)
    np.testing.assert_array_equal(scores_of(made)["score"][kept], plain["score"][kept])


def test_without_labels_the_validation_data_speak(folder: Path, config: Config) -> None:
    made = report(folder, config, f"evaluation.cascade={KEEP}", blackbox=folder / "data" / "bb")
    cascade = made.metrics.cascade
    assert cascade.eps_s is None
    assert cascade.validation.eps_s.interval[0] >= 0
    assert cascade.n_events == 250
    found = scores_of(made)
    assert (~found["cascaded"]).sum() == cascade.n_kept


def test_the_signal_is_estimated_from_the_boosting(folder: Path, config: Config) -> None:
    overrides = (f"evaluation.cascade={KEEP}", "evaluation.prior=estimate")
    made = report(folder, config, *overrides)
    run = open_run(folder / "run")
    cascade = open_cascade(run, override_config(config, overrides).evaluation)
    assert cascade is not None
    found = made.metrics.calibration
    assert found.prior_n_events == made.metrics.n_signal + made.metrics.n_background
    low, high = found.prior_interval
    assert low <= found.prior_fraction <= high


def test_a_cut_that_no_validation_event_passes_has_no_prior() -> None:
    label = np.array([1, 1, 0, 0])
    events = scored_events(np.arange(4.0), label, np.ones(4), "model")
    with pytest.raises(InputError, match="no validation event passes the cascade's cut"):
        cascading._passing_prior(0.5, np.zeros(4, dtype=bool), events)
    # All of the signal and half of the background pass.
    kept = np.array([True, True, True, False])
    assert cascading._passing_prior(0.5, kept, events) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("of_class", "name"), [(1, "signal"), (0, "background")])
def test_a_class_without_positive_weights_has_no_prior(of_class: int, name: str) -> None:
    label = np.array([1, 1, 0, 0])
    weight = np.where(label == of_class, -1.0, 1.0)
    events = scored_events(np.arange(4.0), label, np.ones(4), "model")
    events = replace(events, weight=weight)
    with pytest.raises(InputError, match=f"no {name} event of positive weight"):
        cascading._passing_prior(0.5, np.ones(4, dtype=bool), events)


def test_a_combination_needs_all_scores(folder: Path, config: Config) -> None:
    with pytest.raises(InputError, match="drop one"):
        report(folder, config, f"evaluation.cascade={KEEP}", "evaluation.stack=true")


@pytest.fixture(scope="module")
def predictor(folder: Path, config: Config) -> Predictor:
    return load_predictor(folder / "run", override_config(config, [f"evaluation.cascade={KEEP}"]))


def run(predictor: Predictor, source: Path, output: Path, *overrides: str) -> Prediction:
    config = override_config(prediction_config(predictor.run), overrides)
    return predict(predictor, source, output, config)


def test_predict_agrees_with_eval_in_chunks_and_after_a_stop(
    folder: Path,
    config: Config,
    predictor: Predictor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = report(folder, config, f"evaluation.cascade={KEEP}", blackbox=folder / "data" / "bb")
    expected = scores_of(made)
    whole, calls = PieceScorer.columns, []

    def break_off(self: PieceScorer, rows: ModelInputs) -> dict[str, Floats]:
        calls.append(len(rows))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self, rows)

    output = tmp_path / "scores.parquet"
    monkeypatch.setattr(PieceScorer, "columns", break_off)
    with pytest.raises(KeyboardInterrupt):
        run(predictor, folder / "bb.parquet", output)
    again = load_predictor(folder / "run", override_config(config, [f"evaluation.cascade={KEEP}"]))
    done = run(again, folder / "bb.parquet", output)
    assert done.n_scored == 90
    assert done.n_kept == (~expected["cascaded"]).sum()
    table = pq.read_table(output)
    np.testing.assert_array_equal(table["cascaded"].to_numpy(), expected["cascaded"])
    for name in ("score", "probability"):
        np.testing.assert_allclose(table[name].to_numpy(), expected[name], atol=1e-4)


def test_work_of_another_cut_is_not_mixed_in(
    folder: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hepllm.stages.predict._assemble", stop)
        with pytest.raises(KeyboardInterrupt):
            run(predictor, folder / "bb.parquet", tmp_path / "scores.csv")
    other = load_predictor(folder / "run")
    with pytest.raises(InputError, match="an unfinished run with other inputs"):
        run(other, folder / "bb.parquet", tmp_path / "scores.csv")


@pytest.mark.parametrize("ending", ["csv", "root"])
def test_every_format_says_who_scored(
    ending: str, folder: Path, predictor: Predictor, tmp_path: Path
) -> None:
    output = tmp_path / f"scores.{ending}"
    run(predictor, folder / "bb.parquet", output, "evaluation.prior=estimate")
    if ending == "csv":
        table = pacsv.read_csv(output)
        cascaded, score = table["cascaded"].to_numpy(), table["score"].to_numpy()
    else:
        with uproot.open(output) as file:
            columns = file["scores"].arrays(library="np")
        cascaded, score = columns["cascaded"], columns["score"]
    assert predictor.cascade is not None
    np.testing.assert_array_equal(cascaded, score < predictor.cascade.cut.floor)


def test_the_command_line_takes_it(folder: Path, tmp_path: Path) -> None:
    def command(*arguments: str | Path) -> Result:
        return CliRunner().invoke(cli.cli, [*map(str, arguments)])

    output = tmp_path / "s.parquet"
    where = (folder / "run", folder / "bb.parquet", "--output", output)
    done = command("predict", *where, "--cascade", "0.3", "-q")
    assert done.exit_code == 0, done.output
    assert "of 250 events" in done.stdout
    made = command("eval", folder / "run", "--cascade", "0.3", "--json", "-q", *sets(QUICK))
    assert json.loads(made.stdout)["rnd-test"]["cascade"]["keep"] == 0.3
    assert command("eval", folder / "run", "--cascade", "1.5").exit_code == 2


def sets(overrides: Sequence[str]) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["processes", "dask"])
def test_workers_read_and_score_with_the_cascade(
    executor: str, folder: Path, predictor: Predictor, tmp_path: Path
) -> None:
    if executor == "dask":
        pytest.importorskip("distributed", reason="dask is not installed")
    where = (f"evaluation.scoring.executor={executor}", "evaluation.scoring.workers=2")
    common = ("preprocess.chunk_size=40", "preprocess.executor=serial")
    outputs = [tmp_path / "serial.parquet", tmp_path / "workers.parquet"]
    run(predictor, folder / "bb.parquet", outputs[0], *common, "evaluation.scoring.executor=serial")
    run(predictor, folder / "bb.parquet", outputs[1], *common, *where)
    serial, workers = map(pq.read_table, outputs)
    assert serial.equals(workers)
