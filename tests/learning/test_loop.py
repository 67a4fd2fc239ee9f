from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from hepllm.config import Config
from hepllm.errors import InputError
from hepllm.learning.checkpoint import (
    best_checkpoint,
    load_optimizers,
    load_weights,
    newest_checkpoint,
    warn_of_precision,
)
from hepllm.learning.loop import TrainingResult, fit
from hepllm.learning.optimizers import build_groups
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.steps import TrainingData
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import score_events

Make = Callable[[Config], tuple[EventClassifier, PromptEncoder]]
Train = Callable[..., TrainingResult]
Losses = Callable[[Path], dict[int, float]]


@pytest.fixture(scope="module")
def trained(
    tiny_config: Callable[..., Config],
    data: TrainingData,
    make: Make,
    train: Train,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    config = tiny_config("train.epochs=1")
    train(make(config), data, config, folder)
    return folder / "checkpoints"


@pytest.fixture
def checkpoint(trained: Path, tmp_path: Path) -> Path:
    """A checkpoint after one epoch, to be changed."""
    return best_checkpoint(Path(shutil.copytree(trained, tmp_path / "checkpoints")))


def test_it_learns_and_a_fresh_model_takes_the_weights_over(
    tiny_config: Callable[..., Config], data: TrainingData, tmp_path: Path, make: Make, train: Train
) -> None:
    config = tiny_config("train.epochs=10")
    made = make(config)
    result = train(made, data, config, tmp_path)
    assert result.best["auc"] > 0.9
    assert result.steps == 80
    load_weights(best_checkpoint(tmp_path / "checkpoints"), made[0])
    rows = data.validation.features
    expected = score_events(*made, ModelInputs(rows), batch_size=16)
    fresh = make(config)
    assert np.abs(score_events(*fresh, ModelInputs(rows), batch_size=16) - expected).max() > 0.1
    load_weights(best_checkpoint(tmp_path / "checkpoints"), fresh[0])
    np.testing.assert_array_equal(score_events(*fresh, ModelInputs(rows), batch_size=16), expected)


@pytest.mark.parametrize(
    "extra",
    [
        (),
        # Below 4,096 elements, states stay in 32 bits.
        (
            "backbone.lora.dropout=0.1",
            "train.lora_optimizer=adamw8bit",
            "backbone.lora.r=64",
            "train.ema_decay=0.9",
        ),
        ("backbone.quantization=nf4", "fusion.dropout=0.1"),
        ("backbone.dtype=float16",),
    ],
)
def test_a_resumed_training_is_an_unbroken_one(
    *,
    extra: Sequence[str],
    tiny_config: Callable[..., Config],
    data: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Train,
    losses: Losses,
) -> None:
    config = tiny_config("train.epochs=3", *extra)
    train(make(config), data, config, tmp_path / "whole")

    class PowerCutError(Exception):
        pass

    made = make(config)
    calls = 0

    def cut(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 15 + 4 * 3:  # validation passes come through here as well
            raise PowerCutError

    hook = made[0].register_forward_pre_hook(cut)
    with pytest.raises(PowerCutError):
        train(made, data, config, tmp_path / "broken")
    hook.remove()
    checkpoint = newest_checkpoint(tmp_path / "broken" / "checkpoints")
    assert checkpoint is not None
    states = load_file(checkpoint / "optimizer-lora.safetensors")
    is_8bit = "train.lora_optimizer=adamw8bit" in extra
    assert (torch.uint8 in {state.dtype for state in states.values()}) == is_8bit
    before = len(losses(tmp_path / "broken"))
    fit(
        *make(config),
        data,
        TrainingPlan.of(config),
        folder=tmp_path / "broken",
        resume_from=checkpoint,
    )
    whole, resumed = losses(tmp_path / "whole"), losses(tmp_path / "broken")
    assert 0 < before < len(whole)
    assert resumed == whole


def test_states_of_another_optimizer_are_refused(
    *,
    tiny_config: Callable[..., Config],
    data: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Train,
) -> None:
    config = tiny_config("train.epochs=1", "backbone.lora.r=64")
    train(make(config), data, config, tmp_path)
    other = tiny_config("train.epochs=1", "backbone.lora.r=64", "train.lora_optimizer=adamw8bit")
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    groups = build_groups(make(other)[0], other.train)
    with pytest.raises(InputError, match=r"holds 32-bit AdamW states, but .* 8-bit states"):
        load_optimizers(checkpoint, groups)


def test_going_on_in_another_precision_is_told(
    checkpoint: Path,
    tiny_config: Callable[..., Config],
    make: Make,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config, other = tiny_config("train.epochs=1"), tiny_config("backbone.dtype=bfloat16")
    warn_of_precision(checkpoint, make(config)[0])
    assert "goes on" not in caplog.text
    warn_of_precision(checkpoint, make(other)[0])
    assert "was trained in float32 and continues in bfloat16" in caplog.text


def test_micro_batches_give_the_gradient_of_the_batch(
    *,
    tiny_config: Callable[..., Config],
    data: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Train,
    losses: Losses,
) -> None:
    for name, extra in (("whole", ()), ("parts", ("train.micro_batch_size=3",))):
        config = tiny_config("train.epochs=1", *extra)
        train(make(config), data, config, tmp_path / name)
    whole, parts = losses(tmp_path / "whole"), losses(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for step, loss in whole.items():
        assert parts[step] == pytest.approx(loss, rel=1e-3)


def test_validation_changes_nothing_in_training(
    *,
    tiny_config: Callable[..., Config],
    data: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Train,
    losses: Losses,
) -> None:
    for name, often in (("rarely", 1), ("often", 8)):
        config = tiny_config("train.epochs=1", f"train.validations_per_epoch={often}")
        train(make(config), data, config, tmp_path / name)
    assert losses(tmp_path / "rarely") == losses(tmp_path / "often")


@pytest.mark.parametrize(
    "file",
    ["adapter_model.safetensors", "nfa.safetensors", "state.json", "optimizer-lora.safetensors"],
)
def test_a_checkpoint_without_a_file_is_named(
    *,
    file: str,
    checkpoint: Path,
    tiny_config: Callable[..., Config],
    data: TrainingData,
    tmp_path: Path,
    make: Make,
) -> None:
    config = tiny_config("train.epochs=1")
    (checkpoint / file).unlink()
    with pytest.raises(InputError, match=f"{file}: missing"):
        fit(*make(config), data, TrainingPlan.of(config), folder=tmp_path, resume_from=checkpoint)


def test_a_damaged_checkpoint_is_named(
    checkpoint: Path, tiny_config: Callable[..., Config], make: Make
) -> None:
    whole = (checkpoint / "adapter_model.safetensors").read_bytes()
    (checkpoint / "adapter_model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"adapter_model\.safetensors: not readable"):
        load_weights(checkpoint, make(tiny_config())[0])


def test_lora_weights_of_former_checkpoints_load(
    checkpoint: Path, tiny_config: Callable[..., Config], make: Make
) -> None:
    now, former = (make(tiny_config())[0] for _ in range(2))
    load_weights(checkpoint, now)
    (checkpoint / "adapter_model.safetensors").rename(checkpoint / "lora.safetensors")
    load_weights(checkpoint, former)
    for name, weight in now.trained_parameters().items():
        assert torch.equal(weight, former.trained_parameters()[name])


def test_peft_opens_the_lora_weights_of_a_checkpoint(
    checkpoint: Path, tiny_config: Callable[..., Config], make: Make
) -> None:
    made = make(tiny_config())
    load_weights(checkpoint, made[0])
    settings = PeftConfig.from_pretrained(checkpoint)
    plain = AutoModelForCausalLM.from_pretrained(settings.base_model_name_or_path)
    opened = PeftModel.from_pretrained(plain, checkpoint).eval()
    tokens = torch.arange(1, 9)[None]
    ours = made[0].language_model.eval()

    def state(model: Any) -> torch.Tensor:  # ours has two rows of the output matrix
        return model(tokens, output_hidden_states=True).hidden_states[-1]

    with torch.no_grad():
        found, expected = state(opened), state(ours)
        without = state(opened.unload())
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, without)


def test_a_short_training_off_a_terminal_logs_no_progress(
    *,
    tiny_config: Callable[..., Config],
    data: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Train,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = tiny_config("train.epochs=1")
    with caplog.at_level("INFO", "hepllm"):
        train(make(config), data, config, tmp_path)
    assert [one.getMessage() for one in caplog.records if one.name == "hepllm.logs"] == []
    assert any("validation loss" in one.getMessage() for one in caplog.records)


def test_no_pickle_in_a_checkpoint_and_nothing_left_aside(
    tiny_config: Callable[..., Config], data: TrainingData, tmp_path: Path, make: Make, train: Train
) -> None:
    config = tiny_config("train.epochs=2")
    train(make(config), data, config, tmp_path)
    folder = tmp_path / "checkpoints"
    files = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert files == {".safetensors", ".json"}
    assert not list(folder.rglob("*.partial"))
    assert 1 <= len(list(folder.glob("step-*"))) <= 2


def test_weights_of_another_kind_of_model_are_refused(
    checkpoint: Path, tiny_config: Callable[..., Config], make: Make
) -> None:
    text_only, _ = make(tiny_config("fusion.enabled=false"))
    with pytest.raises(InputError, match="saved with fusion on"):
        load_weights(checkpoint, text_only)
    other_size, _ = make(tiny_config("fusion.hidden_size=16"))
    with pytest.raises(InputError, match="the adapter does not fit"):
        load_weights(checkpoint, other_size)
    shutil.rmtree(checkpoint.parent)
    with pytest.raises(InputError, match="no checkpoint here"):
        best_checkpoint(checkpoint.parent)
