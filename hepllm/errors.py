"""Errors that a person can act on; the command line turns each into one line and an exit code."""

from __future__ import annotations


class HepllmError(Exception):
    """The run failed for a reason that is known and can be told in one line.

    Attributes:
        exit_code: what the command returns to the shell.
    """

    exit_code = 1


class RunError(HepllmError):
    """Work that had started could not be finished."""


class ChunkError(RunError):
    """A chunk of events could not be processed; the message names the file and the rows."""


class InputError(HepllmError):
    """A file or argument is not what the command needs."""

    exit_code = 2


class ConfigError(HepllmError):
    """The configuration has errors; all of them stand in the message, one a line."""

    exit_code = 2
