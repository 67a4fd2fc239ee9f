"""Errors that a user can act on; the command line turns each into one line and an exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HepllmError(Exception):
    """The command failed for a known reason, which the message says in one line."""

    exit_code = 1
    """What the command returns to the shell."""


class RunError(HepllmError):
    """Work that had started could not be finished."""


class StoppedError(HepllmError):
    """A signal stopped the work after its state was saved; the message says how to continue.

    The exit code is 128 plus ``signal_number``.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class ChunkError(RunError):
    """A chunk of events could not be processed; the message names the file and the rows."""


class InputError(HepllmError, ValueError):
    """A file or argument is not what the command needs; a ``ValueError`` for Python's callers."""

    exit_code = 2


class ConfigError(HepllmError):
    """The configuration has errors; the message lists all of them, one per line."""

    exit_code = 2


def nearest_name(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """The end of a message that suggests the most similar known name; empty without one."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" (did you mean '{matches[0]}'?)" if matches else ""
