"""Loss scaling, without which small gradients vanish in float16 (arXiv:1710.03740, section 3.2)."""

from __future__ import annotations

import torch
from torch.amp.grad_scaler import GradScaler

from hepllm.errors import RunError

_SMALLEST = 1.0
"""Below this, gradients overflow float16 that were not even scaled up."""


def loss_scaler(precision: torch.dtype | None, device: torch.device) -> GradScaler:
    """A scaler that scales in float16 alone, and elsewhere passes everything on as it is.

    Args:
        precision: of the matrix products; None for float32.
        device: where the model lies.
    """
    scaler = GradScaler(device.type, enabled=precision == torch.float16)
    # It makes its scale with the first loss, which a process without events does not have.
    scaler.scale(torch.zeros((), device=device))
    return scaler


def adapt_scale(scaler: GradScaler, step: int) -> None:
    """Halves the scale after an overflow, and doubles it after many steps without one.

    Args:
        scaler: after all groups have taken or left out their step.
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
