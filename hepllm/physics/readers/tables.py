"""Opens a table of numbers of any known format, without asking what its columns mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hepllm.arrays import Floats
from hepllm.errors import InputError
from hepllm.physics.readers.columns import ColumnTable
from hepllm.physics.readers.content import kind_of_content
from hepllm.physics.readers.delimited import open_delimited
from hepllm.physics.readers.frames import open_frame
from hepllm.physics.readers.npy import open_npy, open_npz
from hepllm.physics.readers.parquet import open_parquet


@dataclass(frozen=True)
class NamedTable:
    """A ``ColumnTable`` whose columns have other names than in the file.

    Attributes:
        table: the table of the file.
        names: one name for each column.
    """

    table: ColumnTable
    names: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The file."""
        return self.table.path

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.table.n_rows

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return self.table.n_columns

    def read(self, start: int, stop: int, columns: Sequence[int] | None = None) -> Floats:
        """Reads rows of the table."""
        return self.table.read(start, stop, columns)


def open_table(
    path: Path, *, tree: str | None = None, names: Sequence[str] | None = None
) -> ColumnTable:
    """Opens a table of any format: Parquet, ROOT, CSV (also packed with gzip), HDF5, NPY, NPZ.

    Args:
        path: the file.
        tree: tree or RNTuple of a ROOT file; None for the only one.
        names: names of the columns, in place of those in the file; None for these.

    Raises:
        InputError: the file is missing, damaged, empty or no table, or has another number of
            columns than there are names.
    """
    kind = kind_of_content(path, packed=("gzip", "zip"))
    table: ColumnTable
    match kind:
        case "root":
            from hepllm.physics.readers.trees import open_tree  # noqa: PLC0415 (loads slowly)

            table = open_tree(path, tree, "with --tree")
        case "hepmc":
            raise InputError(f"{path}: events of a generator, not a table with one row per event")
        case "hdf5":
            table = open_frame(path)
        case "parquet":
            table = open_parquet(path)
        case "npy":
            table = open_npy(path)
        case "zip":
            table = open_npz(path)
        case _:
            table = open_delimited(path)
    if names is None:
        return table
    if len(names) != table.n_columns:
        raise InputError(f"{path}: {len(names)} names for {table.n_columns} columns; name them all")
    return NamedTable(table, tuple(names))
