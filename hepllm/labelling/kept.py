"""Predictions of an unfinished labelling, kept in its working folder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hepllm.data.work_folder import Parts
from hepllm.labelling.predictions import Key, as_table, from_table

_EVERY = 20.0
"""Seconds after which new predictions are written; a killed process loses at most these."""


class KeptPredictions:
    """Reads and writes predictions as parts of a working folder.

    Args:
        parts: the parts.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        end = f"-{parts.mark}.arrow"
        self._names = sorted(
            file.name.removesuffix(end) for file in parts.folder.glob(f"predictions-*{end}")
        )
        self._new: list[tuple[Key, float]] = []
        self._written = time.monotonic()

    def load(self) -> dict[Key, float]:
        """The predictions of earlier runs."""
        found: dict[Key, float] = {}
        for name in self._names:
            found |= from_table(self._parts.load(name))
        return found

    def add(self, answers: Sequence[tuple[Key, float]]) -> None:
        """Takes new predictions, and writes them now and then."""
        self._new += answers
        if time.monotonic() - self._written > _EVERY:
            self.write()

    def write(self) -> None:
        """Writes the predictions that are not written yet, completely or not at all."""
        if self._new:
            name = f"predictions-{len(self._names):06d}"
            self._parts.save(name, as_table(self._new), [])
            self._names.append(name)
            self._new = []
        self._written = time.monotonic()


@contextmanager
def kept_predictions(parts: Parts) -> Iterator[KeptPredictions]:
    """Gives the predictions of a working folder; what is new is written at the end in any case."""
    kept = KeptPredictions(parts)
    try:
        yield kept
    finally:
        kept.write()
