"""The command line: what it loads, what it prints where, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hepllm import cli
from hepllm.errors import RunError

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


def test_every_command_takes_the_common_options() -> None:
    for name, command in cli.cli.commands.items():
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
