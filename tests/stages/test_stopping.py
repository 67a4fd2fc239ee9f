"""Trainings as real processes that are killed, interrupted, stopped, and resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hepllm.learning.checkpoint import newest_checkpoint

CONFIG = Path(__file__).parents[2] / "configs" / "tiny.yaml"
# Longer than any test waits, so that a signal always comes in time; checkpoints and validations
# fall on different steps.
SETTINGS = (
    "train.epochs=200",
    "train.validations_per_epoch=1",
    "train.checkpoint_every=16",
    "train.keep_checkpoints=3",
    "train.ema_decay=0.9",
    "backbone.lora.dropout=0.1",
    "train.lora_optimizer=adamw8bit",
    "train.threads=1",
)


@dataclass(frozen=True)
class Training:
    """A ``hepllm train`` that runs beside the test."""

    folder: Path
    process: subprocess.Popen[str]

    def records(self) -> list[dict[str, Any]]:
        file = self.folder / "history.jsonl"
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def losses(self) -> dict[int, float]:
        return {r["step"]: r["train/loss"] for r in self.records() if "train/loss" in r}

    def validated(self) -> list[int]:
        return [r["step"] for r in self.records() if "validation/auc" in r]

    def saved(self) -> int:
        checkpoint = newest_checkpoint(self.folder / "checkpoints")
        return int(checkpoint.name.removeprefix("step-")) if checkpoint else 0

    def wait_until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 600
        while not condition():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.02)

    def is_between_checkpoints(self) -> bool:
        """Whether a validation and some steps were done after the last of several checkpoints."""
        saved, validated = self.saved(), self.validated()
        return bool(saved > 20 and validated and saved < validated[-1] < max(self.losses()))


Start = Callable[..., Training]


@pytest.fixture(scope="module")
def dataset(tiny_data: Path) -> Path:
    return tiny_data / "data" / "rnd"


@pytest.fixture
def start(dataset: Path) -> Iterator[Start]:
    """``start(folder, "--resume")`` starts a training; what is left of it ends with the test."""
    started: list[Training] = []

    def begin(folder: Path, *options: str, settings: tuple[str, ...] = SETTINGS) -> Training:
        if "--resume" not in options:
            options = (*options, "--config", str(CONFIG))
        changes = [word for setting in settings for word in ("--set", setting)]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "hepllm.cli", "train", str(dataset)),
                *("--output", str(folder), *options, *changes),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(Training(folder, process))
        return started[-1]

    yield begin
    for training in started:
        if training.process.poll() is None:
            training.process.kill()
        training.process.communicate()


def test_a_killed_training_resumes_to_the_losses_of_an_unbroken_one(
    start: Start, tmp_path: Path
) -> None:
    broken = start(tmp_path / "broken")
    broken.wait_until(broken.is_between_checkpoints)
    broken.process.kill()
    broken.process.communicate()
    assert broken.process.returncode == -signal.SIGKILL
    saved, last = broken.saved(), max(broken.losses())
    assert saved < broken.validated()[-1]
    assert saved % 16 == 0 or saved in broken.validated()

    whole = start(tmp_path / "whole")
    resumed = start(tmp_path / "broken", "--resume", settings=())
    target = last + 20
    for training in (whole, resumed):
        training.wait_until(lambda training=training: max(training.losses(), default=0) > target)
        training.process.kill()
    expected, got = whole.losses(), resumed.losses()
    steps = range(1, target + 1)
    assert [got[step] for step in steps] == [expected[step] for step in steps]
    validations = [
        {r["step"]: r for r in training.records() if "validation/auc" in r and r["step"] <= target}
        for training in (whole, resumed)
    ]
    assert validations[0] == validations[1]
    assert max(validations[0]) > saved


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_first_and_says_how_to_go_on(
    number: signal.Signals, code: int, start: Start, tmp_path: Path
) -> None:
    training = start(tmp_path / "run")
    training.wait_until(lambda: len(training.losses()) >= 3)
    training.process.send_signal(number)
    output, errors = training.process.communicate(timeout=60)
    assert training.process.returncode == code
    assert output == ""
    assert "Traceback" not in errors
    last = errors.splitlines()[-1]
    assert last.startswith(f"hepllm: stopped by {number.name} after step {training.saved()} of ")
    assert last.endswith(f"hepllm train --resume --output {tmp_path / 'run'}")
    assert training.saved() == max(training.losses())
    assert not list(training.folder.rglob("*.partial"))
