"""LoRA layers in fewer passes over memory, for scoring.

PEFT multiplies the low-rank product by its scaling, adds it to the result of the layer below, and
for 4-bit layers copies that result first. Where no gradient is needed, one matrix product that
adds in place does the same; it rounds once instead of three times.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional


@contextmanager
def fused_lora(model: nn.Module) -> Iterator[None]:
    """Computes LoRA layers in one operation less each, inside the ``with`` block.

    Layers of other kinds than a plain low-rank product with one adapter are left to PEFT.

    Args:
        model: a model whose weights do not change inside, in eval mode and without gradients.
    """
    layers = [layer for layer in model.modules() if _is_plain(layer)]
    try:
        for layer in layers:
            layer.forward = partial(_forward, layer)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _is_plain(layer: nn.Module) -> bool:
    if not isinstance(layer, LoraLayer) or layer.merged or layer.disable_adapters:
        return False
    if len(layer.active_adapters) != 1 or layer.active_adapters[0] not in layer.lora_A:
        return False
    name = layer.active_adapters[0]
    return (
        name not in layer.lora_variant
        and type(layer.lora_A[name]) is nn.Linear
        and type(layer.lora_B[name]) is nn.Linear
        and layer.lora_B[name].bias is None
    )


def _forward(layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    name = layer.active_adapters[0]
    down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
    result: Tensor = layer.base_layer(x, *args, **kwargs)
    # Outside autocast, PEFT multiplies in the precision of its own weights.
    narrow = functional.linear(x if _autocasts(x) else x.to(down.dtype), down)
    flat = result.flatten(0, -2)
    flat.addmm_(
        narrow.flatten(0, -2).to(flat.dtype), up.to(flat.dtype).T, alpha=layer.scaling[name]
    )
    return flat.view_as(result)


def _autocasts(x: Tensor) -> bool:
    return torch.is_autocast_enabled(x.device.type)
