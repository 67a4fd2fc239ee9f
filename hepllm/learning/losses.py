"""Losses on the logits of the two label words, each a choice of ``train.loss``."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hepllm.arrays import Floats
from hepllm.config import LossConfig


def label_word_loss(logits: Tensor, targets: Tensor, weights: Tensor, config: LossConfig) -> Tensor:
    """Loss of a batch, averaged over event weights.

    Args:
        logits: shape (B, 2), background then signal.
        targets: shape (B,), probability of signal in [0, 1]; a label of 0 or 1 is a special case.
        weights: shape (B,); may be negative, as generators at next-to-leading order give them.
        config: ``focal_gamma`` and ``label_smoothing``.

    Returns:
        sum(w * loss) / sum(|w|), a scalar.
    """
    return _average(event_losses(logits, targets, config), weights)


def event_losses(logits: Tensor, targets: Tensor, config: LossConfig) -> Tensor:
    """Cross-entropy of each event, or the focal loss; arguments as for ``label_word_loss``.

    Returns:
        Shape (B,).
    """
    log_p, smoothing = logits.log_softmax(-1), config.label_smoothing
    shares = torch.stack([1 - targets, targets], dim=-1).to(log_p.dtype)
    if config.focal_gamma:
        return _focal(log_p, shares * (1 - smoothing) + smoothing / 2, config.focal_gamma)
    losses = -(shares * log_p).sum(-1)
    if smoothing:  # the terms apart, as torch adds them for labels
        losses = (1 - smoothing) * losses + -log_p.sum(-1) * (smoothing / 2)
    return losses


def r_drop_loss(
    first: Tensor, second: Tensor, targets: Tensor, weights: Tensor, config: LossConfig
) -> Tensor:
    """Mean loss of two passes with different dropout masks, and how far they disagree.

    Half of equation 4 of Liang et al., arXiv:2106.14448, so that a strength of 0 is
    ``label_word_loss``.

    Args:
        first: logits of one pass, shape (B, 2).
        second: logits of the other.
        targets: shape (B,), probability of signal in [0, 1].
        weights: shape (B,).
        config: ``r_drop`` is the strength alpha; the others as for ``label_word_loss``.
    """
    mean = 0.5 * (
        label_word_loss(first, targets, weights, config)
        + label_word_loss(second, targets, weights, config)
    )
    log_p, log_q = first.log_softmax(-1), second.log_softmax(-1)
    # KL(p||q) + KL(q||p) = sum (p - q) (log p - log q)
    divergence = ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1)
    return mean + 0.25 * config.r_drop * _average(divergence, weights)


def balanced_class_weights(targets: Floats, weights: Floats) -> Floats:
    """Factors that give both classes the same total weight and leave the sum over both as it is.

    Args:
        targets: probability of signal of all training events, shape (N,).
        weights: of all training events, shape (N,).

    Returns:
        Factor of each event, shape (N,); between those of the classes where its target is.
    """
    totals = []
    for shares in (1 - targets, targets):
        of_class = shares > 0
        totals.append((np.abs(weights[of_class]) * shares[of_class]).sum())
    background, signal = sum(totals) / (2 * np.maximum(totals, 1e-12))
    factors: Floats = (1 - targets) * background + targets * signal
    return factors


def _focal(log_p: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """Focal loss (Lin et al., arXiv:1708.02002, equation 4) with targets of shape (B, 2)."""
    # Without the clamp, a certain answer has an infinite slope for exponents below 1.
    modulation = (-torch.expm1(log_p)).clamp(min=1e-12) ** gamma
    return -(targets * modulation * log_p).sum(-1)


def _average(losses: Tensor, weights: Tensor) -> Tensor:
    return (weights * losses).sum() / weights.abs().sum().clamp(min=1e-12)
