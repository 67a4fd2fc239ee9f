"""Tables of features instead of particles, in HDF5, ROOT, CSV, Parquet or NumPy files.

Which column holds what is said by ``preprocess.columns``; without it, the names of the LHC Olympics
feature files (``pxj1``, ..., ``tau3j2``) and those of this program's own features are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hepllm.arrays import Floats
from hepllm.config import PreprocessConfig
from hepllm.config.inputs import GEV, NO_COLUMN, Column, ScaledColumn
from hepllm.errors import InputError
from hepllm.physics.events import EventBatch, TabulatedEvents, digest_runs
from hepllm.physics.readers.columns import ColumnTable, find_column, listing
from hepllm.schema import FEATURES, TABLE_QUANTITIES

LHCO_FEATURES: Mapping[str, str] = {
    **{f"p{axis}j{jet}": f"jet{jet}_p{axis}" for jet in (1, 2) for axis in "xyz"},
    **{f"mj{jet}": f"jet{jet}_mass" for jet in (1, 2)},
    **{f"tau{n}j{jet}": f"jet{jet}_tau{n}_unnormalized" for jet in (1, 2) for n in (1, 2, 3)},
}
"""Columns of the official feature files, and what they hold."""


@dataclass(frozen=True)
class _Quantity:
    """A feature, or a quantity of ``schema.TABLE_QUANTITIES``, in a table.

    Attributes:
        name: what it is.
        place: of its column.
        scale: what its numbers are multiplied by to be in GeV.
    """

    name: str
    place: int
    scale: float


@dataclass(frozen=True)
class FeatureFile:
    """A file of features.

    Attributes:
        table: the rows.
        quantities: what is in them, in the order of names.
        label: place of the label's column, None without one.
        weight: place of the weight's column, None without one.
    """

    table: ColumnTable
    quantities: tuple[_Quantity, ...]
    label: int | None
    weight: int | None

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

    def read(self, start: int, stop: int) -> EventBatch:
        """Reads rows, start included and stop not.

        An event's digest is that of the numbers as they stand in the file, before scaling, in the
        order of the names of what they are.
        """
        wanted = {quantity.place for quantity in self.quantities} | {self.label, self.weight}
        places = sorted(place for place in wanted if place is not None)
        rows = self.table.read(start, stop, places)
        column = {place: rows[:, i] for i, place in enumerate(places)}
        raw = [column[quantity.place] for quantity in self.quantities]
        n_rows = stop - start
        values = {
            quantity.name: numbers * quantity.scale
            for quantity, numbers in zip(self.quantities, raw, strict=True)
        }
        return EventBatch(
            event_id=np.arange(start, stop, dtype=np.int64),
            content=TabulatedEvents(values, digest_runs(raw, np.ones(n_rows, dtype=np.int64))),
            label_raw=_column_or(column, self.label, n_rows, np.nan),
            weight=_column_or(column, self.weight, n_rows, 1.0),
        )


def _column_or(
    column: Mapping[int, Floats], place: int | None, n_rows: int, default: float
) -> Floats:
    return np.full(n_rows, default) if place is None else column[place].copy()


def knows_columns(table: ColumnTable) -> bool:
    """Whether a table has columns that are known by their names."""
    return bool(_known_columns(table))


def open_features(table: ColumnTable, config: PreprocessConfig) -> FeatureFile:
    """Finds the features in a table.

    Raises:
        InputError: a column that the configuration names is not there, or none is known.
    """
    columns: Mapping[str, ScaledColumn] = config.columns or _known_columns(table)
    if not columns:
        found = f"its columns are {listing(table.names)}" if table.names else "they have no names"
        raise InputError(
            f"{table.path}: none of its {table.n_columns} columns is known ({found}); "
            "say which one holds what in preprocess.columns"
        )
    quantities = tuple(
        _find_quantity(table, name, columns[name], GEV[config.energy_unit])
        for name in sorted(columns)
    )
    return FeatureFile(
        table,
        quantities,
        label=_find_row_column(table, config.label, "label"),
        weight=_find_row_column(table, config.weight, "weight"),
    )


def _known_columns(table: ColumnTable) -> dict[str, ScaledColumn]:
    known = {**LHCO_FEATURES, **{name: name for name in (*FEATURES, *TABLE_QUANTITIES)}}
    names = [name for name in table.names or () if isinstance(name, str) and name in known]
    return {known[name]: ScaledColumn(column=name) for name in names}


def _find_quantity(table: ColumnTable, name: str, stated: ScaledColumn, unit: float) -> _Quantity:
    in_gev = (FEATURES[name].unit if name in FEATURES else TABLE_QUANTITIES[name]) == "GeV"
    place = find_column(table, stated.column, name)
    return _Quantity(name, place, stated.scale * unit if in_gev else stated.scale)


def _find_row_column(table: ColumnTable, stated: Column | None, usual: str) -> int | None:
    """The column of labels or weights: the one that is stated, else one of the usual name."""
    if stated == NO_COLUMN:
        return None
    if stated is not None:
        return find_column(table, stated, usual)
    return find_column(table, usual, usual) if usual in (table.names or ()) else None
