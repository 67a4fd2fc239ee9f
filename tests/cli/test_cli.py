"""The command line: what it loads, what it prints where, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest
from numpy.typing import NDArray

from hepllm import cli
from hepllm.cli import explanations, options, scoring
from hepllm.config import load_config
from hepllm.errors import InputError, RunError
from hepllm.runs import LATEST

HEAVY = ("torch", "transformers", "peft", "sklearn", "awkward", "fastjet", "bitsandbytes", "h5py")


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: object
    stdout: str
    stderr: str


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """``run("train", "--resume")`` calls ``main`` in an empty folder, without a new process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["hepllm", *map(str, arguments)])
        capsys.readouterr()
        code: object = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return run


@pytest.mark.parametrize("command", [None, *sorted(cli.cli.commands)])
def test_help_loads_nothing_heavy(command: str | None) -> None:
    arguments = [command] if command else []
    code = (
        "import sys, hepllm.cli\n"
        f"sys.argv = ['hepllm', *{arguments!r}, '--help']\n"
        "try:\n    hepllm.cli.main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout


def test_a_report_and_a_search_in_tables_are_made_without_torch() -> None:
    code = (
        "import sys, hepllm.stages.report, hepllm.stages.search\n"
        "loaded = [name for name in ('torch', 'transformers', 'peft') if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_command_takes_the_common_options() -> None:
    groups = [one for one in cli.cli.commands.values() if isinstance(one, click.Group)]
    single = {name: one for name, one in cli.cli.commands.items() if one not in groups}
    for name, command in (
        *single.items(),
        *(one for each in groups for one in each.commands.items()),
    ):
        options = {option for parameter in command.params for option in parameter.opts}
        assert {"--config", "--set", "--seed", "-v", "-q"} <= options, name


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["preprocess", "gone.h5"], "gone.h5: no such file"),
        (["preprocess"], "data/raw: no such file or folder"),
        (["train"], "data/processed/rnd: no such dataset"),
        (["eval"], "runs/latest: no such run"),
        (["eval", "--masterkey", "k", "."], "not a run"),
        (["train", "--set", "train.lrr=1"], "train.lrr: unknown key (did you mean 'train.lr'?)"),
        (["train", "--balance", "much"], "train.balance"),
        (["train", "--config", "gone.yaml"], "gone.yaml: no such configuration file"),
        (["train", "--resume", "--output", "gone"], "gone: no such run"),
        (["preprocess", "--chunk-size", "0"], "chunk-size"),
        (["simulate", "--signal-fraction", "2"], "signal-fraction"),
        (["eval", "run", "./run"], "named twice"),
        (["conquer"], "No such command"),
    ],
)
def test_wrong_usage_is_one_clear_line_and_exit_code_2(
    arguments: list[str], expected: str, run: Callable[..., Ended], tmp_path: Path
) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert done.stdout == ""
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., Ended]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RunError("the disk is full")

    monkeypatch.setattr("hepllm.stages.preprocess.preprocess", fail)
    done = run("preprocess", "x.h5")
    assert done.code == 1
    assert done.stderr.endswith("hepllm: error: the disk is full\n")


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        (
            "OutOfMemoryError",
            "CUDA out of memory.\nTried to allocate 2.00 GiB.",
            "the GPU's memory is full: lower train.micro_batch_size",
        ),
        (
            "AcceleratorError",
            "CUDA error: no kernel image is available for execution on the device\nCompile with",
            "the GPU failed: CUDA error: no kernel image is available for execution on the device;",
        ),
    ],
)
def test_a_gpu_in_trouble_is_one_line(
    *,
    kind: str,
    text: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., Ended],
) -> None:
    import torch

    assert issubclass(getattr(torch, kind), RuntimeError)
    error = type(kind, (RuntimeError,), {})(text)  # torch's own wants more than a text

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("hepllm.stages.preprocess.preprocess", fail)
    done = run("preprocess", "x.h5")
    assert done.code == 1
    assert told in done.stderr


@pytest.mark.usefixtures("quick_trainings", "undrawn_figures")
def test_results_go_to_standard_output_and_the_story_to_standard_error(
    tmp_path: Path,
    run: Callable[..., Ended],
    dijet_events: Callable[..., NDArray[np.float64]],
    write_lhco: Callable[..., Path],
) -> None:
    (tmp_path / "data" / "raw").mkdir(parents=True)
    write_lhco(tmp_path / "data" / "raw" / "rnd.h5", dijet_events(120))
    write_lhco(tmp_path / "data" / "raw" / "bb.h5", dijet_events(30, seed=2)[:, :-1])
    (tmp_path / "data" / "raw" / "bb.masterkey").write_text("0.0\n" * 20 + "1.0\n" * 10)
    tiny = Path(__file__).parents[2] / "configs" / "tiny.yaml"

    done = run("preprocess", "--config", tiny, "--workers", "1")
    assert done.code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["data/processed/bb", "data/processed/rnd"]
    assert "10 signal, 20 background" in lines[0].replace("(", "").replace("20 background, ", "")

    done = run("train", "--balance", "1:1", "--config", tiny, "--set", "train.epochs=1")
    assert done.code == 0, done.stderr
    assert done.stdout.startswith("runs/tiny: ")
    assert (tmp_path / "runs" / "latest").resolve() == tmp_path / "runs" / "tiny"

    done = run("eval", "--blackbox", "--json")
    assert done.code == 0, done.stderr
    document = json.loads(done.stdout)
    assert set(document) == {"rnd-test", "bb"}
    assert document["bb"]["n_signal"] == 10

    # In a process of its own, whose libraries say what they have to say when they are loaded.
    command = [sys.executable, "-m", "hepllm.cli", "eval", "-q"]
    quiet = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=300
    )
    assert quiet.returncode == 0
    assert quiet.stderr == ""
    assert "Classifiers on rnd-test" in quiet.stdout


@pytest.mark.parametrize(
    ("words", "is_text", "expected"),
    [
        ((), True, (LATEST, None)),
        (("run",), True, (Path("run"), None)),
        (("run",), False, (Path("run"), None)),  # has a run.json: the input is missing
        (("events.h5",), False, (LATEST, Path("events.h5"))),
        (("run", "events.h5"), False, (Path("run"), Path("events.h5"))),
    ],
)
def test_predict_takes_the_latest_run(
    *,
    words: tuple[str, ...],
    is_text: bool,
    expected: tuple[Path, Path | None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").touch()
    assert scoring._run_and_input([Path(word) for word in words], is_text=is_text) == expected


def test_explain_takes_the_latest_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7").mkdir()
    split = explanations._run_and_events
    assert split([]) == (LATEST, [])
    assert split(["5", "bb:12"]) == (LATEST, ["5", "bb:12"])
    assert split(["runs/gone", "5"]) == (Path("runs/gone"), ["5"])
    assert split(["7", "5"]) == (Path("7"), ["5"])  # a run of this name


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["predict", "run"], "give INPUT, or --text without --output"),
        (["predict", "a", "b", "c"], "c: expected one RUN and one INPUT"),
        (["predict", "events.h5"], "runs/latest: no such run"),
        (["explain", "5"], "runs/latest: no such run"),
        (["explain", "runs/gone", "5"], "runs/gone: no such run"),
        (["eval", "run", "--set", "train.lr=1"], "--set train.lr: not read by 'hepllm eval'"),
        (["eval", "run", "--set", "backbone.device=cpu"], "it reads evaluation.*, train.threads"),
        (
            ["predict", "run", "x.h5", "--set", "fusion.enabled=false"],
            "not read by 'hepllm predict'",
        ),
        (["explain", "run", "5", "--set", "train={}"], "not read by 'hepllm explain'"),
        (["eval", "run", "--set", "train.threads=1"], "not a run: config.yaml is missing"),
        (["eval", "run", "--set", "evaluatoin.prior=1"], "not a run: config.yaml is missing"),
        (["train", "--config", "lhco-rd"], "lhco-rd: no such configuration file"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    arguments: list[str], expected: str, run: Callable[..., Ended], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").touch()
    done = run(*arguments)
    assert done.code == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_a_preset_is_a_configuration(
    run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run("config", "--config", "lhco-rnd", "--section", "train")
    assert (done.code, done.stderr) == (0, "")
    assert "preset" not in done.stdout
    (tmp_path / "lhco-rnd").write_text("name: mine\n")  # a file of this name comes first
    assert "name: mine" in run("config", "--config", "lhco-rnd").stdout


@pytest.mark.parametrize("names", [(), ("one",), ("one", "rnd"), ("one", "two")])
def test_the_only_dataset_is_taken(
    names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in names:
        folder = tmp_path / "data" / "processed" / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").touch()
    assert options.dataset_or_only(Path("mine")) == Path("mine")
    if names == ("one", "two"):
        with pytest.raises(InputError, match="name one of data/processed/one, data/processed/two"):
            options.dataset_or_only(None)
    else:
        expected = "one" if names == ("one",) else "rnd"
        assert options.dataset_or_only(None) == Path("data/processed") / expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_words_are_completed(shell: str) -> None:
    program = Path(sys.executable).with_name("hepllm")
    if not program.exists():
        pytest.skip("not installed")
    code = "import sys, hepllm.cli; sys.argv = ['hepllm']; hepllm.cli.main()"
    for asked, expected in ((f"{shell}_source", "hepllm"), (f"{shell}_complete", "preprocess")):
        words = {"COMP_WORDS": "hepllm pre", "COMP_CWORD": "1" if shell != "fish" else "pre"}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | words | {"_HEPLLM_COMPLETE": asked},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout


def test_help_shows_defaults(run: Callable[..., Ended]) -> None:
    for command, expected in {
        "preprocess": ("HepMC", "[1,000]", "[fail]", "[processes]"),
        "simulate": (f"0: none [{load_config().simulate.rnd:,}]",),
        "train": ("[1:1]", "[on]"),
        "predict": ("[runs/latest]", "[scores/<INPUT>.parquet]"),
    }.items():
        shown = " ".join(run(command, "--help").stdout.split())
        assert all(text in shown for text in expected), shown
