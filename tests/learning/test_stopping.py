from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hepllm.config import Config
from hepllm.errors import StoppedError
from hepllm.learning.checkpoint import load_weights, newest_checkpoint
from hepllm.learning.loop import TrainingResult, fit
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.steps import TrainingData
from hepllm.learning.stopping import StopRequest, StopRequestedError
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_wish_first(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        stop.check()
        signal.raise_signal(number)
        assert stop.name == number.name
        with pytest.raises(StopRequestedError):
            stop.check()
    assert signal.getsignal(number) is before


def test_a_second_interrupt_does_not_wait() -> None:
    with StopRequest():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_another_thread_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with StopRequest():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_validation_that_was_cut_short_is_made_up_for(
    tiny_config: Callable[..., Config],
    data: TrainingData,
    tmp_path: Path,
    make: Callable[[Config], tuple[EventClassifier, PromptEncoder]],
    train: Callable[..., TrainingResult],
) -> None:
    config = tiny_config("train.epochs=2", "train.validations_per_epoch=1")
    whole = train(make(config), data, config, tmp_path / "whole")
    made = make(config)

    def interrupt(classifier: EventClassifier, _: object) -> None:
        if not classifier.training:
            signal.raise_signal(signal.SIGTERM)

    made[0].register_forward_pre_hook(interrupt)
    with pytest.raises(StoppedError, match="stopped by SIGTERM after step 8 of 16") as stopped:
        train(made, data, config, tmp_path / "cut")
    assert stopped.value.exit_code == 143
    checkpoint = newest_checkpoint(tmp_path / "cut" / "checkpoints")
    assert checkpoint is not None
    fresh = make(config)
    assert load_weights(checkpoint, fresh[0]).validations == ()
    resumed = fit(
        *fresh, data, TrainingPlan.of(config), folder=tmp_path / "cut", resume_from=checkpoint
    )
    assert resumed.validations == whole.validations
