"""Opens files for Arrow by the bytes of their names.

Arrow takes a text for a URI where it can (``a:b.parquet``), and cannot encode names that are not
UTF-8.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq


def open_file(path: Path, mode: Literal["rb", "wb"] = "rb") -> pa.NativeFile:
    """Opens a file of any name.

    Raises:
        OSError: the file does not exist, or may not be read or written.
    """
    return pa.OSFile(os.fsencode(path), mode)


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a Parquet file of any name; its folders are no partitions.

    Raises:
        OSError: the file does not exist, or cannot be read.
        pyarrow.ArrowException: it is no Parquet file, or lacks a column.
    """
    with open_file(path) as stream:
        wanted = None if columns is None else list(columns)
        return pq.read_table(stream, columns=wanted, partitioning=None)


def read_batches(path: Path, columns: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
    """Reads columns of a Parquet file of any name, at most ``size`` rows at a time.

    Raises:
        OSError: the file does not exist, or cannot be read.
        pyarrow.ArrowException: it is no Parquet file, or lacks a column.
    """
    with open_file(path) as stream, pq.ParquetFile(stream) as file:
        yield from file.iter_batches(size, columns=list(columns), use_threads=False)


def write_parquet(table: pa.Table, path: Path, **options: Any) -> None:
    """Writes a Parquet file of any name, by default packed with zstd."""
    with open_file(path, "wb") as stream:
        pq.write_table(table, stream, **{"compression": "zstd", **options})
