"""Scales the loss so that small gradients do not vanish in float16 (arXiv:1710.03740, 3.2)."""

from __future__ import annotations

import torch
from torch.amp.grad_scaler import GradScaler

from hepllm.errors import RunError

_SMALLEST = 1.0
"""Scale below which even gradients that are not scaled up overflow float16."""


def loss_scaler(precision: torch.dtype | None, device: torch.device) -> GradScaler:
    """Makes a scaler that changes nothing in any other precision than float16."""
    scaler = GradScaler(device.type, enabled=precision == torch.float16)
    # The scaler makes its scale with the first loss, and a process without events has no loss.
    scaler.scale(torch.zeros((), device=device))
    return scaler


def adapt_scale(scaler: GradScaler, step: int) -> None:
    """Halves the scale after an overflow, and doubles it after many steps without one.

    Args:
        scaler: scaler, after the step of all groups.
        step: steps done, this one included.

    Raises:
        RunError: if the gradients overflow at any scale.
    """
    if not scaler.is_enabled():
        return
    scaler.update()
    if scaler.get_scale() < _SMALLEST:
        raise RunError(
            f"step {step}: the gradients overflow float16 however little the loss is scaled; "
            "set backbone.dtype to bfloat16 or float32, or lower train.lr and train.nfa_lr"
        )
