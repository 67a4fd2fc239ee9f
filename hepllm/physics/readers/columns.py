"""Tables of numbers, whatever holds them, and how their columns are found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from hepllm.arrays import Floats
from hepllm.config.inputs import Column
from hepllm.errors import InputError, nearest_name


class ColumnTable(Protocol):
    """Rows of numbers in a file; frozen and picklable."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""

    @property
    def n_columns(self) -> int:
        """Number of columns."""

    @property
    def names(self) -> tuple[str | int, ...] | None:
        """Names of the columns, None where they have none."""

    def read(self, start: int, stop: int, columns: Sequence[int] | None = None) -> Floats:
        """Reads rows, start included and stop not: shape (rows, columns), NaN where missing."""


def find_column(table: ColumnTable, column: Column, what: str) -> int:
    """The place of a column.

    Args:
        table: where to look.
        column: its name, or its place, from the end where negative.
        what: it is to be, for the message.

    Raises:
        InputError: there is no such column; with the nearest name.
    """
    names = table.names or ()
    if column in names:
        return names.index(column)
    place = _as_place(column)
    if place is not None and -table.n_columns <= place < table.n_columns:
        return place % table.n_columns
    if place is not None and not isinstance(column, str):
        raise InputError(
            f"{table.path}: no column {place} for '{what}': there are {table.n_columns}"
        )
    if table.names is None:
        raise InputError(
            f"{table.path}: no column '{column}' for '{what}': its columns have no names; "
            f"give a place from 0 to {table.n_columns - 1}"
        )
    hint = nearest_name(str(column), [str(name) for name in names])
    raise InputError(
        f"{table.path}: no column '{column}' for '{what}'{hint}; there are {listing(names)}"
    )


def _as_place(column: Column) -> int | None:
    try:
        return int(column)
    except ValueError:
        return None


def listing(names: Sequence[str | int], most: int = 12) -> str:
    """Names for a message, cut off where they are many."""
    shown = ", ".join(str(name) for name in names[:most])
    more = len(names) - most
    return f"{shown} and {more} more" if more > 0 else shown
