"""Writes events in the official layout of the LHC Olympics files.

A pandas frame in fixed format under the key ``df``: one float64 block of 700 (pT, eta, phi)
triplets a row, zero padded, with the label as last column of a labelled file. What pandas and
PyTables would write is written with h5py alone, so rows can be added while they are made.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Floats
from hepllm.errors import RunError
from hepllm.physics.events import Particles

SLOTS = 700
"""Particles a row has room for."""

_CHUNK_ROWS = 50

_GROUP_ATTRIBUTES: dict[str, Any] = {
    "CLASS": "GROUP",
    "VERSION": "1.0",
    "axis0_variety": "regular",
    "axis1_variety": "regular",
    "block0_items_variety": "regular",
    "encoding": "UTF-8",
    "errors": "strict",
    "nblocks": np.int64(1),
    "ndim": np.int64(2),
    "pandas_type": "frame",
    "pandas_version": "0.15.2",
}


def to_padded(particles: Particles) -> Floats:
    """Rows of (pT, eta, phi) triplets, shape (N, 2100), zero padded; the reverse of reading.

    Raises:
        ValueError: an event has more than 700 particles.
    """
    if len(particles) and particles.counts.max() > SLOTS:
        raise ValueError(
            f"an event has {particles.counts.max()} particles; a row has room for {SLOTS}"
        )
    rows = np.zeros((len(particles), SLOTS, 3))
    filled = np.arange(SLOTS) < particles.counts[:, np.newaxis]
    rows[filled] = np.stack([particles.pt, particles.eta, particles.phi], axis=1)
    return rows.reshape(len(particles), 3 * SLOTS)


class LhcoWriter:
    """Writes one file, aside first; it appears under its name when all rows are in it.

    A context manager; on an exception, and when rows are missing at the end, nothing is left.

    Args:
        path: the file.
        n_events: rows it will have.
        labelled: whether a label stands in the last of 2,101 columns; otherwise there are 2,100.
    """

    def __init__(self, path: Path, n_events: int, *, labelled: bool) -> None:
        self.path = path
        self.n_events = n_events
        self._labelled = labelled
        self._aside = path.with_name(f".{path.name}.partial")
        self._n_written = 0

    def __enter__(self) -> Self:
        self._file = h5py.File(self._aside, "w")
        try:
            self._values = self._make_layout()
        except BaseException:
            self._abandon()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None or self._n_written != self.n_events:
            self._abandon()
            if kind is None:
                raise RunError(
                    f"{self.path}: {self._n_written} of {self.n_events} events were written"
                )
            return
        self._file.close()
        self._aside.replace(self.path)

    def append(self, rows: Floats, labels: NDArray[Any] | None = None) -> None:
        """Adds events.

        Args:
            rows: shape (n, 2100).
            labels: shape (n,), for a labelled file only.
        """
        if (labels is not None) != self._labelled:
            raise ValueError(f"{self.path}: labels belong into a labelled file, and into no other")
        stop = self._n_written + len(rows)
        if stop > self.n_events:
            raise ValueError(f"{self.path}: {stop} events for a file of {self.n_events}")
        columns = rows if labels is None else np.column_stack([rows, labels])
        self._values[self._n_written : stop] = columns
        self._n_written = stop

    def _make_layout(self) -> h5py.Dataset:
        n_columns = 3 * SLOTS + int(self._labelled)
        _set_attributes(
            self._file,
            {
                "CLASS": "GROUP",
                "PYTABLES_FORMAT_VERSION": "2.1",
                "VERSION": "1.0",
            },
        )
        group = self._file.create_group("df")
        _set_attributes(group, _GROUP_ATTRIBUTES)
        for name, length in (
            ("axis0", n_columns),
            ("axis1", self.n_events),
            ("block0_items", n_columns),
        ):
            index = group.create_dataset(name, data=np.arange(length))
            _set_attributes(index, _array_attributes() | {"kind": "integer"})
        values: h5py.Dataset = group.create_dataset(
            "block0_values",
            shape=(self.n_events, n_columns),
            dtype=np.float64,
            chunks=(min(_CHUNK_ROWS, self.n_events), n_columns),
            # As in the official files; PyTables brings this filter, so pandas needs no plugin.
            **hdf5plugin.Blosc(cname="blosclz", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE),
        )
        _set_attributes(values, _array_attributes())
        return values

    def _abandon(self) -> None:
        self._file.close()
        self._aside.unlink(missing_ok=True)


def _array_attributes() -> dict[str, Any]:
    return {
        "CLASS": "ARRAY",
        "VERSION": "2.4",
        "FLAVOR": "numpy",
        "transposed": np.uint8(1),
    }


def _set_attributes(node: Any, attributes: dict[str, Any]) -> None:
    node.attrs["TITLE"] = h5py.Empty("S1")
    for name, value in attributes.items():
        # PyTables takes a fixed-length string for text, not bytes, only where it is marked UTF-8.
        dtype = h5py.string_dtype("utf-8", len(value)) if isinstance(value, str) else None
        node.attrs.create(name, value, dtype=dtype)
