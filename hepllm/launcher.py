"""What torchrun tells the processes that it starts, read without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

_STARTED_BY_TORCHRUN = "TORCHELASTIC_RUN_ID"


@dataclass(frozen=True)
class Launch:
    """The place of this process among those that were started together.

    Attributes:
        rank: among all processes; 0 is the one that writes and speaks.
        size: number of all processes.
        local_rank: among those of this machine, which is also the number of its GPU.
        local_size: number of those of this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def launched(environ: Mapping[str, str] = os.environ) -> Launch:
    """Reads torchrun's variables.

    ``WORLD_SIZE`` alone proves nothing, for other programs set it too.

    Args:
        environ: environment variables.

    Returns:
        A process alone, where torchrun did not start it.
    """
    if _STARTED_BY_TORCHRUN not in environ:
        return Launch()
    return Launch(
        rank=int(environ["RANK"]),
        size=int(environ["WORLD_SIZE"]),
        local_rank=int(environ["LOCAL_RANK"]),
        local_size=int(environ["LOCAL_WORLD_SIZE"]),
    )
