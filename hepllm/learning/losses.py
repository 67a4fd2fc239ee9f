"""Losses on the logits of the two label words."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def label_word_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy between the two label words, averaged over event weights.

    Args:
        logits: shape (B, 2), background then signal.
        labels: shape (B,), 0 or 1.
        weights: shape (B,); may be negative, as generators at next-to-leading order give them.

    Returns:
        sum(w * loss) / sum(|w|), a scalar.
    """
    losses = functional.cross_entropy(logits, labels, reduction="none")
    return (weights * losses).sum() / weights.abs().sum().clamp(min=1e-12)
