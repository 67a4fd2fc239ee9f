"""What each process does in the tests of ``test_distributed.py``; torchrun starts it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from hepllm.config import Config, load_config
from hepllm.data.event_table import EventTable
from hepllm.errors import HepllmError, InputError
from hepllm.learning.distributed import ALONE, Team, join

CONFIG = Path(__file__).parents[2] / "configs" / "tiny.yaml"

GRADIENTS = {
    "plain": ("train.batch_size=16",),
    "unequal_shares": ("train.batch_size=5",),
    "fewer_events_than_processes": ("train.batch_size=1",),
    "weighted": ("train.batch_size=15", "train.loss.class_weights=balanced"),
    "micro_batches": ("train.batch_size=16", "train.micro_batch_size=3"),
    "padded": ("train.batch_size=9", "prompt.layout=full"),
    "frozen_lora": ("train.batch_size=16", "train.warmup_fusion_steps=3"),
    "text_only": ("train.batch_size=16", "fusion.enabled=false"),
}
"""Settings under which gradients are compared."""

TRAINING = (
    "train.batch_size=10",
    "train.epochs=1",
    "train.checkpoint_every=3",
    "train.keep_checkpoints=9",
    "train.ema_decay=0.9",
    "train.nfa_weight_decay=0.1",
    "train.nfa_alone.epochs=2",
    "train.nfa_alone.batch_size=16",
    "train.dynamics=true",
)
"""Six steps."""


def tiny(*overrides: str) -> Config:
    return load_config(CONFIG, overrides)


def save_events(file: Path, table: EventTable) -> None:
    np.savez(file, features=table.features, label=table.label, weight=table.weight)


def load_events(file: Path) -> EventTable:
    with np.load(file) as arrays:
        features, label, weight = (arrays[name] for name in ("features", "label", "weight"))
    number = len(label)
    return EventTable(
        features=features,
        names=tiny().train.feature_names(),
        label=label,
        label_raw=label.astype(np.int16),
        weight=weight,
        event_id=np.arange(number),
        source=np.full(number, "made", dtype=object),
        event_digest=np.arange(number, dtype=np.uint64),
        split=np.full(number, "train", dtype=object),
    )


def load_data(folder: Path) -> Any:
    from hepllm.learning.steps import TrainingData

    return TrainingData(load_events(folder / "train.npz"), load_events(folder / "val.npz"))


def make(config: Config) -> Any:
    from hepllm.runs.folder import make_classifier

    return make_classifier(config)


def gradients(
    name: str, folder: Path, team: Team = ALONE, changes: Sequence[str] = ()
) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradient of the first batch, with LoRA weights that have left their zeros."""
    from hepllm.learning.plan import TrainingPlan
    from hepllm.learning.steps import Trainer

    config, data = tiny(*GRADIENTS[name], *changes), load_data(folder)
    if name == "weighted":
        weight = np.random.default_rng(5).normal(1.0, 1.0, len(data.train))
        data = replace(data, train=replace(data.train, weight=weight))
    classifier, encoder = make(config)
    torch.manual_seed(7)
    with torch.no_grad():
        for weight in classifier.lora_parameters().values():
            weight.add_(0.05 * torch.randn_like(weight))
    trainer = Trainer.fresh(classifier, encoder, data, TrainingPlan.of(config), team)
    loss, n_tokens = trainer.accumulate(0, trainer.presentation.step(0))
    found = {
        key: weight.grad.clone()
        for key, weight in classifier.trained_parameters().items()
        if weight.grad is not None
    }
    return loss, {**found, "n_tokens": torch.tensor(n_tokens)}


def training(
    folder: Path,
    run: Path,
    *overrides: str,
    team: Team = ALONE,
    resume_from: Path | None = None,
    prepare: Callable[[Any], object] = lambda _: None,
) -> Any:
    """Trains on the folder's events into another folder; the classifier and what came of it."""
    from hepllm.learning.loop import fit
    from hepllm.learning.plan import TrainingPlan

    config = tiny(*TRAINING, *overrides)
    classifier, encoder = make(config)
    prepare(classifier)
    run.mkdir(exist_ok=True, parents=True)
    data = load_data(folder)
    plan = TrainingPlan.of(config)
    image = np.full((2, 2, 3), 255, dtype=np.uint8)  # pictures would take most of the time
    with mock.patch("hepllm.learning.monitor.pixels", return_value=image):
        result = fit(
            classifier, encoder, data, plan, folder=run, resume_from=resume_from, team=team
        )
    return classifier, result


def weights_of(classifier: Any) -> dict[str, Tensor]:
    return {name: w.detach().clone() for name, w in classifier.trained_parameters().items()}


def _at_call(number: int, action: Callable[[Any], Any], *, in_training: bool) -> Any:
    """A hook that acts in one forward pass of training or of validation."""
    calls = 0

    def hook(classifier: Any, _: object, output: Tensor) -> Tensor | None:
        nonlocal calls
        calls += classifier.training == in_training
        return action(output) if calls == number and classifier.training == in_training else None

    return hook


def _error_of(function: Callable[[], object]) -> dict[str, Any]:
    try:
        function()
    except HepllmError as error:
        return {"kind": type(error).__name__, "message": str(error), "code": error.exit_code}
    return {"kind": "none"}


def _compare_gradients(team: Team, folder: Path) -> dict[str, Any]:
    losses = {}
    for name in GRADIENTS:
        losses[name], found = gradients(name, folder, team)
        save_file(found, folder / f"gradient-{name}-{team.rank}.safetensors")
    return losses


def _train(team: Team, folder: Path) -> dict[str, Any]:
    classifier, result = training(folder, folder / "together", team=team)
    save_file(weights_of(classifier), folder / f"trained-{team.rank}.safetensors")
    return {"steps": result.steps, "validations": list(result.validations)}


def _resume(team: Team, folder: Path) -> dict[str, Any]:
    """Goes on with what one process began."""
    if team.is_first:
        shutil.copytree(folder / "alone", folder / "resumed")
    team.wait()
    start = folder / "resumed" / "checkpoints" / "step-000003"
    classifier, result = training(folder, folder / "resumed", team=team, resume_from=start)
    save_file(weights_of(classifier), folder / f"resumed-{team.rank}.safetensors")
    return {"steps": result.steps}


def _dropout(team: Team, folder: Path) -> dict[str, Any]:
    runs = []
    for name in ("dropout", "dropout_again"):
        changes = ("backbone.lora.dropout=0.3", "fusion.dropout=0.3", "train.epochs=0.5")
        classifier, _ = training(folder, folder / name, *changes, team=team)
        runs.append(weights_of(classifier))
    return {"same": all(torch.equal(runs[0][key], runs[1][key]) for key in runs[0])}


def _stop_in(team: Team, folder: Path, *, in_training: bool) -> dict[str, Any]:
    """A signal comes to the second process only."""

    def prepare(classifier: Any) -> None:
        if team.rank == 1:
            kill = lambda _: signal.raise_signal(signal.SIGTERM)  # noqa: E731
            classifier.register_forward_hook(_at_call(2, kill, in_training=in_training))

    name = "stopped" if in_training else "stopped_validating"
    return _error_of(
        lambda: training(
            folder, folder / name, "evaluation.batch_size=4", team=team, prepare=prepare
        )
    )


def _spoil(team: Team, folder: Path) -> dict[str, Any]:
    """The loss of the second process is not finite."""

    def prepare(classifier: Any) -> None:
        if team.rank == 1:
            spoil = lambda output: output * float("nan")  # noqa: E731
            classifier.register_forward_hook(_at_call(3, spoil, in_training=True))

    return _error_of(lambda: training(folder, folder / "spoilt", team=team, prepare=prepare))


def _drift(team: Team, folder: Path) -> dict[str, Any]:
    """A weight of the second process changes by itself."""

    def prepare(classifier: Any) -> None:
        calls = 0

        def change(*_: object) -> None:
            nonlocal calls
            calls += 1
            if calls == 2:
                with torch.no_grad():
                    next(iter(classifier.lora_parameters().values())).mul_(1.01)

        if team.rank == 1:
            classifier.register_forward_pre_hook(change)

    return _error_of(lambda: training(folder, folder / "drifted", team=team, prepare=prepare))


def _lose_patience(team: Team, folder: Path) -> dict[str, Any]:
    changes = ("train.patience=1", "train.lr=1e-12", "train.nfa_lr=1e-12", "train.epochs=3")
    _, result = training(folder, folder / "impatient", *changes, team=team)
    return {"steps": result.steps}


def _require_same(team: Team, _: Path) -> dict[str, Any]:
    team.require_same({"configuration": "a"})
    return _error_of(lambda: team.require_same({"colour": "a", "dataset": f"of {team.rank}"}))


def _be_quiet(team: Team, _: Path) -> dict[str, Any]:
    return {"level": logging.getLogger("hepllm").getEffectiveLevel(), "rank": team.rank}


def _refuse(team: Team, _: Path) -> dict[str, Any]:
    """Ends this group of processes."""
    with team.together():
        if team.rank == 1:
            raise InputError("no such dataset here")
    return {}


def _die(team: Team, _: Path) -> dict[str, Any]:
    """Ends this group of processes, where a training would be in the middle of a step."""
    from hepllm.learning.stopping import StopRequest

    with StopRequest(team):  # torchrun sends SIGTERM to those who are left
        team.wait()
        if team.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        team.wait()
    return {}


SCENES: dict[str, Callable[[Team, Path], dict[str, Any]]] = {
    "gradients": _compare_gradients,
    "train": _train,
    "resume": _resume,
    "dropout": _dropout,
    "stop": lambda team, folder: _stop_in(team, folder, in_training=True),
    "stop_validating": lambda team, folder: _stop_in(team, folder, in_training=False),
    "spoil": _spoil,
    "drift": _drift,
    "lose_patience": _lose_patience,
    "require_same": _require_same,
    "be_quiet": _be_quiet,
    "refuse": _refuse,
    "die": _die,
}


def main(folder: Path, *names: str) -> None:
    torch.set_num_threads(1)
    try:
        with join("cpu") as team:
            for name in names:
                found = SCENES[name](team, folder)
                (folder / f"{name}-{team.rank}.json").write_text(json.dumps(found))
    except HepllmError as error:
        sys.stderr.write(f"hepllm: error: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
