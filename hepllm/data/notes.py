"""Side tables: named values of events, beside a dataset or a run, found by ``event_digest``.

A side table is one Parquet file with a column ``event_digest`` and a column for each kind of value,
such as scores or weights. The file's metadata says what it holds and what made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from hepllm.arrays import Digests, Ints
from hepllm.data.dataset import EventTable
from hepllm.errors import InputError
from hepllm.files import write_aside

KEY = "event_digest"
_METADATA = b"hepllm_notes"


class NotesRecord(BaseModel):
    """What a side table is.

    Attributes:
        holds: its values in words, such as ``validation scores``.
        made_by: command and version.
        dataset_digest: of the dataset whose events it is about; None for several.
        schema_version: of this record and its columns.
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
        file: where it was read from.
        table: M rows, with the column ``event_digest`` and those of the values.
        record: what it is; None for a file of version 0.1.0, which had no record.
    """

    file: Path
    table: pa.Table
    record: NotesRecord | None

    @property
    def event_digest(self) -> Digests:
        """The event of each row, shape (M,)."""
        digests: Digests = self.column(KEY)
        return digests

    def column(self, name: str) -> NDArray[Any]:
        """Values of one kind, shape (M,).

        Raises:
            InputError: if it holds no such values.
        """
        if name not in self.table.column_names:
            kinds = ", ".join(kind for kind in self.table.column_names if kind != KEY)
            raise InputError(f"{self.file}: no values '{name}'; it holds {kinds or 'none'}")
        values: NDArray[Any] = self.table[name].to_numpy()
        return values


def write_notes(
    file: Path, digests: Digests, columns: Mapping[str, NDArray[Any]], record: NotesRecord
) -> None:
    """Writes a side table, complete or not at all.

    Args:
        file: to write.
        digests: shape (M,), of the events.
        columns: shape (M,) each, by name.
        record: what it is.
    """
    table = pa.table({KEY: digests, **columns})
    table = table.replace_schema_metadata({_METADATA: record.model_dump_json()})
    with write_aside(file) as aside:
        pq.write_table(table, aside, compression="zstd")


def read_notes(file: Path, remedy: str) -> Notes:
    """Reads a side table.

    Args:
        file: made by ``write_notes``.
        remedy: how to get it where it is missing, for the message.

    Raises:
        InputError: if it is missing, cannot be read, or has no digests.
    """
    try:
        table = pq.read_table(file, partitioning=None)
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
    """The values of events, one row per event of ``table`` in its order, without the digests.

    Args:
        table: N events.
        notes: about them and others.
        missing: what an event without a row gets: an error for all of them, or nulls.

    Raises:
        InputError: for events without a row, or rows of one event with different values.
    """
    _refuse_contradictions(notes)
    rows = find_events(table.event_digest, notes.event_digest)
    lacking = rows < 0
    if missing == "error" and lacking.any():
        raise InputError(
            f"{notes.file}: has no row for {np.count_nonzero(lacking)} of {len(table)} events; "
            "make it again for this dataset"
        )
    return notes.table.drop_columns([KEY]).take(pa.array(rows, mask=lacking))


def find_events(wanted: Digests, among: Digests) -> Ints:
    """Where events stand in a table.

    Args:
        wanted: shape (N,), digests of the events.
        among: shape (M,), digests of the rows of the table.

    Returns:
        Shape (N,), the first row of each event, or -1 where it has none.
    """
    if not len(among):
        return np.full(len(wanted), -1)
    order = np.argsort(among, kind="stable")
    places = np.searchsorted(among, wanted, sorter=order)
    rows: Ints = order[np.minimum(places, len(order) - 1)]
    return np.where(among[rows] == wanted, rows, -1)


def _refuse_contradictions(notes: Notes) -> None:
    n_events = len(np.unique(notes.event_digest))
    if n_events == notes.table.num_rows:
        return
    distinct = notes.table.group_by(notes.table.column_names).aggregate([])
    if distinct.num_rows > n_events:
        raise InputError(
            f"{notes.file}: {distinct.num_rows - n_events} rows give an event other values than "
            "an earlier row; keep one row per event"
        )
