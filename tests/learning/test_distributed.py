from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hepllm.cartography.dynamics import read_dynamics
from hepllm.config import Config
from hepllm.data.event_table import EventTable
from hepllm.errors import InputError, RunError
from hepllm.learning.checkpoint import newest_checkpoint
from hepllm.learning.distributed import ALONE, Team, _try_nccl, join
from hepllm.learning.steps import _seed_of_step
from hepllm.model.devices import choose_device

SCRIPT = Path(__file__).parent / "team_of_two.py"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def _load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("team_of_two", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


two = _load_script()


def _start(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Starts two processes; whatever hangs is ended, with all that it started."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            output, errors = process.communicate(timeout=480)
        except subprocess.TimeoutExpired:
            process.terminate()  # torchrun then ends its processes
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums on one thread, as in the processes that this is compared with."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_config: Callable[..., Config],
    event_table: Callable[..., EventTable],
) -> Path:
    """Events, what one process makes of them, and what two processes make of them."""
    folder = tmp_path_factory.mktemp("team")
    names = tiny_config().train.feature_names()
    two.save_events(folder / "train.npz", event_table(64, names, 1))
    two.save_events(folder / "val.npz", event_table(33, names, 2))
    two.training(folder, folder / "alone")
    scenes = [name for name in two.SCENES if name not in {"refuse", "die"}]
    done = _start(SCRIPT, folder, *scenes)
    assert done.returncode == 0, done.stderr
    return folder


def _found(folder: Path, scene: str) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{scene}-{rank}.json").read_text()) for rank in (0, 1)]


def _distance(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Euclidean norm of the difference over that of what is expected."""
    assert found.keys() == expected.keys()
    names = [name for name in expected if name != "n_tokens"]
    one, other = (
        torch.cat([tensors[name].flatten().double() for name in names])
        for tensors in (found, expected)
    )
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("name", ["together", "resumed"])
def test_two_processes_record_what_one_does(name: str, folder: Path) -> None:
    expected, found = (read_dynamics(folder / one, "") for one in ("alone", name))
    assert found.parts.keys() == expected.parts.keys() == {"adapter", "model"}
    for part, one in expected.parts.items():
        other = found.parts[part]
        assert not np.isnan(one.margin).all(axis=0).any()
        np.testing.assert_allclose(other.margin, one.margin, atol=0.02)  # NaN in the same places
        np.testing.assert_allclose(other.probability, one.probability, atol=0.005)


@pytest.mark.parametrize("name", two.GRADIENTS)
def test_two_processes_give_the_gradient_of_one_with_the_whole_batch(
    name: str, folder: Path
) -> None:
    loss, expected = two.gradients(name, folder)
    for rank, losses in enumerate(_found(folder, "gradients")):
        found = load_file(folder / f"gradient-{name}-{rank}.safetensors")
        # The rounding of float32 in forward passes of other sizes; where a process has the same
        # events in a pass, there is none: see the next test.
        assert _distance(found, expected) < 2e-6
        assert losses[name] == pytest.approx(loss, rel=1e-6)
        assert found["n_tokens"] == expected["n_tokens"]
    is_group = {key.partition(".")[0] for key in expected}
    assert is_group - {"n_tokens"} == {
        "frozen_lora": {"nfa"},
        "text_only": {"lora"},
    }.get(name, {"lora", "nfa"})


@pytest.mark.parametrize(("name", "share"), [("plain", 8), ("unequal_shares", 3), ("weighted", 8)])
def test_two_processes_give_the_gradient_of_one_that_takes_their_shares_in_turn(
    name: str, share: int, folder: Path
) -> None:
    _, expected = two.gradients(name, folder, changes=(f"train.micro_batch_size={share}",))
    for rank in (0, 1):
        found = load_file(folder / f"gradient-{name}-{rank}.safetensors")
        assert _distance(found, expected) < 1e-7


def test_a_wrong_split_would_be_noticed(folder: Path) -> None:
    """The comparison above can fail: half of a batch has another gradient."""
    _, expected = two.gradients("plain", folder)
    _, half = two.gradients("unequal_shares", folder)
    assert _distance(half, expected) > 0.1


def _same_weights(found: Path, expected: Path) -> None:
    one, other = load_file(found), load_file(expected)
    assert one.keys() == other.keys()
    for name, weight in other.items():
        torch.testing.assert_close(one[name], weight, rtol=1e-4, atol=2e-6)


def test_two_processes_train_as_one(
    folder: Path, losses: Callable[[Path], dict[int, float]]
) -> None:
    first, second = _found(folder, "train")
    assert first == second
    assert first["steps"] == 6
    alone, together = folder / "alone", folder / "together"
    assert losses(together).keys() == losses(alone).keys()
    for step, loss in losses(alone).items():
        assert losses(together)[step] == pytest.approx(loss, rel=1e-5)
    for name in ("adapter_model", "nfa", "average"):
        places = [
            run / "checkpoints/step-000006" / f"{name}.safetensors" for run in (alone, together)
        ]
        _same_weights(*places)
    trained = [load_file(folder / f"trained-{rank}.safetensors") for rank in (0, 1)]
    assert all(torch.equal(trained[0][name], trained[1][name]) for name in trained[0])


def test_validation_is_that_of_one_process(
    folder: Path, history: Callable[[Path, str], dict[int, float]]
) -> None:
    for name in ("loss", "auc", "accuracy"):
        expected = history(folder / "alone", f"validation/{name}")
        found = history(folder / "together", f"validation/{name}")
        assert found == pytest.approx(expected, rel=1e-5)
        assert expected


def test_only_the_first_process_writes(folder: Path) -> None:
    lines = [
        json.loads(line) for line in (folder / "together/history.jsonl").read_text().splitlines()
    ]
    steps = [line["step"] for line in lines if "train/loss" in line]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert len(list((folder / "together" / "tensorboard").iterdir())) == 1
    first, second = _found(folder, "be_quiet")
    assert first["level"] < logging.ERROR <= second["level"]


def test_two_go_on_with_what_one_began(folder: Path) -> None:
    assert [found["steps"] for found in _found(folder, "resume")] == [6, 6]
    name = "checkpoints/step-000006/adapter_model.safetensors"
    _same_weights(folder / "resumed" / name, folder / "alone" / name)


def test_one_goes_on_with_what_two_began(folder: Path, tmp_path: Path) -> None:
    start = folder / "together" / "checkpoints" / "step-000003"
    _, result = two.training(folder, tmp_path / "run", resume_from=start)
    assert result.steps == 6
    name = "checkpoints/step-000006/nfa.safetensors"
    _same_weights(tmp_path / "run" / name, folder / "alone" / name)


def test_dropout_differs_between_processes_and_is_the_same_again(folder: Path) -> None:
    assert [found["same"] for found in _found(folder, "dropout")] == [True, True]
    seeds = {_seed_of_step(1, step, rank) for step in range(10) for rank in range(10)}
    assert len(seeds) == 100


@pytest.mark.parametrize("scene", ["stop", "stop_validating"])
def test_a_signal_to_one_process_stops_both_at_the_same_step(scene: str, folder: Path) -> None:
    first, second = _found(folder, scene)
    assert first == second
    assert first["kind"] == "StoppedError"
    assert first["code"] == 128 + signal.SIGTERM
    run = folder / {"stop": "stopped", "stop_validating": "stopped_validating"}[scene]
    step = {"stop": 2, "stop_validating": 3}[scene]
    assert f"stopped by SIGTERM after step {step} of 6" in first["message"]
    newest = newest_checkpoint(run / "checkpoints")
    assert newest is not None
    assert newest.name == f"step-{step:06d}"


def test_a_loss_of_one_process_that_is_not_finite_ends_both(folder: Path) -> None:
    first, second = _found(folder, "spoil")
    assert first == second
    assert first["kind"] == "RunError"
    assert first["message"].startswith("step 3: the loss is nan")


def test_weights_that_drift_apart_end_the_training(folder: Path) -> None:
    first, second = _found(folder, "drift")
    assert first == second
    assert first["message"].startswith("the weights of process 1 of 2 differ from those of pro")


def test_early_stopping_is_the_same_for_both(folder: Path) -> None:
    first, second = _found(folder, "lose_patience")
    assert first == second
    assert first["steps"] == 6


def test_processes_with_different_settings_are_refused(folder: Path) -> None:
    first, second = _found(folder, "require_same")
    assert first == second
    assert first["kind"] == "InputError"
    assert first["message"].startswith("process 1 of 2 has another dataset than process 0")


def test_what_one_process_refuses_is_told_once(tmp_path: Path) -> None:
    done = _start(SCRIPT, tmp_path, "refuse")
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("hepllm: error: ")]
    assert told == ["hepllm: error: process 1 of 2 failed: no such dataset here"]


def test_a_process_that_dies_does_not_leave_the_other_hanging(tmp_path: Path) -> None:
    started = time.monotonic()
    done = _start(SCRIPT, tmp_path, "die")
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("hepllm: error: ")]
    assert len(told) == 1
    assert "another of the 2 processes of this training ended without a reason" in told[0]
    assert time.monotonic() - started < 120  # torch would wait for half an hour


@pytest.mark.parametrize(("n_items", "size"), [(5, 2), (1, 2), (0, 3), (16, 4), (7, 3), (2, 5)])
def test_shares_cover_everything_once_and_are_almost_equal(n_items: int, size: int) -> None:
    parts = [np.arange(n_items)[Team(rank, size).part(n_items)] for rank in range(size)]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(n_items))
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths, reverse=True)


def test_threads_are_shared_among_the_processes_of_a_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for module in ("hepllm.executor", "hepllm.learning.distributed"):
        monkeypatch.setattr(f"{module}.usable_cores", lambda: 8)
    assert ALONE.threads(0) == 8
    assert Team(1, 16, local_size=4).threads(0) == 2
    assert Team(1, 16, local_size=12).threads(0) == 1
    assert Team(1, 16, local_size=4).threads(3) == 3


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")  # other programs set it too
    with join("auto") as team:
        assert team is ALONE


def test_a_machine_without_a_gpu_among_others_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One would wait in NCCL and the other in gloo, for half an hour."""
    monkeypatch.setattr("torch.distributed.all_reduce", lambda total: total.fill_(1.0))
    Team(0, 2, uses_gpus=True).require_one_kind_of_device()
    ALONE.require_one_kind_of_device()
    for rank, without in ((0, 1), (1, 0)):  # the other process adds nothing
        monkeypatch.setattr("torch.distributed.all_reduce", lambda _: None)
        with pytest.raises(InputError, match=f"process {without} of 2 has no GPU .*doctor"):
            Team(rank, 2, uses_gpus=True).require_one_kind_of_device()


def test_what_nccl_says_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Tensor, **__: int) -> None:
        raise torch.distributed.DistBackendError(
            "NCCL error in: a.cpp\nncclSystemError: no space in /dev/shm"
        )

    monkeypatch.setattr("torch.distributed.all_reduce", fail)
    monkeypatch.setattr("torch.distributed.broadcast", fail)
    with pytest.raises(RunError, match=r"NCCL cannot connect .*ncclSystemError: no space .*doctor"):
        _try_nccl(torch.device("cpu"))
    weight = torch.nn.Parameter(torch.ones(1))
    for call in (Team(0, 2).sum_gradients, Team(0, 2).require_same_weights):
        with pytest.raises(RunError, match=r"another of the 2 .*ncclSystemError: no space"):
            call([weight])


UNDER_TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "1",
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
}


def test_each_process_takes_the_gpu_of_its_local_rank() -> None:
    assert choose_device("auto", is_usable=lambda: True, environ=UNDER_TORCHRUN) == torch.device(
        "cuda:1"
    )


@pytest.mark.parametrize("command", ["eval", "predict", "preprocess"])
def test_only_train_runs_in_several_processes(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hepllm", command, "x"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | UNDER_TORCHRUN,
    )
    assert done.returncode == 2
    assert f"'{command}' runs in one process; start only 'train' with torchrun" in done.stderr


def _train(folder: Path, name: str, *options: str) -> list[str]:
    if "--resume" not in options:
        options = (str(folder / "rnd"), "--config", str(two.CONFIG), *options)
    return ["-m", "hepllm", "train", "--output", str(folder / name), *options]


@pytest.fixture(scope="module")
def dataset_folder(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the dataset ``rnd``."""
    folder = tmp_path_factory.mktemp("command")
    shutil.copytree(tiny_data / "data" / "rnd", folder / "rnd")
    return folder


@pytest.mark.slow
def test_the_command_trains_in_two_processes_as_in_one(
    dataset_folder: Path, losses: Callable[[Path], dict[int, float]]
) -> None:
    one = [sys.executable, *_train(dataset_folder, "one")]
    assert subprocess.run(one, capture_output=True, check=False).returncode == 0
    done = _start(*_train(dataset_folder, "two"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{dataset_folder / 'two'}: ")
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr.count("training on") == 1
    found, expected = losses(dataset_folder / "two"), losses(dataset_folder / "one")
    assert found.keys() == expected.keys()
    for step, loss in expected.items():
        assert found[step] == pytest.approx(loss, rel=1e-2)  # small differences grow
    again = _start(*_train(dataset_folder, "two"))
    told = [line for line in again.stderr.splitlines() if line.startswith("hepllm: error: ")]
    assert len(told) == 1
    assert "exists; continue with --resume" in told[0]


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["torchrun", "one process"])
def test_a_stopped_training_goes_on_in_one_process(whom: str, dataset_folder: Path) -> None:
    name = whom.replace(" ", "-")
    changes = ("--set", "train.epochs=100", "--set", "train.validations_per_epoch=1")
    command = [*TORCHRUN, *_train(dataset_folder, name, *changes)]
    history_file = dataset_folder / name / "history.jsonl"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (history_file.exists() and len(history_file.read_text().splitlines()) > 3):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(process.pid if whom == "torchrun" else int(children[-1]), signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    told = [line for line in errors.splitlines() if line.startswith("hepllm: ")]
    newest = newest_checkpoint(dataset_folder / name / "checkpoints")
    assert newest is not None
    step = int(newest.name.removeprefix("step-"))
    assert len(told) == 1
    assert told[0].startswith(f"hepllm: stopped by SIGTERM after step {step} of ")
    end = ("--resume", "--set", f"train.epochs={step / 8 + 1}")
    done = subprocess.run(
        [sys.executable, *_train(dataset_folder, name, *end)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"continuing after step {step}" in done.stderr
