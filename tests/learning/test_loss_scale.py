from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hepllm.config import Config
from hepllm.errors import RunError
from hepllm.learning.checkpoint import load_loss_scale, newest_checkpoint
from hepllm.learning.loop import TrainingResult
from hepllm.learning.loss_scale import adapt_scale, loss_scaler
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.steps import Trainer, TrainingData
from hepllm.learning.watchdogs import PROVING_STEPS
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder

Make = Callable[[Config], tuple[EventClassifier, PromptEncoder]]
Train = Callable[..., TrainingResult]
History = Callable[[Path, str], dict[int, float]]

CPU = torch.device("cpu")


@pytest.fixture
def trainer(
    tiny_config: Callable[..., Config], data: TrainingData, make: Make
) -> Callable[[str], Trainer]:
    """``trainer(dtype)`` has a tiny classifier in that precision."""

    def build(dtype: str) -> Trainer:
        config = tiny_config(f"backbone.dtype={dtype}")
        return Trainer.fresh(*make(config), data, TrainingPlan.of(config))

    return build


def gradients(trainer: Trainer) -> dict[str, torch.Tensor]:
    trainer.accumulate(0, trainer.presentation.step(0))
    for group in trainer.groups:
        trainer.scaler.unscale_(group.optimizer)
    weights = trainer.classifier.trained_parameters()
    return {name: weight.grad for name, weight in weights.items() if weight.grad is not None}


def test_a_process_without_events_takes_the_step_of_the_others() -> None:
    """It has scaled no loss; its gradient is the sum over the others'."""
    scaler, weight = loss_scaler(torch.float16, CPU), torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    weight.grad = torch.full((1,), scaler.get_scale())
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    adapt_scale(scaler, 1)
    assert weight == 0.5


def test_a_saved_scale_is_taken_over(tmp_path: Path) -> None:
    saved = loss_scaler(torch.float16, CPU).state_dict() | {"scale": 8.0, "_growth_tracker": 5}
    (tmp_path / "state.json").write_text(json.dumps({"format": 1, "loss_scale": saved}))
    scaler = loss_scaler(torch.float16, CPU)
    load_loss_scale(tmp_path, scaler)
    assert scaler.scale(torch.tensor(3.0)) == 24
    assert scaler.state_dict() == saved


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_nothing_is_scaled_but_in_float16(precision: torch.dtype | None) -> None:
    scaler = loss_scaler(precision, CPU)
    assert scaler.scale(torch.tensor(3.0)) == 3
    for step in range(100):
        adapt_scale(scaler, step)
    assert loss_scaler(torch.float16, CPU).scale(torch.tensor(3.0)) > 3


def test_unscaled_gradients_are_those_of_float32(trainer: Callable[[str], Trainer]) -> None:
    exact, half = (gradients(trainer(dtype)) for dtype in ("float32", "float16"))
    assert exact.keys() == half.keys()
    for group in ("lora", "nfa"):
        wanted, found = (
            torch.cat([grad.flatten() for name, grad in of.items() if name.startswith(group)])
            for of in (exact, half)
        )
        assert wanted.norm() > 0
        assert (found - wanted).norm() < 0.02 * wanted.norm()


def test_an_overflow_leaves_the_step_out_and_halves_the_scale(
    trainer: Callable[[str], Trainer],
) -> None:
    scaled = trainer("float16")
    weights = scaled.classifier.trained_parameters()
    scaled.step(0, measure=False)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    scale = scaled.scaler.get_scale()
    hook = next(iter(scaled.classifier.nfa_parameters().values())).register_hook(
        lambda gradient: gradient * torch.inf
    )
    scaled.step(1, measure=True)
    hook.remove()
    nfa = {name for name in weights if name.startswith("nfa")}
    assert all(torch.equal(weights[name], before[name]) for name in nfa)
    assert scaled.scaler.get_scale() == scale / 2
    scaled.step(2, measure=True)
    assert not any(torch.equal(weights[name], before[name]) for name in nfa - {"nfa.missing"})
    assert scaled.scaler.get_scale() == scale / 2


def test_gradients_that_always_overflow_stop_the_training(
    *,
    tiny_config: Callable[..., Config],
    data: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Train,
) -> None:
    config = tiny_config("backbone.dtype=float16", "train.epochs=3")
    classifier, encoder = make(config)
    assert classifier.nfa is not None
    classifier.nfa.register_forward_hook(_overflowing_backward)
    with pytest.raises(RunError, match=r"every gradient of the (lora|nfa) weights has overflowed"):
        train((classifier, encoder), data, config, tmp_path)


def test_an_overflow_at_the_step_of_the_proof_is_no_failure(
    *,
    tiny_config: Callable[..., Config],
    data: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Train,
) -> None:
    config = tiny_config("backbone.dtype=float16", "train.epochs=2", "train.log_every=1000")
    classifier, encoder = make(config)
    assert classifier.nfa is not None
    n_passes = 0

    def spoil(_module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal n_passes
        if output.requires_grad:
            n_passes += 1
            if n_passes == PROVING_STEPS:
                output.register_hook(lambda gradient: gradient * torch.inf)

    classifier.nfa.register_forward_hook(spoil)
    result = train((classifier, encoder), data, config, tmp_path)
    assert n_passes == result.steps > PROVING_STEPS


def test_a_group_without_gradient_is_named_in_float16_too(
    tiny_config: Callable[..., Config], data: TrainingData, tmp_path: Path, make: Make, train: Train
) -> None:
    config = tiny_config("backbone.dtype=float16")
    classifier, encoder = make(config)
    assert classifier.nfa is not None
    classifier.nfa.register_forward_hook(lambda *args: args[-1].detach())
    with pytest.raises(RunError, match="nfa weights have received no gradient"):
        train((classifier, encoder), data, config, tmp_path)


def test_a_scale_below_one_stops_the_training() -> None:
    scaler = loss_scaler(torch.float16, CPU)
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight])

    def overflow() -> None:
        for step in range(100):
            scaler.scale(weight * torch.inf).sum().backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            adapt_scale(scaler, step)

    with pytest.raises(RunError, match=r"step \d+: the gradients overflow float16 however little"):
        overflow()
    assert weight == 1


def test_the_scale_is_recorded_and_saved(
    *,
    tiny_config: Callable[..., Config],
    data: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Train,
    history: History,
) -> None:
    config = tiny_config("backbone.dtype=float16", "train.epochs=1")
    train(make(config), data, config, tmp_path)
    recorded = history(tmp_path, "train/loss_scale")
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    saved = json.loads((checkpoint / "state.json").read_text())["loss_scale"]
    assert saved["scale"] == recorded[max(recorded)] > 1


def _overflowing_backward(
    _module: torch.nn.Module, _inputs: object, output: torch.Tensor
) -> torch.Tensor:
    if output.requires_grad:
        output.register_hook(lambda gradient: gradient * torch.inf)
    return output
