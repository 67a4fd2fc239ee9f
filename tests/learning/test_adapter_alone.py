"""The adapter's own first training: what it learns, and that nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hepllm.config import Config
from hepllm.errors import ConfigError, RunError
from hepllm.evaluation.metrics import auc
from hepllm.evaluation.scores import scored_events
from hepllm.learning.adapter_alone import train_adapter_alone
from hepllm.learning.inputs import model_inputs
from hepllm.learning.loop import TrainingResult
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.steps import Trainer, TrainingData
from hepllm.model.adapter.fusion import NumericFusionAdapter
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder

Make = Callable[[Config], tuple[EventClassifier, PromptEncoder]]

ALONE = ("train.nfa_alone.epochs=30", "train.nfa_alone.batch_size=16")


def trainer_of(config: Config, make: Make, data: TrainingData) -> Trainer:
    return Trainer.fresh(*make(config), data, TrainingPlan.of(config))


def tokens(nfa: NumericFusionAdapter | None, data: TrainingData) -> tuple[np.ndarray, np.ndarray]:
    assert nfa is not None
    with torch.inference_mode():
        made = [nfa(model_inputs(table)).mean(1).numpy() for table in (data.train, data.validation)]
    return made[0], made[1]


def area(nfa: NumericFusionAdapter | None, data: TrainingData) -> float:
    """AUC of a weak linear layer that reads the soft tokens."""
    train, unseen = tokens(nfa, data)
    scale = train.std()
    fitted = LogisticRegression(C=0.01).fit(train / scale, data.train.label)
    events = scored_events(fitted.decision_function(unseen / scale), data.validation.label)
    return auc(events).value or 0.0


def test_its_soft_tokens_tell_the_classes_apart_and_the_language_model_is_untouched(
    tiny_config: Callable[..., Config], data: TrainingData, make: Make
) -> None:
    trainer = trainer_of(tiny_config(*ALONE), make, data)
    lora = {name: one.clone() for name, one in trainer.classifier.lora_parameters().items()}
    spread = [tokens(trainer.classifier.nfa, data)[1]]
    train_adapter_alone(trainer)
    spread.append(tokens(trainer.classifier.nfa, data)[1])
    assert area(trainer.classifier.nfa, data) > 0.95
    is_signal = data.validation.label == 1
    apart = [np.linalg.norm(x[is_signal].mean(0) - x[~is_signal].mean(0)) for x in spread]
    assert apart[1] > 2 * apart[0]
    for name, one in trainer.classifier.lora_parameters().items():
        assert torch.equal(one, lora[name])
        assert one.grad is None


def test_the_seed_decides_and_no_passes_change_nothing(
    tiny_config: Callable[..., Config], data: TrainingData, make: Make
) -> None:
    found = []
    for settings in (ALONE, ALONE, (), ("train.nfa_alone.epochs=0",)):
        trainer = trainer_of(tiny_config(*settings), make, data)
        train_adapter_alone(trainer)
        found.append(tokens(trainer.classifier.nfa, data)[0])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[2], found[3])
    assert np.abs(found[0] - found[2]).max() > 0


def test_the_average_of_the_weights_begins_behind_it(
    tiny_config: Callable[..., Config],
    data: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Callable[..., TrainingResult],
) -> None:
    slow = ("train.epochs=1", "train.ema_decay=0.9999", "train.nfa_lr=1e-9", "train.lr=1e-9")
    made = make(tiny_config(*ALONE, *slow))
    result = train(made, data, tiny_config(*ALONE, *slow), tmp_path)
    alone = trainer_of(tiny_config(*ALONE), make, data)
    train_adapter_alone(alone)
    expected, found = (tokens(one.nfa, data)[0] for one in (alone.classifier, made[0]))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert result.steps > 0


def test_a_rate_that_diverges_is_told(
    tiny_config: Callable[..., Config], data: TrainingData, make: Make
) -> None:
    trainer = trainer_of(tiny_config(*ALONE, "train.nfa_alone.lr=1e30"), make, data)
    with pytest.raises(RunError, match=r"adapter alone is .*; lower train\.nfa_alone\.lr"):
        train_adapter_alone(trainer)


def test_it_needs_an_adapter(tiny_config: Callable[..., Config]) -> None:
    with pytest.raises(ConfigError, match=r"train\.nfa_alone needs fusion\.enabled"):
        tiny_config("fusion.enabled=false", "train.nfa_alone.epochs=1")


def test_it_follows_m_jj_less_where_the_loss_says_so(
    tiny_config: Callable[..., Config], data: TrainingData, make: Make
) -> None:
    label = data.train.label
    m_jj = 3000 + 10 * data.train.features[:, 0]
    spread = []
    for strength in (0, 100):
        config = tiny_config(*ALONE, f"train.loss.disco={strength}")
        trainer = trainer_of(config, make, replace(data, m_jj=m_jj))
        train_adapter_alone(trainer)
        found = tokens(trainer.classifier.nfa, data)[0]
        distance = found[label == 1].mean(0) - found[label == 0].mean(0)
        spread.append(np.linalg.norm(distance))
    assert spread[1] != pytest.approx(spread[0], rel=1e-3)
