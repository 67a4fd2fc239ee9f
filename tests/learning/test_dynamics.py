"""The record of a training: what is kept, that it is exact after a resume, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hepllm.cartography.dynamics import DYNAMICS, read_dynamics
from hepllm.config import Config
from hepllm.errors import InputError
from hepllm.learning.dynamics import DynamicsRecorder
from hepllm.learning.listeners import MicroBatch
from hepllm.learning.loop import TrainingResult, fit
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.steps import TrainingData
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder

Make = Callable[[Config], tuple[EventClassifier, PromptEncoder]]

RECORDED = (
    *("train.dynamics=true", "train.epochs=2", "train.batch_size=24"),
    *("train.checkpoint_every=1", "train.keep_checkpoints=9"),
    *("train.nfa_alone.epochs=2", "train.nfa_alone.batch_size=16"),
)
"""64 events in four steps of 24: 16 events of each epoch are left out."""


def batch(step: int, events: list[int], odds: list[float], **more: object) -> MicroBatch:
    logits = torch.tensor([[0.0, one] for one in odds])
    zero = torch.zeros(len(events))
    return MicroBatch(step, np.array(events), logits, zero, zero, zero, 1.0, 1, **more)  # type: ignore[arg-type]


def test_the_true_class_counts_in_the_epoch_of_the_step(
    data: TrainingData, tiny_config: Callable[..., Config]
) -> None:
    plan = TrainingPlan.of(tiny_config("train.epochs=2", "train.batch_size=32"))
    recorder = DynamicsRecorder(data.train, plan)
    assert data.train.label[:2].tolist() == [0, 1]
    recorder(batch(0, [0, 1], [2.0, 2.0]))
    recorder(batch(2, [1, 3], [-80_000.0, 1.0], is_wrong=np.array([False, True])))
    found = recorder.dynamics.parts["model"]
    assert found.n_epochs == 2
    np.testing.assert_array_equal(found.margin[:2, 0], np.array([-2.0, 2.0], dtype=np.float16))
    assert found.probability[1, 0] == np.float16(1 / (1 + np.exp(-2.0)))
    assert found.margin[1, 1] == np.float16(-60_000)
    assert found.probability[1, 1] == 0
    assert np.isnan(found.margin[3, 1])  # shown under another's hypothesis


def test_a_training_records_the_logits_of_its_own_passes_and_is_the_same(
    *,
    data: TrainingData,
    tiny_config: Callable[..., Config],
    make: Make,
    train: Callable[..., TrainingResult],
    losses: Callable[[Path], dict[int, float]],
    tmp_path: Path,
) -> None:
    config, seen = tiny_config(*RECORDED), list[MicroBatch]()
    (tmp_path / "on").mkdir()
    plan = TrainingPlan.of(config)
    fit(*make(config), data, plan, folder=tmp_path / "on", listeners=[seen.append])
    off = tiny_config(*RECORDED, "train.dynamics=false")
    train(make(off), data, off, tmp_path / "off")
    assert losses(tmp_path / "on") == losses(tmp_path / "off")
    assert not (tmp_path / "off" / DYNAMICS).exists()
    dynamics = read_dynamics(tmp_path / "on", "")
    assert {name: part.n_epochs for name, part in dynamics.parts.items()} == {
        "adapter": 2,
        "model": 2,
    }
    part = dynamics.parts["model"]
    expected = np.full((len(data.train), 2), np.nan)
    for one in seen:
        odds = (one.logits[:, 1] - one.logits[:, 0]).numpy()
        sign = np.where(data.train.label[one.events] == 1, 1, -1)
        expected[one.events, one.step // 2] = sign * odds
    np.testing.assert_array_equal(part.margin, expected.astype(np.float16))
    np.testing.assert_allclose(part.probability, 1 / (1 + np.exp(-expected)), atol=1e-3)
    assert np.isnan(part.margin).sum(axis=0).tolist() == [16, 16]
    assert not np.isnan(dynamics.parts["adapter"].margin).any()


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_resumed_training_writes_the_same_bytes(
    *,
    step: int,
    data: TrainingData,
    tiny_config: Callable[..., Config],
    make: Make,
    train: Callable[..., TrainingResult],
    tmp_path: Path,
) -> None:
    config = tiny_config(*RECORDED)
    train(make(config), data, config, tmp_path / "whole")
    expected = (tmp_path / "whole" / DYNAMICS).read_bytes()
    start = tmp_path / "whole" / "checkpoints" / f"step-{step:06d}"
    (tmp_path / "again").mkdir()
    plan = TrainingPlan.of(config)
    fit(*make(config), data, plan, folder=tmp_path / "again", resume_from=start)
    assert (tmp_path / "again" / DYNAMICS).read_bytes() == expected
    (start / DYNAMICS).unlink()
    with pytest.raises(InputError, match=r"dynamics\.parquet: missing; the checkpoint"):
        fit(*make(config), data, plan, folder=tmp_path / "again", resume_from=start)


def test_a_record_is_found_by_digest_where_the_events_differ(
    data: TrainingData, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    from hepllm.learning.distributed import ALONE

    plan = TrainingPlan.of(tiny_config("train.epochs=2", "train.batch_size=32"))
    first = DynamicsRecorder(data.train, plan)
    first(batch(0, [0, 5], [1.0, 3.0]))
    first.save(tmp_path)
    order = np.array([5, 9, 0])
    other = DynamicsRecorder(data.train.take(order), replace(plan))
    other.load(tmp_path, ALONE)
    margin = other.dynamics.parts["model"].margin[:, 0]
    np.testing.assert_array_equal(margin, [3.0, np.nan, -1.0])
