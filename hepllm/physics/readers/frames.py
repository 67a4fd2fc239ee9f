"""pandas frames in HDF5, in fixed and in table format, read with h5py alone.

In fixed format a frame is blocks of columns of one type: ``block0_values`` with its columns' names
in ``block0_items``, and so on; ``axis0`` has the names in the frame's order. In table format it is
one dataset of records, whose fields are blocks (``values_block_0``) or single columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin  # registers Blosc and other filters with HDF5
import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Floats
from hepllm.errors import InputError
from hepllm.physics.readers.column_names import Name, block_names, frame_names, items_names
from hepllm.physics.readers.content import one_line

KEY = "df"
"""The frame that is read where a file has several."""

_FILTERS = tuple(hdf5plugin.FILTERS)


@dataclass(frozen=True)
class _Block:
    """One block of columns.

    Attributes:
        dataset: the HDF5 dataset within the frame's group.
        columns: places of its columns in the frame.
        rows_first: whether events lie along the first axis, as pandas writes them.
        field: of the records, in table format.
    """

    dataset: str
    columns: tuple[int, ...]
    rows_first: bool = True
    field: str | None = None


@dataclass(frozen=True)
class HdfFrame:
    """A frame and how it is stored.

    Attributes:
        path: the file.
        key: the frame's group.
        n_rows: number of rows.
        names: of the columns; None where pandas pickled them beyond recognition.
        blocks: where the columns are.
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
        """Reads rows, start included and stop not, and nothing else.

        Args:
            start: first row.
            stop: the row after the last.
            columns: places of the columns wanted; None for all.

        Returns:
            Shape (stop - start, number of columns).

        Raises:
            InputError: the rows are damaged.
        """
        frame = np.empty((stop - start, self.n_columns))
        try:
            with opened_hdf5(self.path) as file:
                records: dict[str, NDArray[np.void]] = {}
                for block in self.blocks:
                    stored = file[self.key][block.dataset]
                    if block.field is None:
                        values = _read_block(stored, block, start, stop)
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


def _read_block(stored: h5py.Dataset, block: _Block, start: int, stop: int) -> Floats:
    values: Floats = stored[start:stop] if block.rows_first else stored[:, start:stop].T
    return values


def _place(frame: Floats, columns: tuple[int, ...], values: Floats) -> None:
    first, last = columns[0], columns[-1]
    if columns == tuple(range(first, last + 1)):
        frame[:, first : last + 1] = values
    else:
        frame[:, list(columns)] = values


def open_frame(path: Path) -> HdfFrame:
    """Opens a frame and checks its structure; the rows themselves are not read.

    Raises:
        InputError: the file is missing, not HDF5, truncated, empty, has no frame, or a compression
            that is not available.
    """
    with opened_hdf5(path) as file:
        key = _find_key(file, path)
        group = file[key]
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
    """Opens an HDF5 file for reading, or says in one line why it cannot be."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(_describe_unopened(path, error)) from None
    with file:
        yield file


def _describe_unopened(path: Path, error: OSError) -> str:
    text = str(error)
    if "truncated" in text:
        return (
            f"{path}: truncated at {path.stat().st_size} bytes; copy or fetch it again "
            f"({one_line(error)})"
        )
    if isinstance(error, PermissionError) or "Permission denied" in text:
        return f"{path}: no permission to read it"
    try:
        is_hdf5 = h5py.is_hdf5(path)
    except OSError:
        is_hdf5 = False
    if not is_hdf5:
        return f"{path}: not an HDF5 file"
    return f"{path}: damaged HDF5 file: {one_line(error)}"


def _find_key(file: h5py.File, path: Path) -> str:
    """``df``, or else the only group there is."""
    names = [str(name) for name in file]
    if KEY in names:
        if isinstance(file[KEY], h5py.Group):
            return KEY
        raise InputError(
            f"{path}: '{KEY}' is not a pandas frame but a plain array; "
            f"write it with DataFrame.to_hdf(file, key='{KEY}', format='fixed')"
        )
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
    names = frame_names(group)
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
    """Whether it holds nothing; pandas puts a dummy in, marked by the attribute ``shape``."""
    return "shape" in stored.attrs or stored.size == 0


def _column_places(
    names: list[Name] | None,
    items: list[list[Name] | None],
    widths: list[int],
    path: Path,
    key: str,
) -> list[tuple[int, ...]]:
    """For each block, the places of its columns in the frame."""
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
    """Where names cannot be read: one block is the whole frame, and a lone column the last."""
    if len(widths) == 1:
        return [tuple(range(widths[0]))]
    if len(widths) == 2 and min(widths) == 1 < max(widths):
        last = max(widths)
        return [(last,) if width == 1 else tuple(range(last)) for width in widths]
    raise InputError(
        f"{path}: the column names of '{key}' are pickled, which is not read; "
        "name the columns 0, 1, 2, ... and write the file again"
    )


def _check_filters(stored: h5py.Dataset, path: Path) -> None:
    """Refuses a compression that HDF5 cannot undo here."""
    properties = stored.id.get_create_plist()
    for i in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(i)
        if not h5py.h5z.filter_avail(code):
            called = f" ({name.decode(errors='replace')})" if name else ""
            raise InputError(
                f"{path}: compressed with filter {code}{called}, which is not available; "
                f"there are gzip, szip, lzf and {', '.join(_FILTERS)}"
            )
