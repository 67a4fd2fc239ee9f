"""Reads pandas frames from HDF5, in fixed and in table format, with h5py alone.

In fixed format a frame consists of blocks of columns of one type, such as ``block0_values`` with
its column names in ``block0_items``; ``axis0`` has all names in the frame's order. In table format
it is one dataset of records, whose fields are blocks (``values_block_0``) or single columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin  # registers Blosc and other filters with HDF5
import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Floats
from hepllm.errors import InputError
from hepllm.physics.readers.column_names import Name, block_names, items_names
from hepllm.physics.readers.content import one_line

KEY = "df"
"""Name of the frame that is read if a file has several."""


@dataclass(frozen=True)
class _Block:
    """One block of columns.

    Attributes:
        dataset: HDF5 dataset within the frame's group.
        columns: positions of its columns in the frame.
        rows_first: whether events lie along the first axis, as pandas writes them.
        field: name of the field of the records, in table format.
    """

    dataset: str
    columns: tuple[int, ...]
    rows_first: bool = True
    field: str | None = None


@dataclass(frozen=True)
class HdfFrame:
    """A ``ColumnTable`` in a pandas frame.

    Attributes:
        key: name of the frame's group.
        names: names of the columns; None if they cannot be read.
        blocks: the stored blocks of columns.
    """

    path: Path
    key: str
    n_rows: int
    names: tuple[Name, ...] | None
    blocks: tuple[_Block, ...]

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return sum(len(block.columns) for block in self.blocks)

    def read(self, start: int, stop: int, columns: Sequence[int] | None = None) -> Floats:
        """Reads the rows from ``start`` to before ``stop``, shape (rows, columns).

        Raises:
            InputError: the rows are damaged.
        """
        frame = np.empty((stop - start, self.n_columns))
        try:
            with opened_hdf5(self.path) as file:
                records: dict[str, NDArray[np.void]] = {}
                for block in self.blocks:
                    stored = file[self.key][block.dataset]
                    if block.field is None and block.rows_first:
                        values = stored[start:stop]
                    elif block.field is None:
                        values = stored[:, start:stop].T
                    else:
                        if block.dataset not in records:
                            records[block.dataset] = stored[start:stop]
                        values = records[block.dataset][block.field].reshape(len(frame), -1)
                    _place(frame, block.columns, values)
        except OSError as error:
            raise InputError(
                f"{self.path}: rows {start}-{stop - 1}: damaged: {one_line(error)}"
            ) from None
        return frame if columns is None else frame[:, list(columns)]


def _place(frame: Floats, columns: tuple[int, ...], values: Floats) -> None:
    first, last = columns[0], columns[-1]
    if columns == tuple(range(first, last + 1)):
        frame[:, first : last + 1] = values
    else:
        frame[:, list(columns)] = values


def open_frame(path: Path) -> HdfFrame:
    """Opens a frame and checks its structure without reading rows.

    Raises:
        InputError: the file is missing, not HDF5, truncated or empty, or has no frame or a
            compression that is not available.
    """
    with opened_hdf5(path) as file:
        key = _find_key(file, path)
        group = file[key]
        if isinstance(group, h5py.Group):
            if "axis0" in group and "axis1" in group:
                return _open_fixed(group, path, key)
            if isinstance(group.get("table"), h5py.Dataset) and group["table"].dtype.names:
                return _open_table(group, path, key)
    raise InputError(
        f"{path}: '{key}' is not a pandas frame; "
        f"write it with DataFrame.to_hdf(file, key='{KEY}', format='fixed')"
    )


@contextmanager
def opened_hdf5(path: Path) -> Iterator[h5py.File]:
    """Opens an HDF5 file for reading, or raises an ``InputError`` that states why it cannot."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(_describe_unopened(path, error)) from None
    with file:
        yield file


def _describe_unopened(path: Path, error: OSError) -> str:
    text = str(error)
    if "truncated" in text:
        size = path.stat().st_size
        return f"{path}: truncated at {size} bytes; copy or fetch it again ({one_line(error)})"
    if isinstance(error, PermissionError) or "Permission denied" in text:
        return f"{path}: no permission to read it"
    with suppress(OSError):
        if h5py.is_hdf5(path):
            return f"{path}: damaged HDF5 file: {one_line(error)}"
    return f"{path}: not an HDF5 file"


def _find_key(file: h5py.File, path: Path) -> str:
    """``df``, or else the only group of the file."""
    names = [str(name) for name in file]
    if KEY in names:
        return KEY
    groups = [name for name in names if isinstance(file[name], h5py.Group)]
    if len(groups) == 1:
        return groups[0]
    found = ", ".join(f"'{name}'" for name in names) or "nothing"
    raise InputError(f"{path}: no key '{KEY}', found {found}")


def _open_fixed(group: h5py.Group, path: Path, key: str) -> HdfFrame:
    if any(_is_empty(group[name]) for name in group):
        raise InputError(f"{path}: there are no events in it")
    axis = group["axis1"]
    n_rows = -1 if h5py.check_vlen_dtype(axis.dtype) else int(axis.shape[0])
    widths, rows_first = [], []
    for i in range(int(group.attrs.get("nblocks", 1))):
        name = f"block{i}_values"
        if name not in group or group[name].ndim != 2:
            raise InputError(f"{path}: no {name} in '{key}'; the file is damaged")
        _check_filters(group[name], path)
        rows_first.append(bool(group[name].attrs.get("transposed", True)))
        rows, width = group[name].shape if rows_first[-1] else group[name].shape[::-1]
        n_rows = rows if n_rows < 0 else n_rows
        if rows != n_rows:
            raise InputError(
                f"{path}: {name} has {rows} rows, expected {n_rows}; the file is damaged"
            )
        widths.append(width)
    names = items_names(group["axis0"])
    items = [items_names(group.get(f"block{i}_items")) for i in range(len(widths))]
    places = _column_places(names, items, widths, path, key)
    blocks = tuple(
        _Block(f"block{i}_values", columns, transposed)
        for i, (columns, transposed) in enumerate(zip(places, rows_first, strict=True))
    )
    return HdfFrame(path, key, n_rows, None if names is None else tuple(names), blocks)


def _open_table(group: h5py.Group, path: Path, key: str) -> HdfFrame:
    table = group["table"]
    n_rows = int(table.shape[0])
    if n_rows == 0:
        raise InputError(f"{path}: there are no events in it")
    _check_filters(table, path)
    fields = [name for name in table.dtype.names if name != "index"]
    for field in fields:
        if table.dtype[field].base.kind not in "iufb":
            raise InputError(f"{path}: column '{field}' of '{key}' does not hold numbers")
    widths = [int(np.prod(table.dtype[field].shape, dtype=int)) for field in fields]
    names = block_names(group.attrs.get("non_index_axes"))
    items = [block_names(table.attrs.get(f"{field}_kind")) for field in fields]
    places = _column_places(names, items, widths, path, key)
    blocks = tuple(
        _Block("table", columns, field=field) for field, columns in zip(fields, places, strict=True)
    )
    return HdfFrame(path, key, n_rows, None if names is None else tuple(names), blocks)


def _is_empty(stored: h5py.Dataset) -> bool:
    """Whether it is empty; pandas then writes a dummy with the attribute ``shape``."""
    return "shape" in stored.attrs or stored.size == 0


def _column_places(
    names: list[Name] | None,
    items: list[list[Name] | None],
    widths: list[int],
    path: Path,
    key: str,
) -> list[tuple[int, ...]]:
    """For each block, the positions of its columns in the frame."""
    if names is None or None in items:
        return _places_without_names(widths, path, key)
    place = {name: position for position, name in enumerate(names)}
    places = [tuple(place.get(item, -1) for item in block or ()) for block in items]
    held = sorted(column for block in places for column in block)
    if held != list(range(sum(widths))) or [len(block) for block in places] != widths:
        raise InputError(
            f"{path}: the blocks of '{key}' do not hold each column once; the file is damaged"
        )
    return places


def _places_without_names(widths: list[int], path: Path, key: str) -> list[tuple[int, ...]]:
    """Positions without names: one block is the whole frame, and a single column is the last."""
    if len(widths) == 1:
        return [tuple(range(widths[0]))]
    if len(widths) == 2 and min(widths) == 1 < max(widths):
        last = max(widths)
        return [(last,) if width == 1 else tuple(range(last)) for width in widths]
    raise InputError(
        f"{path}: the column names of '{key}' are pickled in an unknown way; "
        "name the columns 0, 1, 2, ... and write the file again"
    )


def _check_filters(stored: h5py.Dataset, path: Path) -> None:
    """Refuses a compression for which HDF5 has no filter here."""
    properties = stored.id.get_create_plist()
    for i in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(i)
        if not h5py.h5z.filter_avail(code):
            called = f" ({name.decode(errors='replace')})" if name else ""
            raise InputError(
                f"{path}: compressed with filter {code}{called}, which is not available; "
                f"available are gzip, szip, lzf and {', '.join(hdf5plugin.FILTERS)}"
            )
