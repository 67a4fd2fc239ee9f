"""What messages of each command tell to type, typed: the command then does its work."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from hepllm.cli import cli

TINY = str(Path(__file__).parents[2] / "configs" / "tiny.yaml")
QUICKLY = (
    *("--efficiencies", "0.05", "--set", "evaluation.search.max_toys=100"),
    *("--set", "evaluation.search.limit_toys=20", "--set", "evaluation.search.limit_step=0.2"),
)
TRAINING = ("--config", TINY, "--set", "train.threads=1")

pytestmark = pytest.mark.usefixtures("quick_trainings")


def _run(words: Sequence[str | Path]) -> Result:
    return CliRunner().invoke(cli, [*map(str, words), "-q"])


def _refusal(words: Sequence[str | Path]) -> str:
    """The message of a command that ends with an error."""
    done = _run(words)
    assert done.exit_code != 0, done.output
    return done.output if isinstance(done.exception, SystemExit) else str(done.exception)


def _follow(words: Sequence[str | Path], remedy: str, after: str = "") -> Result:
    """Runs a command again with the words that its refusal told.

    Args:
        words: the command.
        remedy: pattern of the words in the message.
        after: what the user chooses, where the message leaves it open.
    """
    message = _refusal(words)
    found = re.search(remedy, message)
    assert found is not None, message
    told = [*shlex.split(found[0]), *shlex.split(after)]
    done = _run([*words, *told])
    assert done.exit_code == 0, (told, done.output, done.exception)
    return done


def test_a_wrong_setting_is_told_before_the_evaluation_is_loaded(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hepllm.stages.evaluate", None)  # importing it would fail
    words = ["eval", tiny_run, "--set", "evaluation.max_events=10"]
    assert "evaluation.max_events: unknown key (did you mean" in _refusal(words)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scored events of which each file has another fault."""
    folder = tmp_path_factory.mktemp("tables")
    random = np.random.default_rng(2)
    usual = {"score": random.normal(size=3000), "m_jj": 2700 + random.exponential(600, 3000)}
    faults: dict[str, dict[str, Any]] = {
        "tev": {"m_jj": usual["m_jj"] / 1000},
        "nan": {"score": np.where(np.arange(3000) == 7, np.nan, usual["score"])},
        "weights": {"weight": random.uniform(size=3000)},
        "whole": {},
    }
    for name, fault in faults.items():
        np.savez(folder / f"{name}.npz", **{**usual, **fault})
    np.savez(folder / "names.npz", nn=usual["score"], m_jj=usual["m_jj"])
    np.savez(folder / "mass.npz", score=usual["score"], mjj=usual["m_jj"])
    np.save(folder / "bare.npy", np.stack([usual["score"], usual["m_jj"]], axis=1))
    return folder


SEARCHES: dict[str, tuple[str, tuple[str, ...], str, str]] = {
    "a mass in TeV": ("tev.npz", (), r"--energy-unit TeV", ""),
    "a score that is NaN": ("nan.npz", (), r"--select '[^']+'", ""),
    "weights": ("weights.npz", (), r"--weight none", ""),
    "a score of another name": ("names.npz", (), r"--score\b", "nn"),
    "a mass of another name": ("mass.npz", (), r"--mass\b", "mjj"),
    "columns without names": ("bare.npy", ("--score", "0"), r"--mass\b", "1"),
    "a selection of columns without names": (
        "bare.npy",
        ("--score", "0", "--mass", "1", "--select", "s > -9"),
        r"--columns\b",
        "s,m",
    ),
}


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn_figures")
@pytest.mark.parametrize("kind", SEARCHES)
def test_search(kind: str, tables: Path, tmp_path: Path) -> None:
    file, options, remedy, after = SEARCHES[kind]
    words: list[str | Path] = ["search", tables / file, *options, *QUICKLY]
    words += ["--output", tmp_path / "out"]
    if kind.startswith("a selection"):  # the names then are those that are given
        assert "--columns" in _refusal(words)
        words = ["s" if word == "0" else "m" if word == "1" else word for word in words]
        assert _run([*words, "--columns", after]).exit_code == 0
    else:
        _follow(words, remedy, after)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn_figures")
def test_a_search_that_is_there(tables: Path, tmp_path: Path) -> None:
    words = ("search", tables / "whole.npz", *QUICKLY, "--output", tmp_path / "out")
    assert _run(words).exit_code == 0
    _follow(words, "--overwrite")


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn_figures")
def test_a_search_that_cuts_on_the_mass(tables: Path, tmp_path: Path) -> None:
    words = ("search", tables / "whole.npz", *QUICKLY, "--output", tmp_path / "out")
    message = _refusal([*words, "--select", "m_jj > 3000"])
    assert message.endswith("set its range with --mass-range")
    assert _run([*words, "--mass-range", "3000", "8000"]).exit_code == 0


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn_figures")
def test_a_search_of_a_dataset(tiny_data: Path, tiny_run: Path, tmp_path: Path) -> None:
    dataset = tiny_data / "data" / "bb"
    words = ("search", dataset, *QUICKLY, "--output", tmp_path / "out")
    message = _refusal(words)
    assert re.search(r"give --run RUN, or --scores FILE", message)
    scores = tmp_path / "s.parquet"
    assert _run(["predict", tiny_run, dataset, "--output", scores]).exit_code == 0
    for told in (("--scores", scores), ("--run", tiny_run)):
        done = _run([*words, *told, "--overwrite"])
        # Of so few events no background can be fitted; that is found later than what was told.
        assert "give --run" not in str(done.exception)


@pytest.fixture
def existing(tmp_path: Path, tiny_data: Path, tiny_run: Path) -> Callable[[str], tuple[Any, ...]]:
    """Commands whose output is there already."""
    shutil.copytree(tiny_run, tmp_path / "run")
    data = tiny_data / "data" / "bb"
    commands: dict[str, tuple[str | Path, ...]] = {
        "simulate": ("simulate", "--output", tmp_path / "sim", "--set", "simulate.rnd=6"),
        "preprocess": ("preprocess", tiny_data / "bb.h5", "--output", tmp_path / "bb"),
        "export": ("export", data, "--output", tmp_path / "json"),
        "predict": ("predict", tiny_run, data, "--output", tmp_path / "s.csv"),
        "config": ("train", tiny_data / "data" / "rnd", "--output", tmp_path / "run", *TRAINING),
    }
    commands["simulate"] += ("--set", "simulate.blackbox=4", "--set", "simulate.workers=1")
    commands["preprocess"] += ("--executor", "serial")
    return lambda name: commands[name]


@pytest.mark.parametrize("name", ["simulate", "preprocess", "export", "predict"])
def test_an_output_that_is_there(name: str, existing: Callable[[str], tuple[Any, ...]]) -> None:
    assert _run(existing(name)).exit_code == 0
    _follow(existing(name), "--overwrite")


@pytest.mark.parametrize("remedy", ["--resume", "--overwrite"])
def test_a_run_that_is_there(remedy: str, existing: Callable[[str], tuple[Any, ...]]) -> None:
    words = existing("config")
    message = _refusal(words)
    assert remedy in message
    if remedy == "--resume":  # with the run's own configuration
        words = ("train", "--output", words[3])
    assert _run([*words, remedy]).exit_code == 0


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """A dataset of a feature table, with weights that are 0 in one class."""
    random = np.random.default_rng(1)
    columns = {
        "m_jj": random.uniform(3000, 3500, 80),
        "jet_mass_light": random.uniform(50, 90, 80),
        "label": np.arange(80) % 2,
        "weight": np.arange(80) % 2,
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    made = ("preprocess", tmp_path / "a.parquet", "--executor", "serial", "--output")
    assert _run([*made, tmp_path / "data"]).exit_code == 0
    return tmp_path / "data"


def test_weights_that_leave_no_background(features: Path, tmp_path: Path) -> None:
    train = (*TRAINING, "--output", tmp_path / "run")
    message = _refusal(["train", features, *train])
    found = re.search(r"--set preprocess\.weight=none", message)
    assert found is not None, message
    made = ("preprocess", tmp_path / "a.parquet", "--executor", "serial", "--output")
    assert _run([*made, tmp_path / "anew", *found[0].split()]).exit_code == 0
    assert _run(["train", tmp_path / "anew", *train]).exit_code == 0


SETTINGS = {
    "layout": (("prompt.layout=question", "fusion.enabled=false"), ("fusion.enabled=true",)),
    "dropout": (
        ("train.loss.r_drop=1", "backbone.lora.dropout=0", "fusion.dropout=0"),
        ("backbone.lora.dropout=0.1", "fusion.dropout=0.1"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", SETTINGS)
def test_settings_that_do_not_fit(kind: str, tiny_data: Path, tmp_path: Path) -> None:
    wrong, mended = SETTINGS[kind]
    words: list[str | Path] = ["train", tiny_data / "data" / "rnd", *TRAINING]
    words += ["--output", tmp_path / "run"]
    message = _refusal([*words, *(word for one in wrong for word in ("--set", one))])
    for one in mended:
        assert one.partition("=")[0] in message.partition("set ")[2]
        told = [*wrong, one]
        done = _run([*words, *(word for item in told for word in ("--set", item)), "--overwrite"])
        assert done.exit_code == 0, done.exception


def test_events_without_particles(features: Path, tmp_path: Path) -> None:
    words: list[str | Path] = [
        "preprocess",
        tmp_path / "a.parquet",
        "--executor",
        "serial",
        "--overwrite",
    ]
    words += ["--set", "preprocess.weight=none", "--output", features]
    assert _run(words).exit_code == 0
    words = ["train", features, *TRAINING, "--output", tmp_path / "run"]
    message = _refusal([*words, "--set", "fusion.inputs=both"])
    found = re.search(r"fusion\.inputs=numbers", message)
    assert found is not None, message
    assert _run([*words, "--set", found[0]]).exit_code == 0


@pytest.mark.slow
def test_a_report_tells_which_evaluation_is_missing(tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    shutil.rmtree(run / "eval", ignore_errors=True)
    assert _run(["report", run]).exit_code == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    told = re.search(r"evaluate it with: hepllm (eval [^\s<]+)", page)
    assert told is not None
    assert _run(told[1].split()).exit_code == 0
    assert _run(["report", run]).exit_code == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    told = re.search(r"for black boxes: hepllm (eval [^\s<]+ --blackbox)", page)
    assert told is not None


@pytest.mark.slow
def test_a_report_of_a_damaged_evaluation(tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    assert _run(["eval", run]).exit_code == 0
    record = next((run / "eval").glob("*/metrics.json"))
    record.write_text("{}")
    told = re.search(r"hepllm (eval \S+)", _refusal(["report", run]))
    assert told is not None
    assert _run(told[1].split()).exit_code == 0
    assert _run(["report", run]).exit_code == 0


def test_a_dataset_of_an_older_schema(existing: Callable[[str], tuple[Any, ...]]) -> None:
    words = existing("preprocess")
    export = ["export", words[3], "--output", words[3].parent / "json"]
    assert _run(words).exit_code == 0
    manifest = words[3] / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema_version": 0}))
    assert "run 'hepllm preprocess' again" in _refusal(export)
    assert _run([*words, "--overwrite"]).exit_code == 0
    assert _run(export).exit_code == 0


def test_explain_without_an_event(tiny_run: Path, tmp_path: Path) -> None:
    words = ("explain", tiny_run)
    message = _refusal(words)
    assert "name at least one EVENT, or give --text" in message
    text = ("--text", "jet1_mass: 400", "--output", tmp_path / "text")
    for told in (("0", "--output", tmp_path / "event"), text):
        done = _run([*words, *told])
        assert done.exit_code == 0, done.exception


@pytest.mark.slow
def test_a_key_of_a_dataset(tiny_data: Path, tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    key = ("--masterkey", tiny_data / "box.key")
    message = _refusal(["eval", run, "--blackbox", tiny_data / "data" / "bb", *key])
    assert message.endswith("a dataset holds its labels; give --masterkey to preprocess")
    made = ("preprocess", tiny_data / "box.h5", "--executor", "serial", "--output")
    assert _run([*made, tmp_path / "box", *key]).exit_code == 0
    assert _run(["eval", run, "--blackbox", tmp_path / "box"]).exit_code == 0


@pytest.mark.parametrize(
    ("words", "remedy", "after"),
    [
        (("config", "--init", "demo", "--defaults"), r"--init\b", "demo"),
        pytest.param(
            *(("doctor", "--set", "backbone.device=cuda"), r"backbone\.device=cpu", ""),
            marks=pytest.mark.slow,
        ),
        (("doctor", "--set", "backbone.name=./nowhere"), r"backbone\.name\b", "=tiny-random"),
    ],
)
def test_configurations(words: tuple[str, ...], remedy: str, after: str) -> None:
    message = _refusal(words)
    found = re.search(remedy, message)
    assert found is not None, message
    if words[0] == "config":
        assert _run(["config", found[0], after]).exit_code == 0
    else:
        tiny = ("--set", "backbone.name=tiny-random")
        assert _run([words[0], *tiny, "--set", found[0] + after]).exit_code == 0
