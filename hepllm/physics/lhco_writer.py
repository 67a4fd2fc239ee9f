"""Writes events in the official layout of the LHC Olympics files.

A file is a pandas frame in fixed format under the key ``df``: one float64 block with 700
zero-padded (pT, eta, phi) triplets per row, and the label as last column of a labelled file. h5py
writes what pandas and PyTables would write, so that rows can be added while they are made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Floats
from hepllm.errors import RunError
from hepllm.files import write_aside
from hepllm.physics.events import Particles

SLOTS = 700
"""Most particles per row."""

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

_ARRAY_ATTRIBUTES: dict[str, Any] = {
    "CLASS": "ARRAY",
    "VERSION": "2.4",
    "FLAVOR": "numpy",
    "transposed": np.uint8(1),
}


def to_padded(particles: Particles) -> Floats:
    """Zero-padded rows of (pT, eta, phi) triplets, shape (N, 2100); the inverse of ``from_padded``.

    Raises:
        ValueError: an event has more than 700 particles.
    """
    most = particles.counts.max(initial=0)
    if most > SLOTS:
        raise ValueError(f"an event has {most} particles; a row holds at most {SLOTS}")
    rows = np.zeros((len(particles), SLOTS, 3))
    filled = np.arange(SLOTS) < particles.counts[:, np.newaxis]
    rows[filled] = np.stack([particles.pt, particles.eta, particles.phi], axis=1)
    return rows.reshape(len(particles), 3 * SLOTS)


class LhcoWriter:
    """Adds events to a file that ``write_lhco`` opened.

    Attributes:
        n_written: rows written so far.
    """

    def __init__(self, values: h5py.Dataset, *, labelled: bool) -> None:
        self.n_written = 0
        self._values = values
        self._labelled = labelled

    def append(self, rows: Floats, labels: NDArray[Any] | None = None) -> None:
        """Adds rows, shape (n, 2100), with their labels, shape (n,), in a labelled file only."""
        if (labels is not None) != self._labelled:
            raise ValueError("a labelled file needs labels; a file without labels must get none")
        stop = self.n_written + len(rows)
        if stop > len(self._values):
            raise ValueError(f"{stop} events for a file of {len(self._values)}")
        values = rows if labels is None else np.column_stack([rows, labels])
        self._values[self.n_written : stop] = values
        self.n_written = stop


@contextmanager
def write_lhco(path: Path, n_events: int, *, labelled: bool) -> Iterator[LhcoWriter]:
    """Gives a writer for one file, which appears under its name when it is complete.

    Args:
        path: the file; an earlier file stays unchanged if the block fails.
        n_events: number of rows of the complete file.
        labelled: whether column 2,101 holds labels; otherwise the file has 2,100 columns.

    Raises:
        RunError: fewer events were written.
    """
    with write_aside(path) as aside, h5py.File(aside, "w") as file:
        writer = LhcoWriter(_make_layout(file, n_events, labelled), labelled=labelled)
        yield writer
        if writer.n_written != n_events:
            raise RunError(f"{path}: {writer.n_written} of {n_events} events were written")


def _make_layout(file: h5py.File, n_events: int, labelled: bool) -> h5py.Dataset:
    n_columns = 3 * SLOTS + int(labelled)
    _set_attributes(file, {"CLASS": "GROUP", "PYTABLES_FORMAT_VERSION": "2.1", "VERSION": "1.0"})
    group = file.create_group("df")
    _set_attributes(group, _GROUP_ATTRIBUTES)
    for name, length in (("axis0", n_columns), ("axis1", n_events), ("block0_items", n_columns)):
        index = group.create_dataset(name, data=np.arange(length))
        _set_attributes(index, _ARRAY_ATTRIBUTES | {"kind": "integer"})
    values: h5py.Dataset = group.create_dataset(
        "block0_values",
        shape=(n_events, n_columns),
        dtype=np.float64,
        chunks=(min(_CHUNK_ROWS, n_events), n_columns),
        # The filter of the official files; PyTables includes it, so pandas needs no plugin.
        **hdf5plugin.Blosc(cname="blosclz", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE),
    )
    _set_attributes(values, _ARRAY_ATTRIBUTES)
    return values


def _set_attributes(node: Any, attributes: dict[str, Any]) -> None:
    node.attrs["TITLE"] = h5py.Empty("S1")
    for name, value in attributes.items():
        # PyTables reads a fixed-length string as text, not bytes, only if it is marked as UTF-8.
        dtype = h5py.string_dtype("utf-8", len(value)) if isinstance(value, str) else None
        node.attrs.create(name, value, dtype=dtype)
