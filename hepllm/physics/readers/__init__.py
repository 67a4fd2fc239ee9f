"""Readers of event files: each opens a file once, can be sent to workers and reads rows there."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from hepllm.physics.events import EventBatch
from hepllm.physics.readers.lhco import open_lhco


class EventFile(Protocol):
    """An event file whose structure is known; frozen and picklable."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def n_events(self) -> int:
        """Number of rows."""

    @property
    def has_labels(self) -> bool:
        """Whether the file itself says which events are signal."""

    def read(self, start: int, stop: int) -> EventBatch:
        """Reads rows, start included and stop not."""


def open_event_file(path: Path) -> EventFile:
    """Opens an event file of any known format.

    Raises:
        InputError: the file is missing, damaged, empty or of no known format.
    """
    return open_lhco(path)
