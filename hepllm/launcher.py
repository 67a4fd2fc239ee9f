"""Rank and number of the processes that torchrun started, read without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """The rank of this process among those that were started together.

    Attributes:
        rank: rank among all processes; only rank 0 writes files and logs.
        size: number of all processes.
        local_rank: rank on this machine, which is also the number of its GPU.
        local_size: number of processes on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def launched(environ: Mapping[str, str] = os.environ) -> Launch:
    """Reads torchrun's environment variables; without torchrun, this process is the only one."""
    if "TORCHELASTIC_RUN_ID" not in environ:  # other programs set WORLD_SIZE too
        return Launch()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    return Launch(*(int(environ[name]) for name in names))
