"""The interface of tables of numbers, and the search for their columns."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from hepllm.arrays import Floats
from hepllm.config.inputs import Column
from hepllm.errors import InputError, nearest_name
from hepllm.schema import TAKEN_NAMES


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
        """Names of the columns; None if they have no names."""

    def read(self, start: int, stop: int, columns: Sequence[int] | None = None) -> Floats:
        """Reads the rows from ``start`` to before ``stop``, shape (rows, columns); NaN: missing."""


class EventsInTable:
    """Properties of an event file whose events are the rows of a table.

    Attributes:
        table: the rows.
        label: column of the labels, if any.
    """

    table: ColumnTable
    label: int | str | None

    @property
    def path(self) -> Path:
        """The file."""
        return self.table.path

    @property
    def n_events(self) -> int:
        """Number of rows."""
        return self.table.n_rows

    @property
    def has_labels(self) -> bool:
        """Whether there is a column of labels."""
        return self.label is not None


def find_column(table: ColumnTable, column: Column, what: str) -> int:
    """The position of a column.

    Args:
        table: the table.
        column: name of the column, or its position (from the end if negative).
        what: content of the column, for the message.

    Raises:
        InputError: there is no such column, or several of this name.
    """
    names = table.names or ()
    if column in names:
        if (times := names.count(column)) > 1:
            raise InputError(
                f"{table.path}: {times} columns are called '{column}'; rename all but the one "
                f"for '{what}'"
            )
        return names.index(column)
    with contextlib.suppress(ValueError):
        if -table.n_columns <= int(column) < table.n_columns:
            return int(column) % table.n_columns
    if isinstance(column, int):
        raise InputError(
            f"{table.path}: no column {column} for '{what}': there are {table.n_columns}"
        )
    if table.names is None:
        raise InputError(
            f"{table.path}: no column '{column}' for '{what}': its columns have no names; "
            f"give a position from 0 to {table.n_columns - 1}"
        )
    hint = nearest_name(str(column), [str(name) for name in names])
    raise InputError(
        f"{table.path}: no column '{column}' for '{what}'{hint}; there are {listing(names)}"
    )


def listing(names: Sequence[str | int], most: int = 12) -> str:
    """Names for a message, of which only the first if there are many."""
    shown = ", ".join(str(name) for name in names[:most])
    more = len(names) - most
    return f"{shown} and {more} more" if more > 0 else shown


def chosen_columns(
    path: Path, names: Sequence[str | int] | None, patterns: Sequence[str]
) -> tuple[str, ...]:
    """Names of columns that are stated or match patterns such as ``weight_*``, in that order.

    Raises:
        InputError: a name or pattern fits no column, or one of another content.
    """
    known = [name for name in names or () if isinstance(name, str)]
    chosen: dict[str, None] = {}
    for pattern in patterns:
        fitting = [pattern] if pattern in known else fnmatch.filter(known, pattern)
        fitting = [name for name in fitting if name == pattern or name not in TAKEN_NAMES]
        if not fitting:
            hint = nearest_name(pattern, known)
            raise InputError(
                f"{path}: no column '{pattern}' for preprocess.observers{hint}; "
                f"there are {listing(known) or 'no names'}"
            )
        chosen |= dict.fromkeys(fitting)
    return tuple(chosen)
