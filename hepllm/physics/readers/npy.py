"""Reads feature tables from NumPy files, mapped into memory so that only wanted rows are read."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Floats
from hepllm.errors import InputError
from hepllm.physics.readers.content import one_line

_NUMBERS = "iufb"
"""Kinds of types that are numbers; those of times and texts are others."""


@dataclass(frozen=True)
class NpyTable:
    """A ``ColumnTable``: an array of shape (rows, columns), or of records."""

    path: Path
    n_rows: int
    n_columns: int
    names: tuple[str, ...] | None

    def read(self, start: int, stop: int, columns: Sequence[int] | None = None) -> Floats:
        """Reads the rows from ``start`` to before ``stop``.

        Raises:
            InputError: a field of the records does not hold one number.
        """
        rows = _map(self.path)[start:stop]
        places = range(self.n_columns) if columns is None else columns
        if self.names is None:
            return np.asarray(rows[:, list(places)], dtype=np.float64)
        return np.stack([self._field(rows, self.names[i]) for i in places], axis=1)

    def _field(self, rows: NDArray[Any], name: str) -> Floats:
        values = rows[name]
        if values.dtype.kind not in _NUMBERS or values.ndim != 1:
            raise InputError(
                f"{self.path}: column '{name}' is of type {rows.dtype[name]}, expected numbers"
            )
        return np.asarray(values, dtype=np.float64)


def open_npy(path: Path) -> NpyTable:
    """Opens an array file; the rows themselves are not read.

    Raises:
        InputError: the file is damaged or empty, or holds an array of another type or shape.
    """
    array = _map(path)
    records = array.dtype.names
    if array.ndim != (1 if records else 2):
        raise InputError(f"{path}: an array of shape {array.shape}, expected (events, columns)")
    if not records and array.dtype.kind not in _NUMBERS:
        raise InputError(f"{path}: an array of type {array.dtype}, expected numbers")
    if array.size == 0:
        raise InputError(f"{path}: there are no events in it")
    return NpyTable(path, len(array), len(records) if records else array.shape[1], records)


@dataclass(frozen=True)
class NpzTable:
    """A ``ColumnTable``: the arrays of an .npz file with one number per event, by their names."""

    path: Path
    n_rows: int
    names: tuple[str, ...]

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return len(self.names)

    def read(self, start: int, stop: int, columns: Sequence[int] | None = None) -> Floats:
        """Reads the rows from ``start`` to before ``stop``; each array is unpacked as a whole."""
        places = range(self.n_columns) if columns is None else columns
        with _archive(self.path) as archive:
            arrays = [archive[self.names[i]][start:stop] for i in places]
        return np.stack([np.asarray(array, dtype=np.float64) for array in arrays], axis=1)


def open_npz(path: Path) -> NpzTable:
    """Opens an archive of arrays.

    Raises:
        InputError: the file is damaged, or its arrays of numbers have different lengths.
    """
    with _archive(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    columns = {n: one for n, one in arrays.items() if one.ndim == 1 and one.dtype.kind in _NUMBERS}
    lengths = {name: len(column) for name, column in columns.items()}
    if not columns:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise InputError(
            f"{path}: no arrays with one number per event, but {shapes or 'none'}; write e.g. "
            "np.savez(file, score=score, m_jj=m_jj)"
        )
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"{path}: arrays of different lengths: {shown}; keep those of one sample")
    n_rows = next(iter(lengths.values()))
    if not n_rows:
        raise InputError(f"{path}: there are no events in it")
    return NpzTable(path, n_rows, tuple(columns))


@contextmanager
def _archive(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            yield archive
    except InputError:  # of the block, and a ValueError
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: not a readable NumPy archive: {one_line(error)}") from None


def _map(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a readable NumPy file: {one_line(error)}") from None
    return array
