"""The memory budget of a training: told, obeyed, recorded, and the same after a resume."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hepllm.config import Config
from hepllm.data.event_table import EventTable
from hepllm.errors import InputError
from hepllm.learning import memory as module
from hepllm.learning.budget import Budget, MemoryChoice
from hepllm.learning.capacity import Capacity
from hepllm.learning.checkpoint import newest_checkpoint
from hepllm.learning.distributed import Team
from hepllm.learning.loop import fit
from hepllm.learning.memory import bytes_of_particles, settle_memory, training_budget
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.steps import TrainingData
from hepllm.model.backbone import causal_model
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.runs.folder import make_classifier

Made = tuple[EventClassifier, PromptEncoder]
GIB = 2**30


class PowerCutError(Exception):
    pass


@pytest.fixture(scope="module")
def config(tiny_config: Callable[..., Config]) -> Config:
    return tiny_config("train.epochs=1", "backbone.dtype=bfloat16", "backbone.device=cpu")


@pytest.fixture(scope="module")
def data(config: Config, event_table: Callable[..., EventTable]) -> TrainingData:
    names = config.train.feature_names()
    return TrainingData(event_table(64, names, 1), event_table(32, names, 2))


@pytest.fixture(scope="module")
def made(config: Config) -> Made:
    return make_classifier(config)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``machine(n_bytes)`` is one with so much memory and nothing else in it."""

    def of(n_bytes: int) -> None:
        def capacity(
            device: torch.device, limit_gib: float | None, *, n_sharing: int, uses_nccl: bool
        ) -> Capacity:
            assert not uses_nccl
            limit = None if limit_gib is None else int(limit_gib * GIB)
            return Capacity("a test", n_bytes, 0, limit, 0, 0.0)

        monkeypatch.setattr(module, "device_capacity", capacity)

    return of


def needed(made: Made, data: TrainingData, config: Config, setting: MemoryChoice) -> int:
    """Bytes that a setting takes on the machine of the tests."""
    budget: Budget = training_budget(*made, data, TrainingPlan.of(config))
    return budget.needs.fixed + budget.activations(setting)


def with_changes(config: Config, **changes: object) -> Config:
    train = config.train.model_copy(update=changes)
    return config.model_copy(update={"train": train})


def scoring_one_by_one(config: Config) -> Config:
    """Validation takes next to nothing then, so that the training's setting counts."""
    evaluation = config.evaluation.model_copy(update={"batch_size": 1})
    return config.model_copy(update={"evaluation": evaluation})


def settle(folder: Path, made: Made, data: TrainingData, config: Config) -> TrainingPlan:
    """Settles a training that begins, or goes on, in a run folder."""
    settled = settle_memory(*made, data, TrainingPlan.of(config), earlier=folder)
    settled.write(folder)
    return settled.plan


def test_the_budget_is_told_and_the_choice_recorded(
    *,
    made: Made,
    data: TrainingData,
    config: Config,
    tmp_path: Path,
    machine: Callable[[int], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine(64 * GIB)
    with caplog.at_level(logging.INFO, logger="hepllm"):
        settled = settle(tmp_path, made, data, config)
    assert settled.setting == MemoryChoice(config.train.batch_size, checkpointing=False)
    assert settled.micro_batch == settled.hyper_parameters["train.micro_batch_size"] == 8
    assert settled.hyper_parameters["backbone.gradient_checkpointing"] is False
    for part in ("memory budget in GiB, a test", "weights", "LoRA", "activations", "spare"):
        assert part in caplog.text
    assert "using micro-batches of 8 events without gradient checkpointing: the fastest" in (
        caplog.text
    )
    record = json.loads((tmp_path / "memory.json").read_text())
    assert (record["micro_batch_size"], record["checkpointing"]) == (8, False)
    assert record["predicted_bytes"]["total"] <= record["predicted_bytes"]["usable"]
    assert not causal_model(made[0].language_model).is_activation_checkpointing


def test_a_small_machine_takes_less(
    made: Made, data: TrainingData, config: Config, tmp_path: Path, machine: Callable[[int], None]
) -> None:
    config = scoring_one_by_one(config)
    machine(needed(made, data, config, MemoryChoice(4, checkpointing=False)))
    settled = settle(tmp_path, made, data, config)
    assert settled.setting is not None
    assert settled.setting != MemoryChoice(8, checkpointing=False)
    is_on = causal_model(made[0].language_model).is_activation_checkpointing
    assert is_on == settled.setting.checkpointing


def test_a_small_machine_validates_fewer_events_at_once(
    made: Made, data: TrainingData, config: Config, tmp_path: Path, machine: Callable[[int], None]
) -> None:
    assert config.evaluation.batch_size is None
    plan = TrainingPlan.of(config)
    machine(64 * GIB)
    (tmp_path / "large").mkdir()
    assert settle(tmp_path / "large", made, data, config).evaluation == plan.evaluation
    one_by_one = scoring_one_by_one(config)
    machine(needed(made, data, one_by_one, MemoryChoice(1, checkpointing=True)))
    (tmp_path / "small").mkdir()
    settled = settle(tmp_path / "small", made, data, config).evaluation
    assert settled.batch_size is not None
    assert settled.batch_size < len(data.validation)
    stated = config.evaluation.model_copy(update={"batch_size": 32})
    config = config.model_copy(update={"evaluation": stated})
    with pytest.raises(InputError, match=r"lower evaluation\.batch_size"):
        settle(tmp_path / "new", made, data, config)


def test_explicit_settings_are_obeyed_with_a_warning(
    *,
    made: Made,
    data: TrainingData,
    config: Config,
    tmp_path: Path,
    machine: Callable[[int], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine(2**20)
    explicit = with_changes(config, micro_batch_size=3)
    backbone = config.backbone.model_copy(update={"gradient_checkpointing": True})
    explicit = explicit.model_copy(update={"backbone": backbone})
    settled = settle(tmp_path, made, data, explicit)
    assert settled.setting == MemoryChoice(3, checkpointing=True)
    assert settled.hyper_parameters == TrainingPlan.of(explicit).hyper_parameters
    assert causal_model(made[0].language_model).is_activation_checkpointing
    assert "if the training runs out of memory" in caplog.text


def test_where_nothing_fits_nothing_is_recorded(
    made: Made, data: TrainingData, config: Config, tmp_path: Path, machine: Callable[[int], None]
) -> None:
    machine(2**20)
    with pytest.raises(
        InputError, match=r"training needs .* GiB even in micro-batches of 1 event with"
    ):
        settle(tmp_path, made, data, config)
    assert list(tmp_path.iterdir()) == []


def test_the_record_holds_on_another_machine_until_the_limit_changes(
    *,
    made: Made,
    data: TrainingData,
    config: Config,
    tmp_path: Path,
    machine: Callable[[int], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine(needed(made, data, config, MemoryChoice(2, checkpointing=True)))
    first = settle(tmp_path, made, data, config)
    assert first.setting is not None
    machine(64 * GIB)
    with caplog.at_level(logging.INFO, logger="hepllm"):
        assert settle(tmp_path, made, data, config) == first
    assert "as this training began" in caplog.text
    machine(2**20)
    assert settle(tmp_path, made, data, config).setting == first.setting
    assert "if the training runs out of memory" in caplog.text
    machine(64 * GIB)
    again = settle(tmp_path, made, data, with_changes(config, micro_batch_size=5))
    assert again.micro_batch == 5
    other = settle(tmp_path, made, data, with_changes(config, memory_limit_gib=32.0))
    assert other.setting == MemoryChoice(8, checkpointing=False)


def test_a_record_that_no_longer_fits_gives_way(
    *,
    data: TrainingData,
    config: Config,
    tmp_path: Path,
    machine: Callable[[int], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = scoring_one_by_one(config)
    made = make_classifier(config)
    machine(64 * GIB)
    assert settle(tmp_path, made, data, config).micro_batch == 8
    small = MemoryChoice(2, checkpointing=True)
    machine(needed(made, data, config, small))
    again = settle(tmp_path, made, data, config)
    assert again.setting is not None
    assert needed(made, data, config, again.setting) <= needed(made, data, config, small)
    assert "no longer fit" in caplog.text


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"micro_batch_size": null}'])
def test_a_broken_record_is_named(
    made: Made, data: TrainingData, config: Config, tmp_path: Path, content: str
) -> None:
    (tmp_path / "memory.json").write_text(content)
    with pytest.raises(InputError, match=r"memory\.json: not readable"):
        settle(tmp_path, made, data, config)


@pytest.mark.slow
def test_several_processes_divide_the_batch(
    made: Made, data: TrainingData, config: Config, machine: Callable[[int], None]
) -> None:
    machine(64 * GIB)
    budget = training_budget(*made, data, TrainingPlan.of(config), team=Team(size=3))
    assert budget.batch.n_events == 3
    assert budget.choose(None, "auto") == (MemoryChoice(3, checkpointing=False), True)


def test_a_run_resumed_with_more_memory_repeats_the_losses_of_an_unbroken_one(
    data: TrainingData, config: Config, tmp_path: Path, machine: Callable[[int], None]
) -> None:
    config = scoring_one_by_one(with_changes(config, validations_per_epoch=4))

    def start(folder: Path) -> tuple[Made, TrainingPlan]:
        folder.mkdir(exist_ok=True)
        made = make_classifier(config)
        return made, settle(folder, made, data, config)

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    small = needed(make_classifier(config), data, config, MemoryChoice(3, checkpointing=True))
    machine(small)
    made, settled = start(whole)
    assert settled.setting != MemoryChoice(8, checkpointing=False)
    fit(*made, data, settled, folder=whole)
    made, again = start(broken)
    assert again == settled
    n_forward = 0

    def cut(module: torch.nn.Module, *_: object) -> None:
        nonlocal n_forward
        n_forward += module.training
        if n_forward == 12:
            raise PowerCutError

    hook = made[0].register_forward_pre_hook(cut)
    with pytest.raises(PowerCutError):
        fit(*made, data, again, folder=broken)
    hook.remove()
    checkpoint = newest_checkpoint(broken / "checkpoints")
    assert checkpoint is not None
    machine(64 * GIB)
    made, resumed = start(broken)
    assert resumed == settled
    fit(*made, data, resumed, folder=broken, resume_from=checkpoint)
    assert _losses(broken) == _losses(whole)
    assert len(_losses(whole)) == 8


def _losses(folder: Path) -> dict[int, float]:
    lines = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    return {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}


def test_the_encoder_of_particles_has_its_part_in_the_budget(
    make: Callable[[Config], Made], tiny_config: Callable[..., Config]
) -> None:
    """Twice the constituents need twice the memory, but for attention, whose pairs grow more."""
    reads = ("fusion.inputs=both", "fusion.particles.width=16")
    classifier, _ = make(tiny_config(*reads))
    names = tiny_config().train.feature_names()
    particles = np.ones((8, 2, 41, 4), dtype=np.float32)
    inputs = ModelInputs(np.ones((8, len(names))), particles)
    whole = bytes_of_particles(classifier, inputs)
    half = bytes_of_particles(classifier, replace(inputs, particles=particles[:, :, :21]))
    assert 2 * half < 1.1 * whole < 4.4 * half
    assert whole > 2 * 40 * 16 * 4 * 10  # ten vectors of each constituent at least
    assert bytes_of_particles(make(tiny_config())[0], ModelInputs(inputs.numbers)) == 0
