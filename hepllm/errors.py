"""Errors that a person can act on; the command line turns each into one line and an exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HepllmError(Exception):
    """The run failed for a reason that is known and can be told in one line.

    Attributes:
        exit_code: what the command returns to the shell.
    """

    exit_code = 1


class RunError(HepllmError):
    """Work that had started could not be finished."""


class StoppedError(HepllmError):
    """Work was stopped by a signal after its state had been saved; the message says how to go on.

    Args:
        message: one line.
        signal_number: the shell gets 128 plus this.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class ChunkError(RunError):
    """A chunk of events could not be processed; the message names the file and the rows."""


class InputError(HepllmError):
    """A file or argument is not what the command needs."""

    exit_code = 2


class ConfigError(HepllmError):
    """The configuration has errors; all of them stand in the message, one a line."""

    exit_code = 2


def nearest_name(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """A hint at the known name most like this one, to stand at the end of a message, or nothing."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" (did you mean '{matches[0]}'?)" if matches else ""
