"""Every watchdog, proved by injecting the fault that it is there for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hepllm.arrays import Bools, Floats
from hepllm.config import Config
from hepllm.data.event_table import EventTable
from hepllm.errors import RunError
from hepllm.learning.loop import TrainingResult
from hepllm.learning.optimizers import build_groups
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.steps import Trainer, TrainingData
from hepllm.learning.watchdogs import warn_if_collapsed, warn_if_numbers_ignored
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder

Make = Callable[[Config], tuple[EventClassifier, PromptEncoder]]
Train = Callable[..., TrainingResult]


def spread(signal: float, background: float, n_signal: int = 500) -> tuple[Floats, Bools]:
    """Scores of 1,000 events, normally distributed around the means of both classes."""
    is_signal = np.arange(1000) < n_signal
    noise = np.random.default_rng(1).normal(size=1000)
    return np.where(is_signal, signal, background) + noise, is_signal


@pytest.mark.parametrize(
    ("scores", "odds", "warns"),
    [
        (spread(1.0, -1.0), 1.0, False),
        (spread(-9.0, -9.0), 1.0, True),
        (spread(9.0, 9.0), 1.0, True),
        (spread(-6.0, -8.0), 0.001, False),  # right after a training with little signal
        (spread(-7.0, -7.0), 0.001, False),  # nothing learnt is no collapse
        (spread(-15.0, -16.0), 0.001, True),
        (spread(8.0, -8.0, n_signal=10), 1.0, False),  # little signal in the validation
        (spread(-9.0, -9.0, n_signal=10), 1.0, True),
        (spread(-9.0, -9.0, n_signal=0), 1.0, False),  # of one class: nothing can be said
    ],
)
def test_collapse(
    scores: tuple[Floats, Bools], odds: float, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="hepllm"):
        assert warn_if_collapsed(*scores, np.log(odds)) is warns
    assert ("collapsed" in caplog.text) is warns


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((), 0.0),
        (("train.loss.class_weights=balanced",), 0.0),
        (("train.balance=natural",), np.log(10 / 54)),
    ],
)
def test_the_log_odds_are_those_of_the_loss(
    changes: tuple[str, ...],
    expected: float,
    event_table: Callable[..., EventTable],
    tiny_config: Callable[..., Config],
) -> None:
    config = tiny_config(*changes)
    table = event_table(128, config.train.feature_names())
    signal, background = np.flatnonzero(table.label == 1), np.flatnonzero(table.label == 0)
    chosen = np.r_[signal[:10], background[:54]] if changes else np.arange(128)
    data = TrainingData(table.take(chosen), table)
    trainer = Trainer(None, None, data, TrainingPlan.of(config), ())  # type: ignore[arg-type]
    assert trainer.log_odds == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("n_events", [8, 15, 16, 24, 31, 100])
@pytest.mark.parametrize("often", [1, 2, 5, 8, 40])
def test_an_epoch_has_as_many_validations_as_are_set(
    n_events: int,
    often: int,
    event_table: Callable[..., EventTable],
    tiny_config: Callable[..., Config],
) -> None:
    config = tiny_config(
        f"train.validations_per_epoch={often}", "train.batch_size=1", "train.epochs=3"
    )
    table = event_table(n_events, config.train.feature_names())
    data = TrainingData(table, table)
    trainer = Trainer(None, None, data, TrainingPlan.of(config), ())  # type: ignore[arg-type]
    due = [step for step in range(1, 3 * n_events + 1) if trainer.is_validated(step)]
    assert len(due) == 3 * min(often, n_events)
    assert due[-1] == trainer.total_steps == 3 * n_events
    gaps = np.diff([0, *due])
    assert gaps.max() - gaps.min() <= 1


def test_scores_that_ignore_the_numbers(caplog: pytest.LogCaptureFixture) -> None:
    scores = np.random.default_rng(1).normal(size=100)
    assert not warn_if_numbers_ignored(scores, scores[::-1])
    with caplog.at_level(logging.WARNING, logger="hepllm"):
        assert warn_if_numbers_ignored(scores, scores + 1e-6)
        assert warn_if_numbers_ignored(np.zeros(10), np.zeros(10))
    assert "do not depend" in caplog.text


def test_numbers_that_are_not_fed_are_noticed(
    *,
    tiny_config: Callable[..., Config],
    data: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Train,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = tiny_config("train.epochs=2")
    classifier, encoder = make(config)
    assert classifier.nfa is not None
    train((classifier, encoder), data, config, tmp_path / "fed")
    assert "do not depend" not in caplog.text
    classifier.nfa.numbers.register_forward_pre_hook(lambda _, args: (torch.zeros_like(args[0]),))
    train((classifier, encoder), data, config, tmp_path / "starved")
    assert "do not depend on the adapter's numbers" in caplog.text


def test_a_model_of_one_answer_is_noticed(
    *,
    tiny_config: Callable[..., Config],
    data: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Train,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = tiny_config("train.epochs=1")
    made = make(config)
    made[0].register_forward_hook(lambda *args: args[-1] + torch.tensor([50.0, 0.0]))
    train(made, data, config, tmp_path)
    assert "finds 0.0 % of the signal and 0.0 % of the background" in caplog.text


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("adapter", "the adapter's soft tokens are not finite, although its weights are"),
        ("lora", r"the weight lora\..* is not finite: lower train.lr"),
        ("nfa", r"the weight nfa\.missing is not finite: lower train.nfa_lr"),
        ("backbone", "all weights and soft tokens are finite: the language model overflows"),
    ],
)
def test_what_is_not_finite_is_named(
    *,
    fault: str,
    expected: str,
    tiny_config: Callable[..., Config],
    data: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Train,
) -> None:
    config = tiny_config()
    classifier, encoder = make(config)
    assert classifier.nfa is not None
    if fault == "adapter":  # in half precision, where 65,504 is the largest number
        classifier.nfa.register_forward_hook(lambda *args: (args[-1] * 1e9).half().float())
    elif fault == "backbone":
        layer = classifier.language_model.get_submodule("base_model.model.model.layers.0.mlp")
        layer.register_forward_hook(lambda *args: (args[-1] * 1e9).half().float())
    else:
        weight = classifier.nfa.numbers.missing
        if fault == "lora":
            weight = next(iter(classifier.lora_parameters().values()))
        with torch.no_grad():
            weight.fill_(torch.inf)
    with pytest.raises(RunError, match=f"step 1: the loss is (nan|inf); {expected}"):
        train((classifier, encoder), data, config, tmp_path)


def test_a_group_without_gradient_stops_the_training(
    tiny_config: Callable[..., Config], data: TrainingData, tmp_path: Path, make: Make, train: Train
) -> None:
    config = tiny_config()
    classifier, encoder = make(config)
    assert classifier.nfa is not None
    # The adapter is there and is called, but nothing flows back to it.
    classifier.nfa.register_forward_hook(lambda *args: args[-1].detach())
    with pytest.raises(RunError, match="nfa weights have received no gradient"):
        train((classifier, encoder), data, config, tmp_path)


def test_a_group_that_does_not_move_stops_the_training(
    *,
    tiny_config: Callable[..., Config],
    data: TrainingData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Make,
    train: Train,
) -> None:
    config = tiny_config()
    made = make(config)

    def with_a_forgotten_group(*args: object) -> object:
        groups = build_groups(*args)  # type: ignore[arg-type]
        strangers = [torch.nn.Parameter(torch.zeros(1))]
        groups[0].optimizer = torch.optim.AdamW(strangers, lr=1.0)
        return groups

    monkeypatch.setattr("hepllm.learning.loop.build_groups", with_a_forgotten_group)
    with pytest.raises(RunError, match="lora weights do not change"):
        train(made, data, config, tmp_path)


def test_a_trainable_weight_without_optimizer_is_refused(
    tiny_config: Callable[..., Config], make: Make
) -> None:
    classifier, _ = make(tiny_config())
    classifier.register_parameter("orphan", torch.nn.Parameter(torch.zeros(1)))
    with pytest.raises(RunError, match="have no optimizer, such as orphan"):
        build_groups(classifier, tiny_config().train)
