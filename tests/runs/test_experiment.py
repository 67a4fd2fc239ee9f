"""One experiment: which steps are done, done again, and told when they fail."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hepllm.config import dump_config, load_config
from hepllm.errors import RunError, StoppedError
from hepllm.evaluation.experiment_records import ExperimentRecord, FailureRecord
from hepllm.files import locked, locked_after
from hepllm.runs import experiment as module
from hepllm.runs.experiment import do_experiment
from hepllm.runs.suites import standing_of

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder of an experiment whose training would be mapped."""
    ask(tmp_path)
    return tmp_path


def ask(place: Path, *overrides: str, **changes: Any) -> None:
    text = dump_config(load_config(TINY, overrides))
    (place / "config.yaml").write_text(text)
    ExperimentRecord(
        **{
            "name": "plain",
            "dataset": place / "data",
            "dataset_digest": "d",
            "seed": 1,
            "settings": str(hash(text)),
            "evaluations": ((), ("--select", "m_jj > 3000")),
            "makes_map": True,
            **changes,
        }
    ).write(place / "experiment.json")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands, which are told instead of run; a training leaves what it would."""
    found: list[list[str]] = []

    def call(place: Path, words: Sequence[str], lock: int) -> None:
        found.append(list(words))
        if words[0] == "train":
            run = place / "run"
            (run / "checkpoints" / "step-1").mkdir(parents=True, exist_ok=True)
            (run / "run.json").touch()
            (run / "validation.parquet").touch()

    monkeypatch.setattr(module, "_call", call)
    return found


def test_the_steps_are_commands_that_users_type(place: Path, called: list[list[str]]) -> None:
    do_experiment(place)
    run, config = str(place / "run"), ["--config", str(place / "config.yaml")]
    assert called == [
        ["train", "--output", run, str(place / "data"), *config],
        ["map", run, *config],
        ["eval", run, *config],
        ["eval", run, *config, "--select", "m_jj > 3000"],
    ]
    called.clear()
    do_experiment(place)
    assert called == []


def test_what_was_stopped_goes_on(place: Path, called: list[list[str]]) -> None:
    do_experiment(place)
    (place / "result.json").unlink()  # as the workflow engine does with what was not finished
    called.clear()
    assert do_experiment(place).resumed is False  # no step was disturbed
    assert called == []

    (place / "result.json").unlink()
    (place / "steps.json").unlink()
    (place / "run" / "validation.parquet").unlink()
    called.clear()
    do_experiment(place)
    assert called[0] == [
        "train",
        "--output",
        str(place / "run"),
        str(place / "data"),
        *called[0][4:],
    ]


def test_a_training_with_a_checkpoint_is_resumed(
    place: Path, called: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    do_it = module._call

    def killed(place: Path, words: Sequence[str], lock: int) -> None:
        do_it(place, words, lock)
        (place / "run" / "validation.parquet").unlink()
        raise StoppedError("killed", signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_call", killed)
        with pytest.raises(StoppedError):
            do_experiment(place)
    called.clear()
    assert do_experiment(place).resumed
    assert called[0] == ["train", "--output", str(place / "run"), "--resume"]


def test_another_evaluation_does_not_train_again(place: Path, called: list[list[str]]) -> None:
    do_experiment(place)
    ask(place, "evaluation.bootstrap=77", evaluations=((),))
    called.clear()
    do_experiment(place)
    assert [words[0] for words in called] == ["map", "eval"]


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        (["train.lr=7"], {}),
        ([], {"dataset_digest": "other"}),
        ([], {"map_of": "another map"}),
    ],
)
def test_another_training_begins_anew(
    overrides: list[str], changes: dict[str, str], place: Path, called: list[list[str]]
) -> None:
    do_experiment(place)
    (place / "run" / "left").touch()
    ask(place, *overrides, **changes)
    called.clear()
    do_experiment(place)
    assert [words[0] for words in called] == ["train", "map", "eval", "eval"]
    assert "--resume" not in called[0]
    assert not (place / "run" / "left").exists()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """``command(code)``: every step runs this Python code in place of hepllm."""
    start = subprocess.Popen

    def choose(code: str) -> None:
        def popen(words: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
            return start([sys.executable, "-c", code], **options)

        monkeypatch.setattr(module.subprocess, "Popen", popen)

    return choose


@pytest.mark.parametrize(
    ("code", "told", "exit_code"),
    [
        (
            "import sys; print('hello\\nerror: train.lr: too high\\nbye'); sys.exit(2)",
            "train.lr: too high",
            2,
        ),
        ("raise KeyError('x')", "KeyError: 'x'", 1),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL", -9),
        ("import sys; sys.exit(3)", "exit code 3", 3),
    ],
)
def test_a_failure_is_kept_and_tried_again(
    code: str, told: str, exit_code: int, place: Path, command: Callable[[str], None]
) -> None:
    command(code)
    with pytest.raises(RunError, match=r"hepllm train .* failed: .*log\.txt"):
        do_experiment(place)
    failure = standing_of(place).failure
    assert isinstance(failure, FailureRecord)
    assert told in failure.problem
    assert failure.exit_code == exit_code
    assert failure.command.startswith("hepllm train --output ")
    assert (place / "log.txt").read_text().startswith("$ hepllm train")


def test_a_step_that_was_stopped_has_not_failed(
    place: Path, command: Callable[[str], None]
) -> None:
    command("import sys; sys.exit(130)")
    with pytest.raises(StoppedError) as caught:
        do_experiment(place)
    assert caught.value.exit_code == 130
    assert standing_of(place).state == "to run"


def test_a_command_whose_parent_was_killed_is_waited_for(tmp_path: Path) -> None:
    waited: list[bool] = []
    with locked_after(tmp_path, lambda: waited.append(True)) as lock:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, pass_fds=[lock])
    with pytest.raises(RunError), locked(tmp_path, "its child holds the lock"):
        pass
    child.communicate()
    with locked_after(tmp_path, lambda: waited.append(True)):
        assert waited == []
