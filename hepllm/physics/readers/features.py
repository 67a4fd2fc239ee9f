"""Reads tables of features instead of particles from HDF5, ROOT, CSV, Parquet or NumPy files.

``preprocess.columns`` maps features to columns; by default, columns are recognised that have the
name of a feature, or a name of the LHC Olympics feature files (``pxj1``, ..., ``tau3j2``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hepllm.config import PreprocessConfig
from hepllm.config.inputs import GEV, NO_COLUMN, RADIANS, Column, ScaledColumn
from hepllm.errors import InputError
from hepllm.physics.absent import absent_as_nan, unit_of
from hepllm.physics.events import EventBatch, TabulatedEvents, digest_runs
from hepllm.physics.readers.columns import (
    ColumnTable,
    EventsInTable,
    chosen_columns,
    find_column,
    listing,
)
from hepllm.schema import FEATURES, TABLE_QUANTITIES

LHCO_FEATURES: Mapping[str, str] = {
    **{f"p{axis}j{jet}": f"jet{jet}_p{axis}" for jet in (1, 2) for axis in "xyz"},
    **{f"mj{jet}": f"jet{jet}_mass" for jet in (1, 2)},
    **{f"tau{n}j{jet}": f"jet{jet}_tau{n}_unnormalized" for jet in (1, 2) for n in (1, 2, 3)},
}
"""Content of each column of the official feature files."""


@dataclass(frozen=True)
class _Quantity:
    """A feature, or a quantity of ``schema.TABLE_QUANTITIES``, in a table.

    Attributes:
        place: position of its column.
        scale: factor that converts the numbers of the column to GeV or radians.
    """

    name: str
    place: int
    scale: float


@dataclass(frozen=True)
class FeatureFile(EventsInTable):
    """A file of features.

    Attributes:
        quantities: the features, in the order of their names.
        label, weight: positions of the columns of labels and weights, if any.
        observers: positions of further columns, by name.
    """

    table: ColumnTable
    quantities: tuple[_Quantity, ...]
    label: int | None
    weight: int | None
    observers: Mapping[str, int]

    @property
    def described(self) -> tuple[str, ...]:
        """The features, each with the name of its column where that is another."""
        names = self.table.names or range(self.table.n_columns)
        columns = [(one.name, names[one.place]) for one in self.quantities]
        return tuple(q if q == column else f"{q} from '{column}'" for q, column in columns)

    @property
    def unused(self) -> tuple[str, ...]:
        """Names of the columns that are not read."""
        used = {quantity.place for quantity in self.quantities} | {self.label, self.weight}
        used |= set(self.observers.values())
        names = self.table.names or ()
        return tuple(str(name) for place, name in enumerate(names) if place not in used)

    def read(self, start: int, stop: int) -> EventBatch:
        """Reads the rows from ``start`` to before ``stop``.

        The digest of an event is that of its numbers in the file, before scaling, in the order of
        ``quantities``.
        """
        wanted = {quantity.place for quantity in self.quantities} | {self.label, self.weight}
        wanted |= set(self.observers.values())
        places = sorted(place for place in wanted if place is not None)
        rows = self.table.read(start, stop, places)
        column = {place: rows[:, i] for i, place in enumerate(places)}
        raw = [column[quantity.place] for quantity in self.quantities]
        n_rows = stop - start
        names = [quantity.name for quantity in self.quantities]
        stored = absent_as_nan(dict(zip(names, raw, strict=True)))
        values = {one.name: stored[one.name] * one.scale for one in self.quantities}
        observers = {name: column[place].copy() for name, place in self.observers.items()}
        digested = raw or list(observers.values())
        digests = digest_runs(digested, np.ones(n_rows, dtype=np.int64))
        content = TabulatedEvents(values, digests)
        label = np.full(n_rows, np.nan) if self.label is None else column[self.label].copy()
        weight = np.ones(n_rows) if self.weight is None else column[self.weight].copy()
        return EventBatch(np.arange(start, stop, dtype=np.int64), content, label, weight, observers)


def has_known_columns(table: ColumnTable) -> bool:
    """Whether columns of a table are recognised by their names."""
    return bool(_known_columns(table))


def open_features(table: ColumnTable, config: PreprocessConfig) -> FeatureFile:
    """Finds the features in a table.

    Raises:
        InputError: a configured column is missing, or no column is recognised.
    """
    columns: Mapping[str, ScaledColumn] = config.columns or _known_columns(table)
    if not columns and not config.observers:
        found = f"its columns are {listing(table.names)}" if table.names else "they have no names"
        raise InputError(
            f"{table.path}: none of its {table.n_columns} columns is known ({found}); "
            "map features to columns in preprocess.columns"
        )
    units = {"GeV": GEV[config.energy_unit], "rad": RADIANS[config.angle_unit]}
    quantities = tuple(
        _find_quantity(table, name, columns[name], units.get(unit_of(name), 1.0))
        for name in sorted(columns)
    )
    observed = chosen_columns(table.path, table.names, config.observers)
    return FeatureFile(
        table,
        quantities,
        label=_find_row_column(table, config.label, "label"),
        weight=_find_row_column(table, config.weight, "weight"),
        observers={name: find_column(table, name, name) for name in observed},
    )


def _known_columns(table: ColumnTable) -> dict[str, ScaledColumn]:
    known = {**LHCO_FEATURES, **{name: name for name in (*FEATURES, *TABLE_QUANTITIES)}}
    names = [name for name in table.names or () if isinstance(name, str) and name in known]
    return {known[name]: ScaledColumn(column=name) for name in names}


def _find_quantity(table: ColumnTable, name: str, stated: ScaledColumn, unit: float) -> _Quantity:
    place = find_column(table, stated.column, name)
    return _Quantity(name, place, stated.scale * unit)


def _find_row_column(table: ColumnTable, stated: Column | None, usual: str) -> int | None:
    """The column of labels or weights: the configured one, or else one of the usual name."""
    if stated == NO_COLUMN:
        return None
    if stated is not None:
        return find_column(table, stated, usual)
    return find_column(table, usual, usual) if usual in (table.names or ()) else None
