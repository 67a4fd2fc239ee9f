"""What the operating system says of this machine: its memory, and whether it is a part of Windows.

Batch systems and containers limit the memory of a control group, and end a process that exceeds it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")
_COUNT = re.compile(r"^(?P<name>\w+):?\s+(?P<number>\d+)(?P<unit> kB)?$", re.MULTILINE)


def wsl_version(root: Path = ROOT) -> int:
    """Returns 1 or 2 in the Windows Subsystem for Linux of that version, 0 elsewhere.

    Args:
        root: folder of ``proc``.
    """
    version = _text(root / "proc/version")
    if "microsoft" not in version.lower():
        return 0
    # Version 1 writes "Microsoft" after the build number of Windows, without a kernel name.
    return 2 if "WSL2" in version or "microsoft-standard" in version else 1


def total_memory(root: Path = ROOT) -> int:
    """Returns the bytes of RAM that this process may use, of the machine or its control group.

    Args:
        root: folder of ``proc`` and ``sys``.
    """
    installed = _counts(root / "proc/meminfo").get("MemTotal")
    if installed is None:
        installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([installed, *(limit for limit, _ in _groups(root))])


def available_memory(root: Path = ROOT) -> int:
    """Returns the bytes of RAM that are free, or hold copies of files that can be dropped.

    Args:
        root: folder of ``proc`` and ``sys``.
    """
    available = _counts(root / "proc/meminfo").get("MemAvailable")
    if available is None:
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(0, min([available, *(limit - used for limit, used in _groups(root))]))


def own_memory(root: Path = ROOT) -> int:
    """Returns the bytes of RAM that this process holds, without files that it has mapped.

    Args:
        root: folder of ``proc``.
    """
    return _counts(root / "proc/self/status").get("RssAnon", 0)


def _groups(root: Path) -> Iterator[tuple[int, int]]:
    """Yields limit and use of this process's control group and of all groups above it, in bytes.

    Copies of files that can be dropped are not counted as used.
    """
    lines = _text(root / "proc/self/cgroup").splitlines() or ["0::/", "0:memory:/"]
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":  # version 2
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        folder = base / group.lstrip("/")
        for level in (folder, *folder.parents):
            with suppress(ValueError):  # no file, or "max"
                limit = int(_text(level / names[0]))
                yield limit, _used(level, names[1])
            if level == base:
                break


def _used(group: Path, name: str) -> int:
    counts = _counts(group / "memory.stat")
    files = counts.get("total_inactive_file", counts.get("inactive_file", 0))
    with suppress(ValueError):
        return max(0, int(_text(group / name)) - files)
    return 0


def _counts(file: Path) -> dict[str, int]:
    """Reads lines like ``MemTotal: 5 kB`` or ``inactive_file 5120``, in bytes."""
    return {
        line["name"]: int(line["number"]) << (10 if line["unit"] else 0)
        for line in _COUNT.finditer(_text(file))
    }


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
