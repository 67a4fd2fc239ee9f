"""Reads feature tables from Parquet files, by row groups."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hepllm.arrays import Floats
from hepllm.arrow_files import open_file
from hepllm.errors import InputError
from hepllm.physics.readers.content import one_line

_BATCH_ROWS = 8_192
_BUFFER = 65_536
"""Bytes read at once per column, because a row group may hold the whole file."""

_EXTENSION = b"ARROW:extension:name"
"""Metadata of a column whose stored values stand for something else, such as a period of time."""


@dataclass(frozen=True)
class ParquetTable:
    """A ``ColumnTable`` in a Parquet file.

    Attributes:
        group_starts: first row of each row group, and last the number of rows.
    """

    path: Path
    names: tuple[str, ...]
    group_starts: tuple[int, ...]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.group_starts[-1]

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return len(self.names)

    def read(self, start: int, stop: int, columns: Sequence[int] | None = None) -> Floats:
        """Reads the rows from ``start`` to before ``stop``, from the row groups that hold them.

        Raises:
            InputError: the rows are damaged, or a column does not hold numbers.
        """
        names = self.names if columns is None else [self.names[i] for i in columns]
        bounds = enumerate(itertools.pairwise(self.group_starts))
        groups = [group for group, (first, end) in bounds if first < stop and end > start]
        parts: list[pa.RecordBatch] = []
        row = self.group_starts[groups[0]] if groups else stop
        try:
            with (
                open_file(self.path) as stream,
                pq.ParquetFile(stream, buffer_size=_BUFFER, pre_buffer=False) as file,
            ):
                for batch in file.iter_batches(_BATCH_ROWS, groups, list(names), use_threads=False):
                    first, last = max(start - row, 0), min(stop - row, len(batch))
                    if first < last:
                        parts.append(batch.slice(first, last - first))
                    row += len(batch)
                    if row >= stop:
                        break
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{self.path}: rows {start}-{stop - 1}: damaged: {one_line(error)}"
            ) from None
        table = pa.Table.from_batches(parts)
        return np.stack([self._numbers(table, name) for name in names], axis=1)

    def _numbers(self, table: pa.Table, name: str) -> Floats:
        """A column as numbers; NaN where it is null."""
        if table.schema.names.count(name) > 1:
            raise InputError(f"{self.path}: several columns are called '{name}'; rename them")
        column = table[name]
        if stands_for := _extension_of(table.schema.field(name)):
            raise InputError(
                f"{self.path}: column '{name}' is of type {stands_for}, expected numbers"
            )
        try:
            # An integer above 2^53 is rounded, as in all other formats.
            column = pc.cast(column, pa.float64(), safe=not pa.types.is_integer(column.type))
        except pa.ArrowException:
            raise InputError(
                f"{self.path}: column '{name}' is of type {column.type}, expected numbers"
            ) from None
        numbers: Floats = column.to_numpy()
        return numbers


def _extension_of(field: pa.Field) -> str | None:
    """The extension type of a column, which Arrow knows only if a library has registered it."""
    if isinstance(field.type, pa.BaseExtensionType):
        return str(field.type.extension_name)
    stated: bytes | None = (field.metadata or {}).get(_EXTENSION)
    return None if stated is None else stated.decode(errors="replace")


def open_parquet(path: Path) -> ParquetTable:
    """Opens a Parquet file; the rows themselves are not read.

    Raises:
        InputError: the file is damaged or empty.
    """
    try:
        with open_file(path) as stream, pq.ParquetFile(stream) as file:
            metadata, names = file.metadata, tuple(file.schema_arrow.names)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable Parquet file: {one_line(error)}") from None
    if metadata.num_rows == 0 or not names:
        raise InputError(f"{path}: there are no events in it")
    counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    starts = np.concatenate([[0], np.cumsum(counts)])
    return ParquetTable(path, names, tuple(starts.tolist()))
