"""LHC Olympics HDF5 files: pandas fixed format, 700 zero-padded (pT, eta, phi) and maybe a label.

pandas keeps a frame as blocks of columns of one type: ``block0_values`` with its columns' names in
``block0_items``, and so on; ``axis0`` has the names in the frame's order. Names that pandas could
only pickle are not read, for a pickle may run code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # registers Blosc and other filters with HDF5
import numpy as np
from numpy.typing import NDArray

from hepllm.errors import InputError
from hepllm.physics.events import EventBatch, Particles

KEY = "df"
N_PARTICLES = 700
N_COLUMNS = 3 * N_PARTICLES

__all__ = ["KEY", "N_COLUMNS", "N_PARTICLES", "LhcoFile", "open_lhco"]

_FILTERS = tuple(hdf5plugin.FILTERS)


@dataclass(frozen=True)
class _Block:
    """One block of columns.

    Attributes:
        name: of the HDF5 dataset.
        columns: places of its columns in the frame.
        rows_first: whether events lie along the first axis, as pandas writes them.
    """

    name: str
    columns: tuple[int, ...]
    rows_first: bool


@dataclass(frozen=True)
class LhcoFile:
    """An LHCO file and how its frame is stored.

    Attributes:
        path: the file.
        n_events: number of rows.
        n_columns: 2,100, or 2,101 with a label in the last.
        blocks: where the columns are.
    """

    path: Path
    n_events: int
    n_columns: int
    blocks: tuple[_Block, ...]

    @property
    def has_labels(self) -> bool:
        """Whether the last column is a label."""
        return self.n_columns == N_COLUMNS + 1

    def read(self, start: int, stop: int) -> EventBatch:
        """Reads rows, start included and stop not, and nothing else.

        Raises:
            InputError: the rows are damaged.
        """
        frame = np.empty((stop - start, self.n_columns))
        try:
            with _opened(self.path) as file:
                for block in self.blocks:
                    self._read_block(file[KEY][block.name], block, start, frame)
        except OSError as error:
            msg = f"{self.path}: rows {start}-{stop - 1}: damaged: {_one_line(error)}"
            raise InputError(msg) from None
        labels = frame[:, -1].copy() if self.has_labels else np.full(len(frame), np.nan)
        return EventBatch(
            event_id=np.arange(start, stop, dtype=np.int64),
            particles=Particles.from_padded(frame[:, :N_COLUMNS]),
            label_raw=labels,
            weight=np.ones(len(frame)),
        )

    def _read_block(
        self, stored: h5py.Dataset, block: _Block, start: int, frame: NDArray[np.float64]
    ) -> None:
        stop = start + len(frame)
        values = stored[start:stop] if block.rows_first else stored[:, start:stop].T
        first, last = block.columns[0], block.columns[-1]
        if block.columns == tuple(range(first, last + 1)):
            frame[:, first : last + 1] = values
        else:
            frame[:, list(block.columns)] = values


def open_lhco(path: Path) -> LhcoFile:
    """Opens an LHCO file and checks its structure; the events themselves are not read.

    Raises:
        InputError: the file is missing, not HDF5, truncated, empty, has no frame ``df``, the wrong
            number of columns, or a compression that is not available.
    """
    with _opened(path) as file:
        group = _frame_group(file, path)
        shapes = _block_shapes(group, path)
        n_events, n_columns = shapes[0].n_rows, sum(shape.n_columns for shape in shapes)
        if n_columns not in (N_COLUMNS, N_COLUMNS + 1):
            msg = (
                f"{path}: {n_columns} columns in '{KEY}', expected {N_COLUMNS} "
                f"({N_PARTICLES} x pT, eta, phi) or {N_COLUMNS + 1} with a label"
            )
            raise InputError(msg)
        _check_rows(group, shapes, path)
        for shape in shapes:
            _check_filters(group[shape.name], path)
        places = _column_places(group, [shape.n_columns for shape in shapes], path)
    blocks = tuple(
        _Block(shape.name, columns, shape.rows_first)
        for shape, columns in zip(shapes, places, strict=True)
    )
    return LhcoFile(path, n_events, n_columns, blocks)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    if not path.is_file():
        what = "is a folder, expected an HDF5 file" if path.is_dir() else "no such file"
        msg = f"{path}: {what}"
        raise InputError(msg)
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
            f"({_one_line(error)})"
        )
    if isinstance(error, PermissionError) or "Permission denied" in text:
        return f"{path}: no permission to read it"
    try:
        is_hdf5 = h5py.is_hdf5(path)
    except OSError:
        is_hdf5 = False
    if not is_hdf5:
        return f"{path}: not an HDF5 file"
    return f"{path}: damaged HDF5 file: {_one_line(error)}"


def _frame_group(file: h5py.File, path: Path) -> h5py.Group:
    if KEY not in file:
        found = ", ".join(f"'{name}'" for name in file) or "nothing"
        msg = f"{path}: no key '{KEY}', found {found}"
        raise InputError(msg)
    group = file[KEY]
    if not isinstance(group, h5py.Group) or "axis0" not in group or "axis1" not in group:
        msg = (
            f"{path}: '{KEY}' is not a pandas frame in fixed format; "
            f"write it with DataFrame.to_hdf(file, key='{KEY}', format='fixed')"
        )
        raise InputError(msg)
    return group


@dataclass(frozen=True)
class _Shape:
    name: str
    rows_first: bool
    n_rows: int
    n_columns: int


def _block_shapes(group: h5py.Group, path: Path) -> list[_Shape]:
    """How large each block is; pandas says by ``transposed`` that events are along axis 0."""
    if any(_is_empty(group[name]) for name in group):
        msg = f"{path}: there are no events in it"
        raise InputError(msg)
    shapes = []
    for i in range(int(group.attrs.get("nblocks", 1))):
        name = f"block{i}_values"
        if name not in group or group[name].ndim != 2:
            msg = f"{path}: no {name} in '{KEY}'; the file is damaged"
            raise InputError(msg)
        rows_first = bool(group[name].attrs.get("transposed", True))
        shape = group[name].shape if rows_first else group[name].shape[::-1]
        shapes.append(_Shape(name, rows_first, *shape))
    return shapes


def _is_empty(stored: h5py.Dataset) -> bool:
    """Whether it holds nothing; pandas puts a dummy in, marked by the attribute ``shape``."""
    return "shape" in stored.attrs or stored.size == 0


def _check_rows(group: h5py.Group, shapes: list[_Shape], path: Path) -> None:
    axis = group["axis1"]
    n_rows = shapes[0].n_rows if h5py.check_vlen_dtype(axis.dtype) else int(axis.shape[0])
    for shape in shapes:
        if shape.n_rows != n_rows:
            msg = (
                f"{path}: {shape.name} has {shape.n_rows} rows, expected {n_rows}; "
                "the file is damaged"
            )
            raise InputError(msg)


def _column_places(group: h5py.Group, widths: list[int], path: Path) -> list[tuple[int, ...]]:
    """For each block, the places of its columns in the frame."""
    n_columns = sum(widths)
    names = _names(group["axis0"])
    items = [_names(group.get(f"block{i}_items")) for i in range(len(widths))]
    if names is None or None in items:
        return _places_without_names(widths, path)
    place = {name: position for position, name in enumerate(names)}
    places = [tuple(place.get(item, -1) for item in block or ()) for block in items]
    held = sorted(column for block in places for column in block)
    if held != list(range(n_columns)) or [len(block) for block in places] != widths:
        msg = f"{path}: the blocks of '{KEY}' do not hold each column once; the file is damaged"
        raise InputError(msg)
    return places


def _names(axis: h5py.Dataset | None) -> list[Any] | None:
    """Column names that stand as plain integers or text; None for those that are pickled."""
    if axis is None or axis.dtype.kind not in "iufSU" or axis.ndim != 1:
        return None
    names: list[Any] = axis[()].tolist()
    return names


def _places_without_names(widths: list[int], path: Path) -> list[tuple[int, ...]]:
    """Where names are pickled: one block is the whole frame, and a lone column is the label."""
    if len(widths) == 1:
        return [tuple(range(widths[0]))]
    if sorted(widths) == [1, N_COLUMNS]:
        particles, label = tuple(range(N_COLUMNS)), (N_COLUMNS,)
        return [label if width == 1 else particles for width in widths]
    msg = (
        f"{path}: the column names of '{KEY}' are pickled, which is not read; "
        "name the columns 0, 1, 2, ... and write the file again"
    )
    raise InputError(msg)


def _check_filters(stored: h5py.Dataset, path: Path) -> None:
    """Refuses a compression that HDF5 cannot undo here."""
    properties = stored.id.get_create_plist()
    for i in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(i)
        if not h5py.h5z.filter_avail(code):
            called = f" ({name.decode(errors='replace')})" if name else ""
            msg = (
                f"{path}: compressed with filter {code}{called}, which is not available; "
                f"there are gzip, szip, lzf and {', '.join(_FILTERS)}"
            )
            raise InputError(msg)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
