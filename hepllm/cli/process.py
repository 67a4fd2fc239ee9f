"""The process of a command: its standard streams, the signals that end it, and its last line."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import logging
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn, Self

import click

from hepllm.errors import StoppedError

LOG = logging.getLogger(__name__)

_HANDLERS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}
"""Signals that end a command, with their usual handlers; nohup and '&' in a script set others."""

_AGAIN = 0.05
"""Seconds after which an interrupt is raised again that Python dropped."""


class StoppableGroup(click.Group):
    """Commands that Ctrl-C, SIGTERM and SIGHUP end with one line, after cleaning up."""

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command of a context.

        Raises:
            StoppedError: a signal came.
        """
        signals = _Signals()
        try:
            with signals:
                return super().invoke(ctx)
        except StoppedError:
            raise
        except BaseException as error:
            # Also another error, as of an import that the signal broke off.
            number = signals.came or (signal.SIGINT if isinstance(error, KeyboardInterrupt) else 0)
            if not number:
                raise
            LOG.debug("stopped", exc_info=True)
            name = signal.Signals(number).name
            text = "interrupted" if number == signal.SIGINT else f"stopped by {name}"
            raise StoppedError(text, number) from None


class _Signals:
    """Raises KeyboardInterrupt for each signal that ends a command.

    Attributes:
        came: number of the first signal that came; 0: none.
    """

    def __init__(self) -> None:
        self.came = 0
        self._earlier: dict[int, Any] = {}
        self._hook = sys.unraisablehook

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number, usual in _HANDLERS.items():
                if signal.getsignal(number) is usual:
                    self._earlier[number] = signal.signal(number, self._raise)
            self._earlier[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._raise)
            sys.unraisablehook = self._dropped
        return self

    def __exit__(self, *error: object) -> None:
        if self._earlier:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        sys.unraisablehook = self._hook

    def _raise(self, number: int, _: FrameType | None) -> NoReturn:
        self.came = self.came or number
        raise KeyboardInterrupt

    def _dropped(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Raises an interrupt again that came where nothing can be raised, as within an import."""
        if unraisable.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        else:
            self._hook(unraisable)


def open_streams() -> None:
    """Opens standard streams that are closed on the null device, and lets them take any name.

    Otherwise the next file that is opened gets the number of a closed stream, and what libraries in
    C++ print goes into it. Names of files that are not text in the encoding of standard output are
    printed as the bytes that they are, or escaped, instead of ending a command that has succeeded.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
            os.set_inheritable(opened, True)
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        is_utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
        sys.stdout.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")


def end(message: str, exit_code: int) -> NoReturn:
    """Writes the last line of a command that did not succeed, and ends the process."""
    for number in _HANDLERS:  # no traceback from the end of the interpreter
        with contextlib.suppress(ValueError):
            signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        if exit_code == 128 + signal.SIGINT and sys.stderr.isatty():
            click.echo(err=True)  # after the terminal's ^C
        click.echo(f"hepllm: {message}", err=True)
    flush_output()
    sys.exit(exit_code)


def flush_output() -> bool:
    """Writes out what was printed; returns whether its reader still takes it."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # The interpreter would try again at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return error.errno != errno.EPIPE
    return True


def describe(error: OSError) -> str:
    """An error of the operating system in one line."""
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename is not None else reason
