"""Memory available to a training: that of the GPU, or of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from hepllm.host import ROOT, available_memory, own_memory, total_memory, wsl_version
from hepllm.model.devices import LEFT_TO_WINDOWS

_GIB = 2**30
_RAM_FOR_OTHERS = 0.05
"""Share of the machine's memory by which the system and other programs may still grow."""
_PROCESS = _GIB
"""Python and its libraries, measured at 0.8 GiB with torch, transformers and a small dataset."""
_WORKSPACE = _GIB // 4
"""Workspaces of cuBLAS and cuDNN, and half empty segments of the allocator."""
_FRAGMENTATION = 0.1
_NCCL = _GIB // 2
"""Memory of NCCL beside torch after its first exchange; an estimate, not measured."""


@dataclass(frozen=True)
class Capacity:
    """Memory of a device.

    Attributes:
        device: name of the device.
        total: bytes of the device.
        taken: bytes that torch cannot use: other programs, the CUDA context.
        limit: bytes that the user allows; None for all.
        allowance: bytes that torch needs and that cannot be counted.
        fragmentation: share of the activations that the allocator loses in gaps.
    """

    device: str
    total: int
    taken: int
    limit: int | None
    allowance: int
    fragmentation: float

    @property
    def usable(self) -> int:
        """Bytes that the training may use."""
        free = self.total - self.taken
        return free if self.limit is None else min(free, self.limit)


def device_capacity(
    device: torch.device,
    limit_gib: float | None,
    *,
    n_sharing: int = 1,
    uses_nccl: bool = False,
    root: Path = ROOT,
) -> Capacity:
    """Asks a device for its memory.

    Args:
        device: device that holds the model.
        limit_gib: ``train.memory_limit_gib``, per process.
        n_sharing: processes of the training that share this machine's RAM; each has its own GPU.
        uses_nccl: whether gradients are exchanged with other GPUs, of this machine or another.
        root: folder of ``proc`` and ``sys``.
    """
    limit = None if limit_gib is None else int(limit_gib * _GIB)
    if device.type != "cuda":
        total = total_memory(root)
        spare = max(0, available_memory(root) - int(_RAM_FOR_OTHERS * total))
        # The loaded model is in what this process holds, and in the budget.
        free = min(total, spare // n_sharing + own_memory(root))
        return Capacity("this machine's RAM", total, total - free, limit, _PROCESS, _FRAGMENTATION)
    free, total = torch.cuda.mem_get_info(device)
    taken = total - free - torch.cuda.memory_reserved(device)
    taken += _NCCL if uses_nccl else 0
    taken += LEFT_TO_WINDOWS if wsl_version(root) == 2 else 0
    return gpu_capacity(torch.cuda.get_device_name(device), total, max(taken, 0), limit)


def gpu_capacity(name: str, total: int, taken: int, limit: int | None) -> Capacity:
    """Returns the capacity of a GPU; the arguments are those of ``Capacity``."""
    return Capacity(name, total, taken, limit, _WORKSPACE, _FRAGMENTATION)


def cap_gpu_memory(device: torch.device, limit_gib: float | None) -> None:
    """Makes torch refuse more than ``train.memory_limit_gib`` on a GPU; does nothing on a CPU."""
    if device.type == "cuda" and limit_gib is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit_gib * _GIB / total), device)
