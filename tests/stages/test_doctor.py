from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from hepllm.cli import cli
from hepllm.config import Config
from hepllm.errors import InputError
from hepllm.installation.findings import Finding
from hepllm.installation.gpu import TorchBuild
from hepllm.installation.hub import Weights, find_weights
from hepllm.installation.machine import Machine
from hepllm.learning.optimizers import OptimizerGroup
from hepllm.model import backbone
from hepllm.stages import doctor
from hepllm.stages.doctor import check_dry_run, examine

MakeConfig = Callable[..., Config]

CPU_BUILD = TorchBuild("2.13.0+cpu", None)
CHECKS = [
    "system",
    "packages",
    "optional simulate",
    "optional dask",
    "optional weak",
    "cores",
    "shared memory",
    "fastjet",
    "tensorboard",
    "gpu",
    "precision",
    "bitsandbytes",
    "model",
    "hub",
    "memory",
    "mounts",
    "disk",
    "dry run",
]


@pytest.fixture
def laptop(tmp_path: Path) -> Machine:
    """A machine without a GPU."""
    files = {
        "proc/version": "Linux version 6.8.0-45-generic",
        "proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n",
        "proc/mounts": "/dev/sda1 / ext4 rw 0 0\n",
        "dev/shm/x": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Machine(root=tmp_path, environ={}, output_of=lambda _: "", free_space=lambda _: 10**11)


def test_every_check_on_a_sound_machine(laptop: Machine, tiny_config: MakeConfig) -> None:
    config = tiny_config("backbone.device=cpu")
    found = list(examine(config, machine=laptop, probe=lambda: CPU_BUILD))
    assert [finding.name for finding in found] == CHECKS
    assert not [finding for finding in found if finding.level == "problem"]
    dry_run = found[-1]
    assert dry_run.level == "ok"
    assert "one step of tiny-random: 8 events" in dry_run.found
    assert "8 at a time, on cpu" in dry_run.found
    assert "lora and nfa learn" in dry_run.found
    assert all("\n" not in finding.found + finding.remedy for finding in found)


def test_a_gpu_beside_a_cpu_build_is_found(laptop: Machine, tiny_config: MakeConfig) -> None:
    (laptop.root / "dev" / "nvidia0").touch()
    found = examine(
        tiny_config("backbone.device=auto"), machine=laptop, probe=lambda: CPU_BUILD, dry_run=False
    )
    problems = [finding.name for finding in found if finding.level == "problem"]
    assert problems == ["gpu"]


def test_a_library_that_cannot_be_loaded_stops_nothing(
    laptop: Machine, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> TorchBuild:
        raise ImportError("libcudart.so.13: cannot open shared object file")

    def broken_fastjet() -> Finding:
        raise OSError("libfastjet.so: cannot open shared object file")

    monkeypatch.setattr(doctor.packages, "check_fastjet", broken_fastjet)
    found = {f.name: f for f in examine(tiny_config(), machine=laptop, probe=broken)}
    assert found["fastjet"].level == "problem"
    assert found["tensorboard"].level == "ok"
    assert found["model libraries"].level == "problem"
    assert "libcudart.so.13" in found["model libraries"].found


def test_elsewhere_than_on_linux_it_says_so_and_ends(
    laptop: Machine, tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = Finding("system", "problem", "Windows 11, Python 3.12.1", "wsl --install")
    monkeypatch.setattr(doctor.system, "check_system", lambda _: windows)
    assert list(examine(tiny_config(), machine=laptop)) == [windows]


def test_the_dry_run_says_when_another_model_stood_in(tiny_config: MakeConfig) -> None:
    config = tiny_config(
        "backbone.device=cpu",
        "backbone.name=mistralai/Mistral-7B-Instruct-v0.3",
        "backbone.quantization=nf4",
        "train.warmup_fusion_steps=2",
    )
    finding = check_dry_run(config, Weights(config.backbone.name, None, 14.5e9))
    assert finding.level == "warning"
    assert "one step of tiny-random" in finding.found
    assert "Mistral-7B-Instruct-v0.3 are missing" in finding.found


def test_the_dry_run_tells_of_a_group_that_does_not_learn(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = OptimizerGroup.step

    def detached(self: OptimizerGroup, *args: int, measure: bool) -> None:
        if self.name == "nfa":
            for weight in self.parameters.values():
                weight.grad = torch.zeros_like(weight)
        good(self, *args, measure=measure)

    monkeypatch.setattr(OptimizerGroup, "step", detached)
    finding = check_dry_run(
        tiny_config("backbone.device=cpu"), find_weights("tiny-random", tmp_path)
    )
    assert finding.level == "problem"
    assert "the nfa weights have received no gradient" in finding.found


def test_the_dry_run_waits_for_the_scale_of_float16(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, calls = OptimizerGroup.step, []

    def overflowing_at_first(self: OptimizerGroup, *args: Any, measure: bool) -> None:
        calls.append(self.name)
        if len(calls) <= 4:  # two steps of both groups
            for weight in self.parameters.values():
                if weight.grad is not None:
                    weight.grad.fill_(torch.inf)
        good(self, *args, measure=measure)

    monkeypatch.setattr(OptimizerGroup, "step", overflowing_at_first)
    config = tiny_config("backbone.device=cpu", "backbone.dtype=float16")
    finding = check_dry_run(config, find_weights("tiny-random", tmp_path))
    assert finding.level == "ok", finding.found
    assert calls == ["lora", "nfa"] * 3


@pytest.mark.parametrize(
    ("error", "text", "remedy"),
    [
        (InputError("no such model"), "no such model", ""),
        (
            torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"),
            "Tried to allocate 2 GiB",
            "micro_batch_size",
        ),
    ],
)
def test_a_step_that_fails_is_a_problem(
    tiny_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    text: str,
    remedy: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(backbone, "load_backbone", fail)
    finding = check_dry_run(tiny_config(), Weights("tiny-random", Path(), 1e6))
    assert finding.level == "problem"
    assert finding.found.endswith(text)
    assert remedy in finding.remedy


def run_with(
    findings: list[Finding], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str]:
    def fake(config: Config, *, dry_run: bool) -> Iterator[Finding]:
        assert dry_run == ("--no-dry-run" not in arguments)
        yield from findings

    monkeypatch.setattr(doctor, "examine", fake)
    done = CliRunner().invoke(cli, ["doctor", *arguments], standalone_mode=False)
    return done.exit_code, done.stdout


FINE = Finding("system", "ok", "Linux 6.8")
ODD = Finding("memory", "warning", "7.6 GiB", "add some")
BAD = Finding("gpu", "problem", "no driver", "install it")


def test_the_exit_code_tells_whether_there_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = run_with([FINE, ODD], monkeypatch)
    assert code == 0
    assert text.splitlines()[-1] == "problems: 0, warnings: 1"
    assert "-> add some" in text
    code, text = run_with([FINE, ODD, BAD], monkeypatch, "--no-dry-run")
    assert code == 1
    assert "-> install it" in text


def test_json_is_one_document(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = run_with([FINE, BAD], monkeypatch, "--json")
    document = json.loads(text)
    assert code == 1
    assert (document["problems"], document["warnings"]) == (1, 0)
    assert document["findings"][1] == {
        "name": "gpu",
        "level": "problem",
        "found": "no driver",
        "remedy": "install it",
    }
