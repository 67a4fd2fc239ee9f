"""Reads feature tables from text: CSV, or columns separated by semicolons, tabs or spaces.

Opening a file records the position of every thousandth row, so that a worker finds its rows
without reading all rows before them. A file that is packed with gzip is unpacked up to them.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from hepllm.arrays import Floats
from hepllm.errors import InputError
from hepllm.physics.readers.content import is_number, one_line

_STRIDE = 1000
"""Rows between two recorded positions."""

_BLOCK = 1 << 16
"""Bytes read at once."""

_OPENING_QUOTE = re.compile(rb'(?:^|[,;\t])[ ]*"')
"""A quote at the begin of a field; one within a field is a plain character."""

_LONGEST_ROW = 1 << 24
"""Bytes of a row above which its quote counts as never closed."""

_MISSING = ["", "nan", "NaN", "NAN", "NA", "N/A", "null", "NULL", "None"]


@dataclass(frozen=True)
class DelimitedTable:
    """A ``ColumnTable`` in a text file.

    Attributes:
        delimiter: separator of the numbers; empty for spaces.
        offsets: positions in bytes of rows 0, 1000, 2000, ...
    """

    path: Path
    n_rows: int
    n_columns: int
    names: tuple[str, ...] | None
    delimiter: str
    offsets: tuple[int, ...]

    def read(self, start: int, stop: int, columns: Sequence[int] | None = None) -> Floats:
        """Reads the rows from ``start`` to before ``stop``, and at most 999 before them.

        Raises:
            InputError: a row has another length, or an entry that is not a number.
        """
        places = range(self.n_columns) if columns is None else columns
        table = self._parse(self._lines(start, stop), [f"f{i}" for i in places], start, stop)
        return np.stack([table[f"f{i}"].to_numpy() for i in places], axis=1)

    def _lines(self, start: int, stop: int) -> list[bytes]:
        with _unpacked(self.path) as stream:
            stream.seek(self.offsets[start // _STRIDE])
            rows = (line for _, line in _rows(stream, self.path))
            skip = start % _STRIDE
            return [next(rows) for _ in range(skip + stop - start)][skip:]

    def _parse(self, lines: list[bytes], names: list[str], start: int, stop: int) -> pa.Table:
        if not self.delimiter:
            lines = [b",".join(line.split()) for line in lines]
        try:
            table = pa_csv.read_csv(
                io.BytesIO(b"\n".join(line.strip(b"\r\n") for line in lines)),
                read_options=pa_csv.ReadOptions(
                    column_names=[f"f{i}" for i in range(self.n_columns)], use_threads=False
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self.delimiter or ",", newlines_in_values=True
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.float64()),
                    include_columns=names,
                    null_values=_MISSING,
                    quoted_strings_can_be_null=True,
                ),
            )
        except pa.ArrowException as error:
            raise InputError(f"{self.path}: rows {start}-{stop - 1}: {one_line(error)}") from None
        if len(table) != stop - start:
            raise InputError(
                f"{self.path}: rows {start}-{stop - 1}: {len(table)} rows of "
                f"{self.n_columns} numbers, expected {stop - start}; is there a stray quote?"
            )
        return table


def open_delimited(path: Path) -> DelimitedTable:
    """Opens a text table and records where its rows are.

    Names are in the first row if that row holds texts, or in a comment before it.

    Raises:
        InputError: the table is empty.
    """
    with _unpacked(path) as stream:
        begin, line = next(_rows(stream, path), (0, b""))
        if b"\x00" in line:
            raise InputError(f"{path}: what is packed in it is no text table; unpack it first")
        delimiter = _delimiter_of(line)
        try:
            fields = _split(line, delimiter)
        except csv.Error as error:
            raise InputError(f"{path}: its first row is no text table: {error}") from None
        named = not all(field in _MISSING or is_number(field) for field in fields)
        stream.seek(begin + len(line) if named else begin)
        offsets, n_rows = [], 0
        for offset, _ in _rows(stream, path):
            if n_rows % _STRIDE == 0:
                offsets.append(offset)
            n_rows += 1
    if n_rows == 0:
        raise InputError(f"{path}: there are no events in it")
    names = tuple(fields) if named else _names_in_comment(path, begin, delimiter, len(fields))
    return DelimitedTable(path, n_rows, len(fields), names, delimiter, tuple(offsets))


@contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO]:
    """Opens a file, unpacked if its content is that of gzip."""
    with path.open("rb") as raw:
        is_packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not is_packed:
            yield raw
            return
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                yield cast("BinaryIO", stream)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{path}: not readable gzip: {one_line(error)}") from None


def _rows(stream: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """Positions and texts of the rows from here, without comments and empty lines.

    A row goes on while a quote is open, so that a quoted text may contain line breaks.
    """
    offset = stream.tell()
    row, begin = b"", offset
    for line in _lines(stream):
        if row:
            row += line
        else:
            row, begin = line, offset
            stripped = line.lstrip(b"\xef\xbb\xbf \t\r\n")
            if not stripped or stripped.startswith(b"#"):
                row = b""
        offset += len(line)
        if row and not (row.count(b'"') % 2 and _OPENING_QUOTE.search(row)):
            yield begin, row
            row = b""
        elif len(row) > _LONGEST_ROW:
            break
    if row:
        start = row[:40].decode(errors="replace").splitlines()[0]
        raise InputError(f"{path}: the row at byte {begin} has an open quote: {start}")


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """Lines with their ends: LF, CR LF, or CR alone as old Macs and Excel write."""
    rest = b""
    while block := stream.read(_BLOCK):
        *lines, rest = (rest + block).splitlines(keepends=True)  # the last one may go on
        yield from lines
    yield from rest.splitlines(keepends=True)


def _delimiter_of(line: bytes) -> str:
    counts = {delimiter: line.count(delimiter.encode()) for delimiter in (",", ";", "\t")}
    delimiter = max(counts, key=lambda one: counts[one])
    return delimiter if counts[delimiter] else ""


def _split(line: bytes, delimiter: str) -> list[str]:
    text = line.decode("utf-8-sig", errors="replace").strip("\r\n")
    lines = io.StringIO(text, newline="")
    fields = next(csv.reader(lines, delimiter=delimiter)) if delimiter else text.split()
    return [field.strip() for field in fields]


def _names_in_comment(
    path: Path, end: int, delimiter: str, n_columns: int
) -> tuple[str, ...] | None:
    """Names in the last line before the rows, where ``numpy.savetxt(header=...)`` writes them."""
    with _unpacked(path) as stream:
        lines = stream.read(end).splitlines()
    fields = _split(lines[-1].lstrip(b"#"), delimiter) if lines else []
    return tuple(fields) if len(fields) == n_columns else None
