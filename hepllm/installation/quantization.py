"""Check of bitsandbytes: 4-bit weights and 8-bit optimizer, on the device of the model."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING

from hepllm.installation.findings import Finding, Level

if TYPE_CHECKING:
    from hepllm.model.kernels import KernelProof

_NF4_ERROR = (0.05, 0.12)
"""Allowed relative RMS error of NF4 for normal values in blocks of 64; 0.09 in theory."""

_REINSTALL = "pip install --force-reinstall -c constraints.txt bitsandbytes"


def check_quantization(
    quantization: str,
    optimizer: str,
    device: str,
    *,
    library: Callable[[], str] | None = None,
    prove: Callable[[str], KernelProof] | None = None,
) -> Finding:
    """Checks whether NF4 and 8-bit AdamW work; a problem only if the configuration uses them.

    Args:
        quantization: ``backbone.quantization``.
        optimizer: ``train.lora_optimizer``.
        device: ``cpu`` or ``cuda``.
        library: returns the library that bitsandbytes has loaded.
        prove: uses the kernels of bitsandbytes on a device.
    """
    import torch

    from hepllm.model.kernels import kernel_library, prove_kernels

    loaded = (library or kernel_library)()
    is_needed = (
        quantization == "nf4"
        or optimizer in ("adamw8bit", "paged_adamw8bit")
        or (optimizer == "auto" and device == "cuda")
    )
    fault_level: Level = "problem" if is_needed else "warning"
    found = f"bitsandbytes {version('bitsandbytes')}, {loaded} library"
    if device == "cuda" and loaded != "CUDA":
        remedy = f"no library for this CUDA version: {_REINSTALL}; see python -m bitsandbytes"
        return Finding("bitsandbytes", fault_level, found, remedy)
    try:
        proof = prove(device) if prove else prove_kernels(torch.device(device))
    except Exception as error:  # its libraries raise anything
        reason = " ".join(str(error).split())[:150]
        return Finding("bitsandbytes", fault_level, f"{found}; {reason}", _REINSTALL)
    found += (
        f"; on {device}: NF4 error {proof.nf4_error:.3f}, "
        f"AdamW states in {str(proof.state_dtype).removeprefix('torch.')}"
    )
    low, high = _NF4_ERROR
    is_right = (
        low < proof.nf4_error < high
        and proof.state_dtype == torch.uint8
        and abs(proof.update - 1) < 0.01
    )
    if not is_right:
        found += f", step {proof.update:.3g} (expected 0.09, uint8, 1)"
        return Finding("bitsandbytes", fault_level, found, _REINSTALL)
    return Finding("bitsandbytes", "ok", found)
