"""When, by which command and with which versions something was made."""

from __future__ import annotations

import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hepllm import __version__

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


def this_call() -> dict[str, Any]:
    """What a result says of its making: ``date`` (UTC), ``command`` and ``versions``."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": this_command(),
        "versions": versions(),
    }


def this_command() -> str:
    """The command line of this process, fit to be pasted into a shell."""
    program = Path(sys.argv[0]).name
    return shlex.join(["hepllm" if program == "__main__.py" else program, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of what computes, and the system, by name."""
    found = {"hepllm": __version__, "Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found | {"system": platform.platform()}


def shown_date(date: str) -> str:
    """A date of ``this_call`` for a person, to the minute."""
    return datetime.fromisoformat(date).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
