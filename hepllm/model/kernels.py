"""Tests the 4-bit and 8-bit kernels of bitsandbytes on a device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from bitsandbytes import cextension
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from bitsandbytes.optim.adamw import AdamW8bit

_SIZE = 128
"""Rows and columns: more than the 4,096 values below which the optimizer keeps 32-bit states."""


@dataclass(frozen=True)
class KernelProof:
    """Results of the kernels.

    Attributes:
        nf4_error: RMS difference of normal values from their NF4 form, over their RMS.
        state_dtype: type of the optimizer's states.
        update: largest change of a weight by one step, over the learning rate (1 for AdamW).
    """

    nf4_error: float
    state_dtype: torch.dtype
    update: float


def kernel_library() -> str:
    """Returns the library of bitsandbytes: ``CUDA``, ``CPU``, or ``none`` if it found none."""
    loaded = cextension.lib
    if isinstance(loaded, cextension.ErrorHandlerMockBNBNativeLibrary):
        return "none"
    return "CUDA" if loaded.compiled_with_cuda else "CPU"


def prove_kernels(device: torch.device) -> KernelProof:
    """Quantises values to NF4 and back, and does one step of 8-bit AdamW."""
    rate = 1e-2
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(_SIZE, _SIZE, generator=generator).to(device)
    packed, state = quantize_4bit(values, quant_type="nf4", compress_statistics=True)
    error = (dequantize_4bit(packed, state) - values).square().mean().sqrt()
    weight = torch.nn.Parameter(values.clone())
    optimizer = AdamW8bit([weight], lr=rate, weight_decay=0.0)
    weight.square().sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    change = (weight.detach() - values).abs().max()
    return KernelProof(
        nf4_error=float(error / values.square().mean().sqrt()),
        state_dtype=optimizer.state[weight]["state1"].dtype,
        update=float(change) / rate,
    )
