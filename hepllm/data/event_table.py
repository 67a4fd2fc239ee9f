"""Events of a dataset in memory, and the columns that a shard has for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hepllm.arrays import Columns, Digests, Floats, Ints, Labels
from hepllm.data.particles import JET_COLUMNS, PARTICLE_COLUMNS, leading_jets
from hepllm.schema import UNKNOWN

ROW_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.int64(), nullable=False),
        pa.field("source", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("event_digest", pa.uint64(), nullable=False),
        pa.field("label", pa.int8(), nullable=False),
        pa.field("label_raw", pa.int16(), nullable=False),
        pa.field("weight", pa.float64(), nullable=False),
        pa.field("split", pa.dictionary(pa.int8(), pa.string()), nullable=False),
    ]
)

_TEXTS = ("source", "split")


def table_schema(features: Iterable[str], particles: bool = False) -> pa.Schema:
    """The columns of a shard; with ``particles``, also the lists of constituents."""
    columns = [*ROW_SCHEMA, *(pa.field(name, pa.float64()) for name in features)]
    if particles:
        columns += [pa.field(name, pa.list_(kind)) for name, kind in PARTICLE_COLUMNS.items()]
    return pa.schema(columns)


@dataclass(frozen=True)
class EventTable:
    """Events in memory; all arrays but ``features`` and ``particles`` have the shape (N,).

    Attributes:
        features: shape (N, F), NaN where a value is missing.
        names: the F feature names.
        label: 1 signal, 0 background, -1 unknown.
        label_raw: label in the source, e.g. 2 for the second decay in black box 3; -1 unknown.
        weight: event weights, may be negative.
        event_id: row in the source.
        source: name of the source.
        event_digest: 64-bit digest of the event's content.
        split: ``train``, ``val`` or ``test``.
        particles: shape (N, 2, 1 + K, 4), the leading jets with their hardest constituents, as
            ``leading_jets`` makes it; None where they were not asked for.
    """

    features: Floats
    names: tuple[str, ...]
    label: Labels
    label_raw: NDArray[np.int16]
    weight: Floats
    event_id: Ints
    source: NDArray[np.object_]
    event_digest: Digests
    split: NDArray[np.object_]
    particles: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.label)

    def take(self, events: NDArray[Any]) -> EventTable:
        """The events of a mask, shape (N,), or of an array of positions."""
        rows = {name: values[events] for name, values in self.arrays().items()}
        return EventTable(names=self.names, **rows)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays that the table has, by name; the first axis of each are the events."""
        known = {name: getattr(self, name) for name in _ARRAYS}
        return {name: values for name, values in known.items() if values is not None}

    def column(self, name: str) -> Floats:
        """One feature, shape (N,)."""
        values: Floats = self.features[:, self.names.index(name)]
        return values

    def columns(self) -> Columns:
        """All features by name; without features, one column of missing values."""
        if not self.names:
            return {"": np.full(len(self), np.nan)}
        return {name: self.column(name) for name in self.names}


_ARRAYS = [field.name for field in fields(EventTable) if field.name != "names"]


def concatenate(tables: Sequence[EventTable]) -> EventTable:
    """Events of several tables with the same features, in order."""
    names = tables[0].arrays()
    rows = {name: np.concatenate([getattr(table, name) for table in tables]) for name in names}
    return EventTable(names=tables[0].names, **rows)


def table_of_rows(table: pa.Table, names: tuple[str, ...], particles: int = 0) -> EventTable:
    """Events of stored rows, which may lack columns of labels: these are unknown then.

    Args:
        table: rows with the columns of ``table_schema``.
        names: the features to take.
        particles: constituents to take of each jet; 0 for none.
    """
    features = np.empty((table.num_rows, len(names)))
    for position, name in enumerate(names):
        features[:, position] = table[name].to_numpy()
    rows = {
        field.name: table[field.name].to_numpy()
        if field.name in table.column_names
        else np.full(table.num_rows, UNKNOWN, dtype=field.type.to_pandas_dtype())
        for field in ROW_SCHEMA
        if field.name not in _TEXTS
    }
    texts = {name: _to_texts(table[name]) for name in _TEXTS}
    jets = None
    if particles:
        lists = {name: table[name].combine_chunks() for name in PARTICLE_COLUMNS}
        jets = leading_jets(lists, {n: table[n].to_numpy() for n in JET_COLUMNS}, particles)
    return EventTable(features=features, names=names, particles=jets, **rows, **texts)


def _to_texts(column: pa.ChunkedArray) -> Any:
    """The texts of a column of categories; equal ones are one object, which saves 60 bytes each."""
    encoded = column.unify_dictionaries().combine_chunks()
    names = np.array(encoded.dictionary.to_pylist(), dtype=object)
    return names[encoded.indices.to_numpy()]
