"""How much memory there is to train in: a GPU's, or the machine's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

_GIB = 2**30
_RAM_FOR_OTHERS = 0.1
"""Share of the machine's memory that the system and other programs keep."""
_PROCESS = _GIB
"""Python and its libraries, measured at 0.8 GiB with torch, transformers and a small dataset."""
_WORKSPACE = _GIB // 4
"""Of cuBLAS, cuDNN and the allocator's last, half empty segments."""
_FRAGMENTATION = 0.1
_NCCL = _GIB // 2
"""For what NCCL may take beside torch after its first exchange; an estimate, not measured."""


@dataclass(frozen=True)
class Capacity:
    """Memory of a device.

    Attributes:
        device: what it is, in words.
        total: bytes there are.
        taken: bytes that are not for torch: other programs, the CUDA context.
        limit: bytes that the user allows; None for all.
        allowance: bytes that torch needs beside what can be counted.
        fragmentation: share of the activations that an allocator loses between them.
    """

    device: str
    total: int
    taken: int
    limit: int | None
    allowance: int
    fragmentation: float

    @property
    def usable(self) -> int:
        """Bytes for everything that training needs."""
        free = self.total - self.taken
        return free if self.limit is None else min(free, self.limit)


def device_capacity(
    device: torch.device,
    limit_gib: float | None,
    *,
    n_sharing: int = 1,
    uses_nccl: bool = False,
) -> Capacity:
    """Asks a device for its memory.

    Args:
        device: where the model lies.
        limit_gib: ``train.memory_limit_gib``, of each process.
        n_sharing: processes of a training on this machine, which share its RAM; each has a GPU of
            its own.
        uses_nccl: whether gradients are exchanged with other GPUs, of this machine or another.
    """
    limit = None if limit_gib is None else int(limit_gib * _GIB)
    if device.type != "cuda":
        total = machine_memory()
        free = int(total * (1 - _RAM_FOR_OTHERS)) // n_sharing
        return Capacity("this machine's RAM", total, total - free, limit, _PROCESS, _FRAGMENTATION)
    free, total = torch.cuda.mem_get_info(device)
    taken = total - free - torch.cuda.memory_reserved(device)
    taken += _NCCL if uses_nccl else 0
    return gpu_capacity(torch.cuda.get_device_name(device), total, max(taken, 0), limit)


def gpu_capacity(name: str, total: int, taken: int, limit: int | None) -> Capacity:
    """The capacity of a GPU.

    Args:
        name: of the card.
        total: bytes that it has.
        taken: bytes of the CUDA context, a desktop and other programs.
        limit: bytes that the user allows torch to reserve.
    """
    return Capacity(name, total, taken, limit, _WORKSPACE, _FRAGMENTATION)


def cap_gpu_memory(device: torch.device, limit_gib: float | None) -> None:
    """Makes torch keep to ``train.memory_limit_gib`` on a GPU, whatever the budget says.

    Args:
        device: where the model will lie; nothing is done for a CPU.
        limit_gib: None for all there is.
    """
    if device.type == "cuda" and limit_gib is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit_gib * _GIB / total), device)


def machine_memory(root: Path = Path("/")) -> int:
    """Bytes of RAM that this process may use: the machine's, or its control group's limit.

    Batch systems and containers set such limits, and end a process that passes them.

    Args:
        root: where ``proc`` and ``sys`` lie.
    """
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([installed, *_group_limits(root)])


def _group_limits(root: Path) -> list[int]:
    """Memory limits of the control groups that this process is in, from its own to the root's."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":  # version 2
            base, file = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            base, file = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        folder = base / group.lstrip("/")
        for level in (folder, *folder.parents):
            limits += _number(level / file)
            if level == base:
                break
    return limits


def _number(file: Path) -> list[int]:
    try:
        return [int(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError):  # not there, or "max"
        return []
