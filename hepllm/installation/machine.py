"""The machine as the checks see it, which a test can replace by another one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hepllm.executor import usable_cores
from hepllm.host import wsl_version

_PATIENCE = 20.0
"""Seconds to wait for a program such as nvidia-smi."""


def output_of(command: Sequence[str]) -> str:
    """Returns the standard output of a program; nothing where it is missing, fails or hangs."""
    try:
        done = subprocess.run(  # noqa: S603 (fixed commands, no shell)
            list(command), capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def free_space(folder: Path) -> int:
    """Returns the free bytes at the place of a folder, which need not exist."""
    return shutil.disk_usage(existing_part(folder)).free


def existing_part(folder: Path) -> Path:
    """Returns the folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


@dataclass(frozen=True)
class Machine:
    """Files, environment, programs and cores of a machine.

    Attributes:
        root: folder with ``proc``, ``dev``, ``sys`` and ``usr``.
        output_of: runs a program and returns its output.
    """

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    output_of: Callable[[Sequence[str]], str] = output_of
    free_space: Callable[[Path], int] = free_space
    cores: Callable[[], int] = usable_cores

    def text(self, file: str) -> str:
        """Returns the content of a file below the root; nothing where it cannot be read."""
        try:
            return (self.root / file).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    @property
    def wsl(self) -> int:
        """1 or 2 in the Windows Subsystem for Linux of that version, 0 elsewhere."""
        return wsl_version(self.root)
