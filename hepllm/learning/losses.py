"""Losses on the logits of the two label words, chosen by ``train.loss``."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hepllm.arrays import Floats
from hepllm.config import LossConfig


def label_word_loss(logits: Tensor, targets: Tensor, weights: Tensor, config: LossConfig) -> Tensor:
    """Averages the losses of a batch over event weights.

    Args:
        logits: shape (B, 2), background then signal.
        targets: shape (B,), probability of signal in [0, 1]; a label of 0 or 1 is a special case.
        weights: shape (B,); may be negative, as from generators at next-to-leading order.
        config: settings, of which ``focal_gamma`` and ``label_smoothing`` count.

    Returns:
        sum(w * loss) / sum(|w|), a scalar.
    """
    return _average(event_losses(logits, targets, config), weights)


def event_losses(logits: Tensor, targets: Tensor, config: LossConfig) -> Tensor:
    """Returns the loss of each event, shape (B,); the arguments are those of ``label_word_loss``.

    Cross-entropy, or the focal loss (Lin et al., arXiv:1708.02002, equation 4).
    """
    log_p, smoothing = logits.log_softmax(-1), config.label_smoothing
    shares = torch.stack([1 - targets, targets], dim=-1).to(log_p.dtype)
    if config.focal_gamma:
        shares = shares * (1 - smoothing) + smoothing / 2
        # Without the clamp, a certain answer has an infinite slope for exponents below 1.
        modulation = (-torch.expm1(log_p)).clamp(min=1e-12) ** config.focal_gamma
        return -(shares * modulation * log_p).sum(-1)
    losses = -(shares * log_p).sum(-1)
    if smoothing:  # added separately, as torch does for labels
        losses = (1 - smoothing) * losses + -log_p.sum(-1) * (smoothing / 2)
    return losses


def r_drop_loss(
    first: Tensor, second: Tensor, targets: Tensor, weights: Tensor, config: LossConfig
) -> Tensor:
    """Adds the disagreement of two passes with different dropout masks to their mean loss.

    Half of equation 4 of Liang et al., arXiv:2106.14448, so that a strength of 0 gives
    ``label_word_loss``.

    Args:
        first: logits of one pass, shape (B, 2).
        second: logits of the other pass, shape (B, 2).
        targets: shape (B,), probability of signal in [0, 1].
        weights: shape (B,).
        config: settings as for ``label_word_loss``; ``r_drop`` is the strength alpha.
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
    """Returns factors that give both classes the same total weight and keep the sum of weights.

    Args:
        targets: probability of signal of all training events, shape (N,).
        weights: weights of all training events, shape (N,).

    Returns:
        Factor of each event, shape (N,), interpolated between those of the classes by its target.
    """
    totals = []
    for shares in (1 - targets, targets):
        of_class = shares > 0
        totals.append((np.abs(weights[of_class]) * shares[of_class]).sum())
    background, signal = sum(totals) / (2 * np.maximum(totals, 1e-12))
    factors: Floats = (1 - targets) * background + targets * signal
    return factors


def _average(losses: Tensor, weights: Tensor) -> Tensor:
    return (weights * losses).sum() / weights.abs().sum().clamp(min=1e-12)
