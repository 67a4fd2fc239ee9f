"""Losses on the logits of the two label words, each a choice of ``train.loss``."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hepllm.arrays import Floats, Labels
from hepllm.config import LossConfig
from hepllm.schema import BACKGROUND, SIGNAL


def label_word_loss(logits: Tensor, labels: Tensor, weights: Tensor, config: LossConfig) -> Tensor:
    """Loss of a batch, averaged over event weights.

    Args:
        logits: shape (B, 2), background then signal.
        labels: shape (B,), 0 or 1.
        weights: shape (B,); may be negative, as generators at next-to-leading order give them.
        config: ``focal_gamma`` and ``label_smoothing``.

    Returns:
        sum(w * loss) / sum(|w|), a scalar.
    """
    if config.focal_gamma:
        losses = _focal(logits, labels, config.focal_gamma, config.label_smoothing)
    else:
        losses = functional.cross_entropy(
            logits, labels, reduction="none", label_smoothing=config.label_smoothing
        )
    return _average(losses, weights)


def r_drop_loss(
    first: Tensor, second: Tensor, labels: Tensor, weights: Tensor, config: LossConfig
) -> Tensor:
    """Mean loss of two passes with different dropout masks, and how far they disagree.

    Half of equation 4 of Liang et al., arXiv:2106.14448, so that a strength of 0 is
    ``label_word_loss``.

    Args:
        first: logits of one pass, shape (B, 2).
        second: logits of the other.
        labels: shape (B,), 0 or 1.
        weights: shape (B,).
        config: ``r_drop`` is the strength alpha; the others as for ``label_word_loss``.
    """
    mean = 0.5 * (
        label_word_loss(first, labels, weights, config)
        + label_word_loss(second, labels, weights, config)
    )
    log_p, log_q = first.log_softmax(-1), second.log_softmax(-1)
    # KL(p||q) + KL(q||p) = sum (p - q) (log p - log q)
    divergence = ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1)
    return mean + 0.25 * config.r_drop * _average(divergence, weights)


def balanced_class_weights(labels: Labels, weights: Floats) -> Floats:
    """Factors that give both classes the same total weight and leave the sum over both as it is.

    Args:
        labels: of all training events, shape (N,).
        weights: of all training events, shape (N,).

    Returns:
        Factors of background and signal, shape (2,).
    """
    totals = np.array([np.abs(weights[labels == label]).sum() for label in (BACKGROUND, SIGNAL)])
    factors: Floats = totals.sum() / (2 * np.maximum(totals, 1e-12))
    return factors


def _focal(logits: Tensor, labels: Tensor, gamma: float, smoothing: float) -> Tensor:
    """Focal loss (Lin et al., arXiv:1708.02002, equation 4), here with smoothed targets too."""
    log_p = logits.log_softmax(-1)
    targets = functional.one_hot(labels, logits.shape[-1]).to(log_p.dtype) * (1 - smoothing)
    targets = targets + smoothing / logits.shape[-1]
    # Without the clamp, a certain answer has an infinite slope for exponents below 1.
    modulation = (-torch.expm1(log_p)).clamp(min=1e-12) ** gamma
    return -(targets * modulation * log_p).sum(-1)


def _average(losses: Tensor, weights: Tensor) -> Tensor:
    return (weights * losses).sum() / weights.abs().sum().clamp(min=1e-12)
