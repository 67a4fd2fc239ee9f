from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from hepllm.config import Config
from hepllm.dataset import EventTable
from hepllm.errors import InputError, RunError
from hepllm.learning.checkpoint import best_checkpoint, load_weights, newest_checkpoint
from hepllm.learning.encoding import PromptEncoder
from hepllm.learning.loop import TrainingData, TrainingResult, fit
from hepllm.learning.optimizers import build_groups
from hepllm.learning.scoring import score_events
from hepllm.model.backbone import load_backbone
from hepllm.model.classifier import EventClassifier, build_classifier

Made = tuple[EventClassifier, PromptEncoder]


def make(config: Config) -> Made:
    backbone = load_backbone(config.backbone, config.seed)
    encoder = PromptEncoder(backbone.tokenizer, config)
    return build_classifier(backbone, encoder.label_tokens, config), encoder


@pytest.fixture(scope="module")
def data(
    tiny_config: Callable[..., Config], event_table: Callable[..., EventTable]
) -> TrainingData:
    names = tiny_config().train.feature_names()
    return TrainingData(event_table(64, names, 1), event_table(32, names, 2))


def train(made: Made, data: TrainingData, config: Config, folder: Path) -> TrainingResult:
    folder.mkdir(exist_ok=True)
    return fit(*made, data, config, folder=folder)


def losses(folder: Path) -> dict[int, float]:
    lines = (json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines())
    return {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}


def test_it_learns_and_a_fresh_model_takes_the_weights_over(
    tiny_config: Callable[..., Config], data: TrainingData, tmp_path: Path
) -> None:
    config = tiny_config("train.epochs=10")
    made = make(config)
    result = train(made, data, config, tmp_path)
    assert result.best["auc"] > 0.9
    assert result.steps == 80
    load_weights(best_checkpoint(tmp_path / "checkpoints"), made[0])
    rows = data.validation.features
    expected = score_events(*made, rows, batch_size=16)
    fresh = make(config)
    assert np.abs(score_events(*fresh, rows, batch_size=16) - expected).max() > 0.1
    load_weights(best_checkpoint(tmp_path / "checkpoints"), fresh[0])
    np.testing.assert_array_equal(score_events(*fresh, rows, batch_size=16), expected)


@pytest.mark.parametrize(
    "extra", [(), ("backbone.lora.dropout=0.1", "train.lora_optimizer=adamw8bit")]
)
def test_a_resumed_training_is_an_unbroken_one(
    extra: Sequence[str], tiny_config: Callable[..., Config], data: TrainingData, tmp_path: Path
) -> None:
    config = tiny_config("train.epochs=3", *extra)
    train(make(config), data, config, tmp_path / "whole")

    class PowerCut(Exception):
        pass

    made = make(config)
    calls = 0

    def cut(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 15 + 4 * 3:  # validation passes come through here as well
            raise PowerCut

    hook = made[0].register_forward_pre_hook(cut)
    with pytest.raises(PowerCut):
        train(made, data, config, tmp_path / "broken")
    hook.remove()
    checkpoint = newest_checkpoint(tmp_path / "broken" / "checkpoints")
    assert checkpoint is not None
    before = len(losses(tmp_path / "broken"))
    fit(*make(config), data, config, folder=tmp_path / "broken", resume_from=checkpoint)
    whole, resumed = losses(tmp_path / "whole"), losses(tmp_path / "broken")
    assert 0 < before < len(whole)
    assert resumed == whole


def test_a_group_without_gradient_stops_the_training(
    tiny_config: Callable[..., Config], data: TrainingData, tmp_path: Path
) -> None:
    config = tiny_config()
    classifier, encoder = make(config)
    assert classifier.nfa is not None
    # The adapter is there and is called, but nothing flows back to it.
    classifier.nfa.register_forward_hook(lambda *args: args[-1].detach())
    with pytest.raises(RunError, match="nfa weights have received no gradient"):
        train((classifier, encoder), data, config, tmp_path)


def test_a_group_that_does_not_move_stops_the_training(
    tiny_config: Callable[..., Config],
    data: TrainingData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny_config()
    made = make(config)

    def with_a_forgotten_group(*args: object) -> object:
        groups = build_groups(*args)  # type: ignore[arg-type]
        strangers = [torch.nn.Parameter(torch.zeros(1))]
        groups[0].optimizer = torch.optim.AdamW(strangers, lr=1.0)
        return groups

    monkeypatch.setattr("hepllm.learning.loop.build_groups", with_a_forgotten_group)
    with pytest.raises(RunError, match="lora weights do not move"):
        train(made, data, config, tmp_path)


def test_a_trainable_weight_without_optimizer_is_refused(
    tiny_config: Callable[..., Config],
) -> None:
    classifier, _ = make(tiny_config())
    classifier.register_parameter("orphan", torch.nn.Parameter(torch.zeros(1)))
    with pytest.raises(RunError, match="have no optimizer, such as orphan"):
        build_groups(classifier, tiny_config().train)


def test_a_loss_that_is_not_finite_stops_the_training(
    tiny_config: Callable[..., Config], data: TrainingData, tmp_path: Path
) -> None:
    config = tiny_config()
    classifier, encoder = make(config)
    assert classifier.nfa is not None
    with torch.no_grad():
        classifier.nfa.missing.fill_(torch.inf)
    with pytest.raises(RunError, match="step 1: the loss is nan"):
        train((classifier, encoder), data, config, tmp_path)


def test_micro_batches_give_the_gradient_of_the_batch(
    tiny_config: Callable[..., Config], data: TrainingData, tmp_path: Path
) -> None:
    for name, extra in (("whole", ()), ("parts", ("train.micro_batch_size=3",))):
        config = tiny_config("train.epochs=1", *extra)
        train(make(config), data, config, tmp_path / name)
    whole, parts = losses(tmp_path / "whole"), losses(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for step, loss in whole.items():
        assert parts[step] == pytest.approx(loss, rel=1e-3)


def test_validation_changes_nothing_in_training(
    tiny_config: Callable[..., Config], data: TrainingData, tmp_path: Path
) -> None:
    for name, often in (("rarely", 1), ("often", 8)):
        config = tiny_config("train.epochs=1", f"train.validations_per_epoch={often}")
        train(make(config), data, config, tmp_path / name)
    assert losses(tmp_path / "rarely") == losses(tmp_path / "often")


@pytest.mark.parametrize(
    "file", ["lora.safetensors", "nfa.safetensors", "state.json", "optimizer-lora.safetensors"]
)
def test_a_checkpoint_without_a_file_is_named(
    file: str, tiny_config: Callable[..., Config], data: TrainingData, tmp_path: Path
) -> None:
    config = tiny_config("train.epochs=1")
    train(make(config), data, config, tmp_path)
    checkpoint = best_checkpoint(tmp_path / "checkpoints")
    (checkpoint / file).unlink()
    with pytest.raises(InputError, match=f"{file}: missing"):
        fit(*make(config), data, config, folder=tmp_path, resume_from=checkpoint)


def test_a_damaged_checkpoint_is_named(
    tiny_config: Callable[..., Config], data: TrainingData, tmp_path: Path
) -> None:
    config = tiny_config("train.epochs=1")
    made = make(config)
    train(made, data, config, tmp_path)
    checkpoint = best_checkpoint(tmp_path / "checkpoints")
    whole = (checkpoint / "lora.safetensors").read_bytes()
    (checkpoint / "lora.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"lora\.safetensors: not readable"):
        load_weights(checkpoint, made[0])


def test_no_pickle_in_a_checkpoint_and_nothing_left_aside(
    tiny_config: Callable[..., Config], data: TrainingData, tmp_path: Path
) -> None:
    config = tiny_config("train.epochs=2")
    train(make(config), data, config, tmp_path)
    folder = tmp_path / "checkpoints"
    files = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert files == {".safetensors", ".json"}
    assert not list(folder.rglob("*.partial"))
    assert 1 <= len(list(folder.glob("step-*"))) <= 2


def test_weights_of_another_kind_of_model_are_refused(
    tiny_config: Callable[..., Config], data: TrainingData, tmp_path: Path
) -> None:
    config = tiny_config("train.epochs=1")
    train(make(config), data, config, tmp_path)
    checkpoint = best_checkpoint(tmp_path / "checkpoints")
    text_only, _ = make(tiny_config("fusion.enabled=false"))
    with pytest.raises(InputError, match="saved with fusion on"):
        load_weights(checkpoint, text_only)
    other_size, _ = make(tiny_config("fusion.hidden_size=16"))
    with pytest.raises(InputError, match="the adapter does not fit"):
        load_weights(checkpoint, other_size)
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(InputError, match="no checkpoint here"):
        best_checkpoint(tmp_path / "checkpoints")
