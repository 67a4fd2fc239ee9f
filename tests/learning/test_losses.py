from __future__ import annotations

import numpy as np
import pytest
import torch

from hepllm.learning.losses import label_word_loss


def test_against_the_formula() -> None:
    logits = torch.tensor([[0.2, 1.4], [2.0, -1.0], [0.0, 0.5]])
    labels = torch.tensor([1, 1, 0])
    weights = torch.tensor([1.0, 2.0, -0.5])
    score = (logits[:, 1] - logits[:, 0]).numpy()
    signs = np.array([1, 1, -1])
    expected = np.sum(weights.numpy() * np.log1p(np.exp(-signs * score))) / 3.5
    assert float(label_word_loss(logits, labels, weights)) == pytest.approx(expected, rel=1e-6)


def test_gradient_by_finite_differences() -> None:
    logits = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 1, 0, 1])
    weights = torch.rand(5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: label_word_loss(x, labels, weights), logits)


def test_a_weight_of_two_counts_as_the_event_twice() -> None:
    logits = torch.randn(3, 2)
    labels = torch.tensor([0, 1, 1])
    twice = label_word_loss(logits[[0, 1, 1, 2]], labels[[0, 1, 1, 2]], torch.ones(4))
    weighted = label_word_loss(logits, labels, torch.tensor([1.0, 2.0, 1.0]))
    torch.testing.assert_close(weighted, twice)
