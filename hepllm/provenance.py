"""Provenance of results: date, command and versions."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hepllm import __version__
from hepllm.records import Record

_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "scikit-learn",
    "numpy",
    "awkward",
    "fastjet",
)


class Call(Record):
    """When, by which command and with which versions something was made."""

    date: str
    """UTC, in the form of ISO 8601."""
    command: str
    """The command line, which can be pasted into a shell."""
    versions: Mapping[str, str]
    """Versions of hepllm, Python and the packages that compute, and the operating system."""


def this_call() -> Call:
    """The present date, the command line of this process and the installed versions."""
    program = Path(sys.argv[0]).name
    command = ["hepllm" if program == "__main__.py" else program, *sys.argv[1:]]
    return Call(date=present_date(), command=shlex.join(command), versions=versions())


def present_date() -> str:
    """The present date, UTC, in the form of ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of hepllm, Python and the packages that compute, and the operating system."""
    found = {"hepllm": __version__, "Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found | {"system": platform.platform(), "processor": _processor()}


def _processor() -> str:
    """Name and number of the processors, and of the GPUs where torch has been loaded."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    text = f"{os.cpu_count()} x {names[0] if names else platform.machine()}"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        text += f", {torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return text


def shown_date(date: str) -> str:
    """A date in the form of ISO 8601 as text for reports, in UTC to the minute."""
    return datetime.fromisoformat(date).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
