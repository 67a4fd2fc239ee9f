"""Listeners hear of each event of a step once, and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hepllm.config import Config
from hepllm.learning.listeners import MicroBatch
from hepllm.learning.loop import TrainingResult, fit
from hepllm.learning.losses import event_losses
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.schedule import batch_of_step
from hepllm.learning.steps import Trainer, TrainingData
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder

Make = Callable[[Config], tuple[EventClassifier, PromptEncoder]]


def test_each_event_of_a_step_is_told_of_once(
    data: TrainingData, tiny_config: Callable[..., Config], make: Make
) -> None:
    config = tiny_config("train.micro_batch_size=3", "train.loss.label_smoothing=0.1")
    plan, seen = TrainingPlan.of(config), list[MicroBatch]()
    trainer = replace(Trainer.fresh(*make(config), data, plan), listeners=(seen.append,))
    outcome = trainer.step(5, measure=False)
    assert [len(part.events) for part in seen] == [3, 3, 2]
    events = np.concatenate([part.events for part in seen])
    np.testing.assert_array_equal(events, batch_of_step(5, len(data.train), plan.train, plan.seed))
    targets = torch.cat([part.targets for part in seen]).numpy()
    np.testing.assert_array_equal(targets, data.train.label[events])
    for part in seen:
        assert part.step == 5
        assert part.logits.shape == (len(part.events), 2)
        assert not part.logits.requires_grad
        each = event_losses(part.logits, part.targets, config.train.loss)
        assert float(each.mean()) == pytest.approx(float(part.loss))  # equal weights
    assert outcome.loss == sum(float(part.loss) * part.share for part in seen)
    assert outcome.n_tokens == sum(part.n_tokens for part in seen)


def test_a_training_is_the_same_with_a_listener(
    *,
    data: TrainingData,
    tiny_config: Callable[..., Config],
    make: Make,
    train: Callable[..., TrainingResult],
    losses: Callable[[Path], dict[int, float]],
    tmp_path: Path,
) -> None:
    config, seen = tiny_config("train.epochs=1"), list[MicroBatch]()
    train(make(config), data, config, tmp_path / "alone")
    (tmp_path / "heard").mkdir()
    plan = TrainingPlan.of(config)
    fit(*make(config), data, plan, folder=tmp_path / "heard", listeners=[seen.append])
    assert losses(tmp_path / "heard") == losses(tmp_path / "alone")
    assert sorted(np.concatenate([part.events for part in seen])) == list(range(len(data.train)))


def test_labels_as_soft_targets_are_the_same_training_and_others_are_not(
    data: TrainingData, tiny_config: Callable[..., Config], make: Make
) -> None:
    config = tiny_config("train.loss.class_weights=balanced")
    label = data.train.label.astype(float)

    def first_loss(soft_targets: np.ndarray | None) -> float:
        with_targets = replace(data, soft_targets=soft_targets)
        trainer = Trainer.fresh(*make(config), with_targets, TrainingPlan.of(config))
        return trainer.step(0, measure=False).loss

    assert first_loss(label) == first_loss(None)
    assert first_loss(1 - label) != first_loss(None)


def test_soft_targets_are_probabilities_of_all_events(data: TrainingData) -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\) for 64 events"):
        replace(data, soft_targets=np.zeros(3))
    for wrong in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            replace(data, soft_targets=np.full(len(data.train), wrong))
