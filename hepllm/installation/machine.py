"""The machine as the checks see it, so that a test can put another one in its place."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hepllm.executor import usable_cores

_PATIENCE = 20.0
"""Seconds after which a program such as nvidia-smi is given up."""


def output_of(command: Sequence[str]) -> str:
    """What a program writes to standard output; nothing where it is missing, fails or hangs."""
    try:
        done = subprocess.run(  # noqa: S603 (fixed commands, no shell)
            list(command), capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def free_space(folder: Path) -> int:
    """Free bytes where a folder is or will be."""
    return shutil.disk_usage(existing_part(folder)).free


def existing_part(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


@dataclass(frozen=True)
class Machine:
    """A machine that can be asked.

    Attributes:
        root: where ``proc``, ``dev``, ``sys`` and ``usr`` lie.
        environ: environment variables.
        output_of: runs a program and gives its output.
        free_space: free bytes in a folder.
        cores: cores that this process may use.
    """

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    output_of: Callable[[Sequence[str]], str] = output_of
    free_space: Callable[[Path], int] = free_space
    cores: Callable[[], int] = usable_cores

    def text(self, file: str) -> str:
        """Content of a file below the root; nothing where it cannot be read."""
        try:
            return (self.root / file).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    @property
    def wsl(self) -> int:
        """1 or 2 in the Windows Subsystem for Linux of that version, 0 elsewhere."""
        version = self.text("proc/version")
        if "microsoft" not in version.lower():
            return 0
        # Version 1 has no kernel of its own and writes "Microsoft" behind Windows' build number.
        return 2 if "WSL2" in version or "microsoft-standard" in version else 1
