"""Reads feature tables from NumPy files, mapped into memory so that only wanted rows are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Floats
from hepllm.errors import InputError
from hepllm.physics.readers.content import one_line


@dataclass(frozen=True)
class NpyTable:
    """A ``ColumnTable``: an array of shape (rows, columns), or of records."""

    path: Path
    n_rows: int
    n_columns: int
    names: tuple[str, ...] | None

    def read(self, start: int, stop: int, columns: Sequence[int] | None = None) -> Floats:
        """Reads the rows from ``start`` to before ``stop``."""
        rows = _map(self.path)[start:stop]
        places = range(self.n_columns) if columns is None else columns
        if self.names is None:
            return np.asarray(rows[:, list(places)], dtype=np.float64)
        chosen = [np.asarray(rows[self.names[i]], dtype=np.float64) for i in places]
        return np.stack(chosen, axis=1)


def open_npy(path: Path) -> NpyTable:
    """Opens an array file; the rows themselves are not read.

    Raises:
        InputError: the file is damaged or empty, or holds an array of another type or shape.
    """
    array = _map(path)
    records = array.dtype.names
    if array.ndim != (1 if records else 2):
        raise InputError(f"{path}: an array of shape {array.shape}, expected (events, columns)")
    kinds = [array.dtype[name].kind for name in records] if records else [array.dtype.kind]
    if any(kind not in "iufb" for kind in kinds):
        raise InputError(f"{path}: an array of type {array.dtype}, expected numbers")
    if array.size == 0:
        raise InputError(f"{path}: there are no events in it")
    return NpyTable(path, len(array), len(records) if records else array.shape[1], records)


def _map(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a readable NumPy file: {one_line(error)}") from None
    return array
