"""Turns Ctrl-C and SIGTERM into a stop request, honoured at the next safe point."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any, Self

import numpy as np

from hepllm.learning.distributed import ALONE, Team

LOG = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequestedError(Exception):
    """Ends a validation early; the training loop catches it and saves a checkpoint."""


class StopRequest:
    """Catches the first Ctrl-C or SIGTERM; a second Ctrl-C interrupts at once.

    Outside the main thread, where Python allows no handler, signals keep their usual effect.

    Args:
        team: processes that stop together when one of them gets the signal.
    """

    def __init__(self, team: Team = ALONE) -> None:
        self.signal_number: int | None = None
        self._team = team
        self._earlier: dict[signal.Signals, Any] = {}

    @property
    def name(self) -> str:
        """Name of the signal."""
        number = self.signal_number
        return "nothing" if number is None else signal.Signals(number).name

    def check(self, _: object = None) -> None:
        """Raises StopRequestedError if this process got a signal."""
        if self.signal_number is not None:
            raise StopRequestedError

    def check_together(self) -> None:
        """Raises StopRequestedError in all processes if one got a signal; all must call this."""
        if self.agree():
            raise StopRequestedError

    def agree(self) -> bool:
        """Shares a signal that one process got with the others; all must call this.

        Returns:
            Whether one process got a signal.
        """
        came = np.array([number == self.signal_number for number in _SIGNALS], dtype=float)
        counts = self._team.sum_array(came)
        if not counts.any():
            return False  # a signal that came during the sum counts at the next call
        self.signal_number = _SIGNALS[int(counts.argmax())]
        return True

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._earlier[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number
        LOG.warning("%s: saving a checkpoint after this step, then stopping", self.name)
