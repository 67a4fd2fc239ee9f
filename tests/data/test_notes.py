"""Side tables find their events again, or say that they cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hepllm.data.event_table import EventTable
from hepllm.data.notes import (
    Notes,
    NotesRecord,
    find_events,
    join,
    read_notes,
    write_notes,
)
from hepllm.errors import InputError

RECORD = NotesRecord(holds="scores", made_by="a test", dataset_digest="12ab")


@pytest.fixture
def table(event_table: Callable[..., EventTable]) -> EventTable:
    return event_table(6, ("m_jj",), 1)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Notes]:
    """``write(digests, **columns)`` writes a side table and reads it back."""

    def written(digests: np.ndarray, **columns: np.ndarray) -> Notes:
        write_notes(tmp_path / "notes.parquet", digests, columns, RECORD)
        return read_notes(tmp_path / "notes.parquet", "make it")

    return written


def test_values_find_their_events_in_any_order(
    table: EventTable, write: Callable[..., Notes]
) -> None:
    order = np.array([4, 0, 5, 2, 1, 3])
    notes = write(
        table.event_digest[order],
        score=order * 0.5,
        cluster=order.astype(np.int32),
        flag=np.array([f"event {event}" for event in order]),
    )
    assert notes.record == RECORD
    joined = join(table, notes)
    assert joined.column_names == ["score", "cluster", "flag"]
    assert joined["score"].to_pylist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert joined["cluster"].to_pylist() == list(range(6))
    assert joined["flag"][3].as_py() == "event 3"


def test_a_missing_row_is_an_error_or_a_null(
    table: EventTable, write: Callable[..., Notes]
) -> None:
    notes = write(table.event_digest[:4], score=np.arange(4.0))
    with pytest.raises(InputError, match="has no row for 2 of 6 events; make it again"):
        join(table, notes)
    joined = join(table, notes, missing="null")
    assert joined["score"].to_pylist() == [0.0, 1.0, 2.0, 3.0, None, None]
    nothing = write(table.event_digest[:0], score=np.empty(0))
    assert join(table, nothing, missing="null")["score"].null_count == 6


def test_one_event_has_one_value(table: EventTable, write: Callable[..., Notes]) -> None:
    twice = table.event_digest[[0, 1, 2, 3, 4, 5, 2]]
    same = np.array([0, 1, np.nan, 3, 4, 5, np.nan])
    assert join(table, write(twice, score=same)).num_rows == 6
    with pytest.raises(InputError, match="1 rows give an event other values"):
        join(table, write(twice, score=np.arange(7.0)))


def test_events_are_found_by_their_first_row() -> None:
    wanted, among = np.array([7, 3, 9, 1], dtype=np.uint64), np.array([3, 7, 3, 1], dtype=np.uint64)
    assert find_events(wanted, among).tolist() == [1, 0, -1, 3]
    assert find_events(wanted, among[:0]).tolist() == [-1] * 4


def test_a_file_that_is_no_side_table_is_told(tmp_path: Path) -> None:
    file = tmp_path / "notes.parquet"
    with pytest.raises(InputError, match=r"notes\.parquet: missing; make it with hepllm train"):
        read_notes(file, "make it with hepllm train")
    file.write_bytes(b"PAR1")
    with pytest.raises(InputError, match="not readable"):
        read_notes(file, "")
    pq.write_table(pa.table({"score": [1.0]}), file)
    with pytest.raises(InputError, match="no values 'event_digest'; it holds score"):
        read_notes(file, "")
    later = pa.table({"event_digest": [1]}).replace_schema_metadata(
        {b"hepllm_notes": RECORD.model_dump_json().replace(":1", ":2")}
    )
    pq.write_table(later, file)
    with pytest.raises(InputError, match=r"not readable: 1 validation error.*schema_version"):
        read_notes(file, "")


def test_a_file_of_version_0_1_0_has_no_record(tmp_path: Path) -> None:
    digests = np.array([5, 6], dtype=np.uint64)
    pq.write_table(pa.table({"event_digest": digests, "score": [0.1, 0.2]}), tmp_path / "old")
    notes = read_notes(tmp_path / "old", "")
    assert notes.record is None
    np.testing.assert_array_equal(notes.event_digest, digests)
    assert notes.column("score").tolist() == [0.1, 0.2]
    with pytest.raises(InputError, match="no values 'weight'; it holds score"):
        notes.column("weight")
