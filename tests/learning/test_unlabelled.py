"""The term on unlabelled events: its gradient, its place in a training, what it refuses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from hepllm.config import Config, UnsupervisedConfig
from hepllm.data.event_table import EventTable
from hepllm.errors import ConfigError, InputError
from hepllm.learning.adapter_alone import fit_alone
from hepllm.learning.inputs import model_inputs
from hepllm.learning.loop import TrainingResult, fit
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.steps import Trainer, TrainingData
from hepllm.learning.unlabelled import Passes, UnlabelledTerm
from hepllm.learning.unsupervised_risk import estimate
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import forward_prompts

Make = Callable[[Config], tuple[EventClassifier, PromptEncoder]]
Train = Callable[..., TrainingResult]

TERM = ("train.unsupervised.weight=5", "train.unsupervised.prior=0.5")


@pytest.fixture(scope="module")
def both(data: TrainingData, event_table: Callable[..., EventTable]) -> TrainingData:
    """The labelled events with 96 unlabelled ones."""
    return replace(data, unlabelled=event_table(96, data.train.names, 3))


def linear_term(n_events: int, seed: int = 0, **changes: object) -> tuple[UnlabelledTerm, Tensor]:
    """A term on events of two Gaussians in the first of two numbers, and weights of a score."""
    random = np.random.default_rng(seed)
    is_signal = np.arange(n_events) % 2
    numbers = np.stack([random.normal(4.0 * is_signal - 2), random.normal(size=n_events)], axis=1)
    config = UnsupervisedConfig(weight=3.0, prior=0.5, **changes)
    return UnlabelledTerm(ModelInputs(numbers), config, 1, 0.0), torch.tensor(
        [1.0, 0.3], dtype=torch.float64, requires_grad=True
    )


def passes(weights: Tensor, micro_batch: int | None = None) -> Passes:
    def logits(inputs: ModelInputs) -> Tensor:
        return torch.from_numpy(inputs.numbers) @ weights

    return Passes(
        lambda inputs: logits(inputs).detach().numpy(),
        logits,
        torch.autograd.backward,
        micro_batch,
    )


@pytest.mark.parametrize("kind", ["mixture", "split", "posterior"])
def test_micro_batches_add_up_to_the_gradient_of_the_whole_estimate(kind: str) -> None:
    everything: dict[str, object] = {"events": None, "gradient_events": None, "kind": kind}
    found = []
    for micro_batch in (None, 7, 1):
        term, weights = linear_term(120, **everything)
        term.add_gradient(0, passes(weights, micro_batch))
        assert weights.grad is not None
        found.append(weights.grad.numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-12)
    step = 1e-5
    for place in range(2):  # by finite differences of the term itself
        values = []
        for sign in (1, -1):
            moved = np.array([1.0, 0.3])
            moved[place] += sign * step
            values.append(estimate(term.inputs.numbers @ moved, 0.5, kind).value)  # type: ignore[arg-type]
        slope = 3.0 * (values[0] - values[1]) / (2 * step)
        assert found[0][place] == pytest.approx(slope, rel=1e-5)


def test_a_part_of_the_events_has_the_gradient_of_all_on_average() -> None:
    whole, weights = linear_term(400, events=None, gradient_events=None)
    whole.add_gradient(0, passes(weights))
    assert weights.grad is not None
    expected, drawn = weights.grad.numpy().copy(), []
    for step in range(100):
        part, some = linear_term(400, events=None, gradient_events=40)
        part.add_gradient(step, passes(some))
        assert some.grad is not None
        drawn.append(some.grad.numpy())
    error = np.std(drawn, axis=0) / np.sqrt(len(drawn))
    assert (np.abs(np.mean(drawn, axis=0) - expected) < 4 * error).all()


def test_the_model_learns_with_the_gradient_of_the_whole_estimate(
    tiny_config: Callable[..., Config], both: TrainingData, make: Make
) -> None:
    """In micro-batches, it is that of one pass through the model and a term in torch."""
    config = tiny_config(
        *TERM,
        *("train.unsupervised.kind=posterior", "train.unsupervised.warmup_fraction=0"),
        *("train.micro_batch_size=25", "train.unsupervised.gradient_events=null"),
    )
    trainer = Trainer.fresh(*make(config), both, TrainingPlan.of(config))
    term = trainer.unlabelled
    assert term is not None
    term.add_gradient(0, trainer._passes())
    weights = trainer.classifier.trained_parameters()
    found = {name: one.grad.clone() for name, one in weights.items() if one.grad is not None}
    trainer.classifier.zero_grad()
    inputs = term.inputs
    logits = forward_prompts(trainer.classifier, trainer.encoder.encode(inputs), inputs)
    mean = (logits[:, 1] - logits[:, 0]).double().sigmoid().mean()
    (5 * (0.5 * (0.5 / mean).log() + 0.5 * (0.5 / (1 - mean)).log())).backward()
    assert len(found) > 2
    for name, one in weights.items():
        if one.grad is not None:
            torch.testing.assert_close(found[name], one.grad, rtol=1e-3, atol=1e-6)


def test_a_resumed_training_takes_the_same_steps(
    *,
    tiny_config: Callable[..., Config],
    both: TrainingData,
    tmp_path: Path,
    make: Make,
    train: Train,
    history: Callable[[Path, str], dict[int, float]],
) -> None:
    settings = (*TERM, "train.unsupervised.kind=split", "train.epochs=1")
    config = tiny_config(*settings)
    whole = make(config)
    train(whole, both, config, tmp_path / "whole")
    folder = tmp_path / "half"
    folder.mkdir()
    kept = ("train.checkpoint_every=3", "train.keep_checkpoints=9")
    first = tiny_config(*settings, *kept)
    fit(*make(first), both, TrainingPlan.of(first), folder=folder)
    again = make(config)
    fit(
        *again,
        both,
        TrainingPlan.of(config),
        folder=folder,
        resume_from=folder / "checkpoints" / "step-000006",
    )
    for name, one in whole[0].trained_parameters().items():
        torch.testing.assert_close(again[0].trained_parameters()[name], one, rtol=0, atol=0)
    shown = history(tmp_path / "whole", "unsupervised/loss")
    assert shown == history(folder, "unsupervised/loss")
    assert min(shown) > 0.3 * 8  # after the warm-up


def test_the_scales_of_the_adapter_are_those_of_all_events(
    data: TrainingData, both: TrainingData
) -> None:
    assert data.inputs_to_scale is data.inputs
    assert len(both.inputs_to_scale) == len(both.train) + 96


def test_the_adapter_alone_learns_from_unlabelled_events(
    tiny_config: Callable[..., Config], both: TrainingData, make: Make
) -> None:
    alone = ("train.nfa_alone.epochs=12", "train.nfa_alone.batch_size=16")
    scores = []
    for settings in ((), (*TERM, "train.unsupervised.kind=split")):
        config = tiny_config(*alone, *settings)
        trainer = Trainer.fresh(*make(config), both, TrainingPlan.of(config))
        nfa = trainer.classifier.nfa
        assert nfa is not None
        assert both.unlabelled is not None
        scores.append(fit_alone(nfa, trainer).score(model_inputs(both.unlabelled)))
    risks = [estimate(one, 0.5, "split").value for one in scores]
    assert risks[1] < risks[0]


def test_few_events_of_the_rarer_class_are_refused() -> None:
    with pytest.raises(InputError, match=r"prior of 0\.1 has 20 of the rarer class, .*events=300$"):
        UnlabelledTerm(
            ModelInputs(np.zeros((500, 2))),
            UnsupervisedConfig(weight=1, prior=0.1, events=200),
            1,
            0.0,
        )
    with pytest.raises(InputError, match=r"100 of 100 .* give more$"):
        UnlabelledTerm(
            ModelInputs(np.zeros((100, 2))), UnsupervisedConfig(weight=1, prior=0.9), 1, 0.0
        )


def test_a_weight_needs_a_prior_and_events(
    tiny_config: Callable[..., Config], data: TrainingData, make: Make
) -> None:
    with pytest.raises(ConfigError, match=r"unsupervised.*weight needs prior"):
        tiny_config("train.unsupervised.weight=1")
    config = tiny_config(*TERM)
    trainer = Trainer.fresh(*make(config), data, TrainingPlan.of(config))
    with pytest.raises(ValueError, match="needs unlabelled events"):
        _ = trainer.unlabelled


@pytest.mark.parametrize(
    ("message", "means", "sigma", "changes"),
    [
        ("are two spikes, ", (-1.0, 1.0), 0.01, {}),
        ("calls 99.8 % of the unlabelled events signal", (5.0, 7.0), 1.0, {"kind": "split"}),
        ("no unlabelled term, because the scores are one heap", (0.0, 0.0), 1.0, {}),
    ],
)
def test_scores_that_cannot_be_right_are_told_once(
    *,
    message: str,
    means: tuple[float, float],
    sigma: float,
    changes: dict[str, object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    term, weights = linear_term(300, **changes)
    drawn = np.array(means)[np.arange(300) % 2] + sigma * norm.ppf((np.arange(300) + 0.5) / 300)
    term.inputs.numbers[:] = np.stack([drawn, np.zeros(300)], axis=1)
    with caplog.at_level(logging.WARNING):
        for step in range(2):
            term.add_gradient(step, passes(weights))
    (told,) = [record.message for record in caplog.records]
    assert message in told
