"""Ctrl-C and SIGTERM as a wish that the training loop grants at the next safe place."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np

from hepllm.learning.distributed import ALONE, Team

LOG = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequestedError(Exception):
    """Ends a validation early; the training loop catches it and saves."""


class StopRequest:
    """Catches the first Ctrl-C or SIGTERM; a second Ctrl-C interrupts at once.

    Outside the main thread, where no handler can be set, signals stay as they are.

    Args:
        team: of processes that stop together, whichever of them the signal came to.
    """

    def __init__(self, team: Team = ALONE) -> None:
        self.signal_number: int | None = None
        self._team = team
        self._earlier: dict[signal.Signals, Any] = {}

    @property
    def name(self) -> str:
        """Of the signal that came."""
        number = self.signal_number
        return "nothing" if number is None else signal.Signals(number).name

    def check(self, _: object = None) -> None:
        """Ends what this process does if a signal has come to it.

        Raises:
            StopRequestedError: if so.
        """
        if self.signal_number is not None:
            raise StopRequestedError

    def check_together(self) -> None:
        """Ends what all processes do if a signal has come to one of them; all must come here.

        Raises:
            StopRequestedError: in every process, if so.
        """
        if self.agree():
            raise StopRequestedError

    def agree(self) -> bool:
        """Takes over a signal that has come to any process; all must come here."""
        came = np.array([number == self.signal_number for number in _SIGNALS], dtype=float)
        counts = self._team.sum_array(came)
        if not counts.any():
            return False  # one that has come meanwhile is for the next time
        self.signal_number = _SIGNALS[int(counts.argmax())]
        return True

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._earlier[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number
        LOG.warning("%s: saving a checkpoint after this step, then stopping", self.name)
