from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hepllm.config import LossConfig, load_config
from hepllm.errors import ConfigError
from hepllm.learning.losses import (
    balanced_class_weights,
    event_losses,
    label_word_loss,
    r_drop_loss,
)

PLAIN = LossConfig()
CHOICES = [
    PLAIN,
    LossConfig(label_smoothing=0.1),
    LossConfig(focal_gamma=2.0),
    LossConfig(focal_gamma=0.5, label_smoothing=0.2),
]


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    logits = torch.tensor([[0.2, 1.4], [2.0, -1.0], [0.0, 0.5]], dtype=torch.float64)
    return logits, torch.tensor([1, 1, 0]), torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)


def test_against_the_formula(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, _, weights = batch
    score = (logits[:, 1] - logits[:, 0]).numpy()
    signs = np.array([1, 1, -1])
    expected = np.sum(weights.numpy() * np.log1p(np.exp(-signs * score))) / 3.5
    assert float(label_word_loss(*batch, PLAIN)) == pytest.approx(expected, rel=1e-6)


def test_focal_and_smoothed_against_their_formulas(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, weights = (tensor.numpy() for tensor in batch)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for gamma, smoothing in ((2.0, 0.0), (0.0, 0.1), (1.5, 0.3)):
        targets = np.where(np.eye(2, dtype=bool)[labels], 1 - smoothing / 2, smoothing / 2)
        losses = -(targets * (1 - p) ** gamma * np.log(p)).sum(1)
        config = LossConfig(focal_gamma=gamma, label_smoothing=smoothing)
        expected = (weights * losses).sum() / 3.5
        assert float(label_word_loss(*batch, config)) == pytest.approx(expected, rel=1e-9)


def test_r_drop_against_its_formula(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    first, labels, weights = batch
    second = first.flip(1) * 0.7
    p, q = first.softmax(1), second.softmax(1)
    divergences = (p * (p / q).log()).sum(1) + (q * (q / p).log()).sum(1)
    nll = label_word_loss(first, labels, weights, PLAIN)
    nll += label_word_loss(second, labels, weights, PLAIN)
    expected = 0.5 * (nll + 3.0 * 0.5 * (weights * divergences).sum() / 3.5)
    got = r_drop_loss(first, second, labels, weights, LossConfig(r_drop=3.0))
    torch.testing.assert_close(got, expected)


def test_r_drop_of_equal_passes_is_the_plain_loss(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    got = r_drop_loss(batch[0], *batch, LossConfig(r_drop=5.0, focal_gamma=1.0))
    torch.testing.assert_close(got, label_word_loss(*batch, LossConfig(focal_gamma=1.0)))


@pytest.mark.parametrize("config", CHOICES)
def test_gradients_by_finite_differences(config: LossConfig) -> None:
    torch.manual_seed(1)
    logits = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    again = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 1, 0, 1])
    weights = torch.rand(5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: label_word_loss(x, labels, weights, config), logits)
    dropped = config.model_copy(update={"r_drop": 2.0})
    assert torch.autograd.gradcheck(
        lambda x, y: r_drop_loss(x, y, labels, weights, dropped), (logits, again)
    )


def test_certain_answers_have_finite_focal_gradients() -> None:
    logits = torch.tensor([[-200.0, 200.0], [200.0, -200.0]], requires_grad=True)
    loss = label_word_loss(logits, torch.tensor([1, 1]), torch.ones(2), LossConfig(focal_gamma=0.5))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(gradient).all()
    assert gradient[1].abs().max() > 0


def test_focal_loss_cares_less_for_easy_events() -> None:
    logits = torch.tensor([[0.0, 4.0], [0.0, -1.0]])
    labels, weights = torch.tensor([1, 1]), torch.ones(2)

    def share_of_the_easy(config: LossConfig) -> float:
        losses = [
            float(label_word_loss(logits[i : i + 1], labels[i : i + 1], weights[:1], config))
            for i in (0, 1)
        ]
        return losses[0] / sum(losses)

    assert share_of_the_easy(LossConfig(focal_gamma=2.0)) < 0.1 * share_of_the_easy(PLAIN)


def test_a_weight_of_two_counts_as_the_event_twice() -> None:
    logits = torch.randn(3, 2)
    labels = torch.tensor([0, 1, 1])
    twice = label_word_loss(logits[[0, 1, 1, 2]], labels[[0, 1, 1, 2]], torch.ones(4), PLAIN)
    weighted = label_word_loss(logits, labels, torch.tensor([1.0, 2.0, 1.0]), PLAIN)
    torch.testing.assert_close(weighted, twice)


def test_balanced_classes_have_the_same_total() -> None:
    labels = np.array([0] * 30 + [1] * 3, dtype=np.int8)
    weights = np.linspace(0.5, 2.0, 33)
    factors = balanced_class_weights(labels.astype(float), weights)
    totals = [np.sum((weights * factors)[labels == label]) for label in (0, 1)]
    assert totals[0] == pytest.approx(totals[1])
    assert sum(totals) == pytest.approx(weights.sum())


def test_soft_targets_balance_by_their_shares() -> None:
    """A target of 0.3 counts as 0.3 signal and 0.7 background events."""
    targets, weights = np.array([0.3, 1.0, 0.0, 0.0]), np.array([2.0, 1.0, 1.0, 3.0])
    factors = balanced_class_weights(targets, weights)
    signal, background = factors[1], factors[2]
    assert signal / background == pytest.approx((0.7 * 2 + 4) / (0.3 * 2 + 1))
    assert factors[0] == pytest.approx(0.3 * signal + 0.7 * background)
    assert (weights * factors).sum() == pytest.approx(weights.sum())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_have_the_very_losses_and_gradients_that_torch_gives_them(smoothing: float) -> None:
    torch.manual_seed(1)
    logits, labels = 4 * torch.randn(50, 2), torch.randint(0, 2, (50,))
    weights = torch.randn(50)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    config = LossConfig(label_smoothing=smoothing)
    each = functional.cross_entropy(theirs, labels, reduction="none", label_smoothing=smoothing)
    assert torch.equal(event_losses(ours, labels.float(), config), each)
    label_word_loss(ours, labels.float(), weights, config).backward()
    ((weights * each).sum() / weights.abs().sum()).backward()
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("config", CHOICES)
def test_a_soft_target_is_a_mixture_of_labels(config: LossConfig) -> None:
    logits = torch.randn(7, 2, dtype=torch.float64)
    as_signal, as_background, soft = (
        event_losses(logits, torch.full((7,), target, dtype=torch.float64), config)
        for target in (1.0, 0.0, 0.3)
    )
    torch.testing.assert_close(soft, 0.3 * as_signal + 0.7 * as_background)


def test_r_drop_without_dropout_is_an_error() -> None:
    with pytest.raises(ConfigError, match="there is no dropout"):
        load_config(overrides=["train.loss.r_drop=1"])
    with pytest.raises(ConfigError, match="there is no dropout"):  # dropout of an adapter not there
        load_config(overrides=["train.loss.r_drop=1", "fusion.dropout=0.1", "fusion.enabled=false"])
    assert load_config(overrides=["train.loss.r_drop=1", "fusion.dropout=0.1"]).train.loss.r_drop
