"""Side tables: values of events beside a dataset or a run, joined by ``event_digest``.

A side table is one Parquet file with a column ``event_digest`` and one column per kind of value,
such as scores or weights. The file's metadata record its contents and its origin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from hepllm.arrays import Digests, Ints
from hepllm.arrow_files import read_parquet, write_parquet
from hepllm.data.event_table import EventTable
from hepllm.errors import InputError
from hepllm.files import write_aside

KEY = "event_digest"
_METADATA = b"hepllm_notes"


class NotesRecord(BaseModel):
    """Contents and origin of a side table.

    Attributes:
        holds: its values in words, such as ``validation scores``.
        made_by: command and version.
        dataset_digest: digest of the events' dataset; None for several datasets.
        schema_version: version of this record and of the columns.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    holds: str
    made_by: str
    dataset_digest: str | None = None
    schema_version: Literal[1] = 1


@dataclass(frozen=True, eq=False)
class Notes:
    """A side table in memory; made by ``read_notes``.

    Attributes:
        file: file of the table, for messages.
        table: M rows, with the column ``event_digest`` and those of the values.
        record: contents and origin; None for a file of version 0.1.0, which had no record.
    """

    file: Path
    table: pa.Table
    record: NotesRecord | None

    @property
    def event_digest(self) -> Digests:
        """The event of each row, shape (M,)."""
        return self.column(KEY)

    def column(self, name: str) -> NDArray[Any]:
        """Returns an array of one kind of values, shape (M,).

        Raises:
            InputError: if there is no such column.
        """
        if name not in self.table.column_names:
            kinds = ", ".join(kind for kind in self.table.column_names if kind != KEY)
            raise InputError(f"{self.file}: no values '{name}'; it holds {kinds or 'none'}")
        values: NDArray[Any] = self.table[name].to_numpy()
        return values


def notes_metadata(record: NotesRecord) -> dict[bytes, str]:
    """The metadata of a file that is a side table, for those that are written in steps."""
    return {_METADATA: record.model_dump_json()}


def write_notes(
    file: Path, digests: Digests, columns: Mapping[str, NDArray[Any]], record: NotesRecord
) -> None:
    """Writes digests of M events and columns of values by name, shape (M,) each.

    A failure leaves an earlier file as it was.
    """
    table = pa.table({KEY: digests, **columns})
    table = table.replace_schema_metadata(notes_metadata(record))
    with write_aside(file) as aside:
        write_parquet(table, aside)


def read_notes(file: Path, remedy: str) -> Notes:
    """Reads a side table; ``remedy`` is the advice in the message if it is missing.

    Raises:
        InputError: if the file is missing, cannot be read, or has no digests.
    """
    try:
        table = read_parquet(file)
        stored = (table.schema.metadata or {}).get(_METADATA)
        record = None if stored is None else NotesRecord.model_validate_json(stored)
    except FileNotFoundError:
        raise InputError(f"{file}: missing; {remedy}") from None
    except (OSError, pa.ArrowException, ValidationError) as error:
        raise InputError(f"{file}: not readable: {' '.join(str(error).split())}") from None
    notes = Notes(file, table, record)
    notes.column(KEY)
    return notes


def join(table: EventTable, notes: Notes, missing: Literal["error", "null"] = "error") -> pa.Table:
    """Returns the values of N events, one row per event in the order of ``table``.

    Args:
        table: N events.
        notes: values of these events, and of others.
        missing: what an event without a row causes: an error, or null values.

    Raises:
        InputError: for events without a row, or rows of one event with different values.
    """
    n_events = len(np.unique(notes.event_digest))
    if n_events < notes.table.num_rows:
        distinct = notes.table.group_by(notes.table.column_names).aggregate([])
        if distinct.num_rows > n_events:
            raise InputError(
                f"{notes.file}: {distinct.num_rows - n_events} rows give an event other values "
                "than an earlier row; keep one row per event"
            )
    rows = find_events(table.event_digest, notes.event_digest)
    lacking = rows < 0
    if missing == "error" and lacking.any():
        raise InputError(
            f"{notes.file}: has no row for {np.count_nonzero(lacking)} of {len(table)} events; "
            "make it again for this dataset"
        )
    return notes.table.drop_columns([KEY]).take(pa.array(rows, mask=lacking))


def find_events(wanted: Digests, among: Digests) -> Ints:
    """Finds the rows of events in a table.

    Args:
        wanted: shape (N,), digests of the events.
        among: shape (M,), digests of the table's rows.

    Returns:
        Shape (N,), the first row of each event, or -1 for an event without a row.
    """
    if not len(among):
        return np.full(len(wanted), -1)
    order = np.argsort(among, kind="stable")
    places = np.searchsorted(among, wanted, sorter=order)
    rows: Ints = order[np.minimum(places, len(order) - 1)]
    return np.where(among[rows] == wanted, rows, -1)
