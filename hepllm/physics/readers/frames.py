"""Reads pandas frames from HDF5, in fixed and in table format, with h5py alone.

In fixed format a frame consists of blocks of columns of one type, such as ``block0_values`` with
its column names in ``block0_items``; ``axis0`` has all names in the frame's order. In table format
it is one dataset of records, whose fields are blocks (``values_block_0``) or single columns.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # registers Blosc and other filters with HDF5
import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Floats
from hepllm.errors import InputError
from hepllm.physics.readers.column_names import Name, block_names, items_names
from hepllm.physics.readers.content import one_line
from hepllm.physics.readers.stored_values import StoredValues, values_of_block, values_of_field

KEY = "df"
"""Name of the frame that is read if a file has several."""


@dataclass(frozen=True)
class _Block:
    """One block of columns.

    Attributes:
        dataset: HDF5 dataset within the frame's group.
        columns: positions of its columns in the frame.
        values: what its values mean.
        rows_first: whether events lie along the first axis, as pandas writes them.
        field: name of the field of the records, in table format.
    """

    dataset: str
    columns: tuple[int, ...]
    values: StoredValues
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

        Only blocks with wanted columns are read, so others may hold texts.

        Raises:
            InputError: the rows are damaged, or a wanted column does not hold numbers.
        """
        wanted = set(range(self.n_columns) if columns is None else columns)
        self.require_numbers(wanted)
        frame = np.empty((stop - start, self.n_columns))
        records: dict[str, NDArray[np.void]] = {}
        try:
            with opened_hdf5(self.path) as file:
                group = file[self.key]
                for block in self._blocks_of(wanted):
                    stored = _read_block(group[block.dataset], block, start, stop, records)
                    try:
                        numbers = block.values.decode(stored)
                    except ValueError as error:
                        raise InputError(
                            f"{self.path}: rows {start}-{stop - 1}: "
                            f"column '{self._name(block, wanted)}': {error}"
                        ) from None
                    _place(frame, block.columns, numbers)
        except (OSError, KeyError) as error:
            raise InputError(
                f"{self.path}: rows {start}-{stop - 1}: damaged: {one_line(error)}"
            ) from None
        return frame if columns is None else frame[:, list(columns)]

    def require_numbers(self, wanted: set[int]) -> None:
        """Raises an ``InputError`` if a wanted column holds something else than numbers."""
        for block in self._blocks_of(wanted):
            if block.values.refusal is not None:
                raise InputError(
                    f"{self.path}: column '{self._name(block, wanted)}' holds "
                    f"{block.values.refusal}, expected numbers"
                )

    def _blocks_of(self, wanted: set[int]) -> list[_Block]:
        return [block for block in self.blocks if not wanted.isdisjoint(block.columns)]

    def _name(self, block: _Block, wanted: set[int]) -> Name:
        """Name of the first wanted column of a block."""
        place = next(column for column in block.columns if column in wanted)
        return place if self.names is None else self.names[place]


def _read_block(
    stored: h5py.Dataset,
    block: _Block,
    start: int,
    stop: int,
    records: dict[str, NDArray[np.void]],
) -> NDArray[Any]:
    """Stored values, shape (rows, columns of the block); ``records`` keeps those of a table."""
    if block.field is None:
        values: NDArray[Any] = stored[start:stop] if block.rows_first else stored[:, start:stop].T
        return values
    if block.dataset not in records:
        records[block.dataset] = stored[start:stop]
    return records[block.dataset][block.field].reshape(stop - start, -1)


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
        file = h5py.File(path, "r", locking="best-effort")  # NFS may have no locks
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
    if error.errno in (errno.EAGAIN, errno.EACCES) or "lock file" in text:
        return f"{path}: another process has it open for writing; try again when it is closed"
    if "already open for write" in text:
        return (
            f"{path}: a process has it open for writing, or was killed while it wrote; "
            "try again when it is closed, or write it anew"
        )
    with suppress(OSError):
        if h5py.is_hdf5(path):
            return f"{path}: damaged HDF5 file: {one_line(error)}"
    return f"{path}: not an HDF5 file"


def _find_key(file: h5py.File, path: Path) -> str:
    """``df``, or else the only group of the file; links without a target count for nothing."""
    found = {str(name): _target(file, str(name)) for name in file}
    if found.get(KEY) is not None:
        return KEY
    groups = [name for name, target in found.items() if isinstance(target, h5py.Group)]
    if KEY not in found and len(groups) == 1:
        return groups[0]
    if not groups and (dead := next((name for name in found if found[name] is None), None)):
        raise InputError(f"{path}: '{dead}' {_describe_link(file, dead)}")
    listed = ", ".join(f"'{name}'" for name in found) or "nothing"
    raise InputError(f"{path}: no key '{KEY}', found {listed}")


def _target(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """What a name in a group stands for; None for a link without a target."""
    try:
        return group[name]
    except (KeyError, OSError, RuntimeError):
        return None


def _describe_link(group: h5py.Group, name: str) -> str:
    link = group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        return f"is a link to '{link.path}' in '{link.filename}', which cannot be opened"
    if isinstance(link, h5py.SoftLink):
        return f"is a link to '{link.path}', which does not exist"
    return "cannot be opened; the file is damaged"


def _open_fixed(group: h5py.Group, path: Path, key: str) -> HdfFrame:
    stored = {str(name): _target(group, str(name)) for name in group}
    if any(isinstance(one, h5py.Dataset) and _is_empty(one) for one in stored.values()):
        raise InputError(f"{path}: there are no events in it")
    axis = stored["axis1"]
    n_rows = -1 if axis is None or h5py.check_vlen_dtype(axis.dtype) else int(axis.shape[0])
    names = items_names(stored["axis0"])
    n_blocks = int(group.attrs.get("nblocks", 1))
    items = [items_names(stored.get(f"block{i}_items")) for i in range(n_blocks)]
    widths, values, rows_first = [], [], []
    for i in range(n_blocks):
        name = f"block{i}_values"
        block = stored.get(name)
        if not isinstance(block, h5py.Dataset):
            raise InputError(f"{path}: no {name} in '{key}'; the file is damaged")
        values.append(values_of_block(block))
        rows_first.append(bool(block.attrs.get("transposed", True)))
        if block.ndim != 2:  # objects, which are pickled as one
            if values[-1].refusal is None:
                raise InputError(f"{path}: {name} in '{key}' is no table; the file is damaged")
            widths.append(len(items[i] or ()))
            continue
        _check_storage(block, path)
        rows, width = block.shape if rows_first[-1] else block.shape[::-1]
        n_rows = rows if n_rows < 0 else n_rows
        if rows != n_rows:
            raise InputError(
                f"{path}: {name} has {rows} rows, expected {n_rows}; the file is damaged"
            )
        widths.append(width)
    if n_rows < 0:
        raise InputError(f"{path}: '{key}' has no column of numbers")
    places = _column_places(names, items, widths, path, key)
    blocks = tuple(
        _Block(f"block{i}_values", places[i], values[i], rows_first[i])
        for i in range(n_blocks)
        if places[i]
    )
    return HdfFrame(path, key, n_rows, None if names is None else tuple(names), blocks)


def _open_table(group: h5py.Group, path: Path, key: str) -> HdfFrame:
    table = group["table"]
    n_rows = int(table.shape[0])
    if n_rows == 0:
        raise InputError(f"{path}: there are no events in it")
    _check_storage(table, path)
    fields = [name for name in table.dtype.names if name != "index"]
    widths = [int(np.prod(table.dtype[field].shape, dtype=int)) for field in fields]
    names = block_names(group.attrs.get("non_index_axes"))
    items = [block_names(table.attrs.get(f"{field}_kind")) for field in fields]
    places = _column_places(names, items, widths, path, key)
    blocks = tuple(
        _Block("table", columns, values_of_field(group, field), field=field)
        for field, columns in zip(fields, places, strict=True)
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
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise InputError(f"{path}: '{key}' has several columns '{repeated[0]}'; rename them")
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


def _check_storage(stored: h5py.Dataset, path: Path) -> None:
    """Refuses rows in other files that are missing, and compressions without a filter here.

    HDF5 itself would give zeros for rows in missing files.
    """
    others = [source.file_name for source in stored.virtual_sources()] if stored.is_virtual else []
    others += [name for name, _, _ in stored.external or ()]
    for other in others:
        if other != "." and not (path.parent / other).exists():
            raise InputError(f"{path}: its rows are in '{other}', which does not exist")
    properties = stored.id.get_create_plist()
    for i in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(i)
        if not h5py.h5z.filter_avail(code):
            called = f" ({name.decode(errors='replace')})" if name else ""
            raise InputError(
                f"{path}: compressed with filter {code}{called}, which is not available; "
                f"available are gzip, szip, lzf and {', '.join(hdf5plugin.FILTERS)}"
            )
