from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hepllm import cli
from hepllm.errors import RunError

HEAVY = ("torch", "transformers", "peft", "sklearn", "awkward", "fastjet", "bitsandbytes", "h5py")


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hepllm.cli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, check=False, timeout=300
    )


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
    arguments: list[str], expected: str, tmp_path: Path
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RunError("the disk is full")

    monkeypatch.setattr("hepllm.stages.preprocess.preprocess", fail)
    monkeypatch.setattr(sys, "argv", ["hepllm", "preprocess", "x.h5"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.endswith("hepllm: error: the disk is full\n")


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
    capsys: pytest.CaptureFixture[str],
) -> None:
    import torch

    assert issubclass(getattr(torch, kind), RuntimeError)
    error = type(kind, (RuntimeError,), {})(text)  # torch's own wants more than a text

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("hepllm.stages.preprocess.preprocess", fail)
    monkeypatch.setattr(sys, "argv", ["hepllm", "preprocess", "x.h5"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert told in capsys.readouterr().err


def test_results_go_to_standard_output_and_the_story_to_standard_error(
    tmp_path: Path,
    dijet_events: Callable[..., NDArray[np.float64]],
    write_lhco: Callable[..., Path],
) -> None:
    (tmp_path / "data" / "raw").mkdir(parents=True)
    write_lhco(tmp_path / "data" / "raw" / "rnd.h5", dijet_events(120))
    write_lhco(tmp_path / "data" / "raw" / "bb.h5", dijet_events(30, seed=2)[:, :-1])
    (tmp_path / "data" / "raw" / "bb.masterkey").write_text("0.0\n" * 20 + "1.0\n" * 10)
    tiny = Path(__file__).parents[1] / "configs" / "tiny.yaml"

    done = run("preprocess", "--config", tiny, "--workers", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["data/processed/bb", "data/processed/rnd"]
    assert "10 signal, 20 background" in lines[0].replace("(", "").replace("20 background, ", "")

    done = run("train", "--balance", "1:1", "--config", tiny, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("runs/tiny: ")
    assert (tmp_path / "runs" / "latest").resolve() == tmp_path / "runs" / "tiny"

    done = run("eval", "--blackbox", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert set(document) == {"rnd-test", "bb"}
    assert document["bb"]["n_signal"] == 10

    done = run("eval", "-q", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "rnd-test sample" in done.stdout
