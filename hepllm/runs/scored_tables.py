"""Boxes and simulated signal in tables of scores and masses, whatever classifier made them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hepllm.arrays import Bools, Columns, Floats, Labels
from hepllm.config.inputs import GEV, NO_COLUMN, Column, EnergyUnit
from hepllm.data.manifest import SourceFile
from hepllm.errors import InputError
from hepllm.event_filter import parse_event_filter
from hepllm.files import file_digest
from hepllm.physics.readers.columns import ColumnTable, find_column, listing
from hepllm.physics.readers.masterkey import read_masterkey
from hepllm.physics.readers.tables import open_table
from hepllm.runs.box_search import Box
from hepllm.schema import UNKNOWN
from hepllm.search.box import BoxEvents
from hepllm.search.records import Blackbox, ScoreSource
from hepllm.search.submission import ReferenceSignal

LOG = logging.getLogger(__name__)

_ROWS = 250_000
"""Rows that are read at once."""

_JET_MASSES = (
    ("jet_mass_light", "jet_mass_heavy"),
    ("jet_mass_light", "jet_mass_delta"),
    ("jet1_mass", "jet2_mass"),
    ("mj1", "mj2"),
)
"""Usual names of the columns of jet masses; the first pair that a table has is taken."""


@dataclass(frozen=True)
class TableColumns:
    """What the columns of a table hold; a column is given by name or by position.

    Attributes:
        score: scores, larger for more signal-like events.
        mass: mass that is searched.
        jets: masses of the two leading jets, in any order; empty for the usual columns, if any.
        label: labels, above 0 for signal and below 0 for unknown; None for ``label`` if there is
            such a column, ``none`` for no labels.
        weight: event weights, with the same rules.
        names: names of the columns, for a table without; None for those in the file.
        tree: tree or RNTuple of ROOT files; None for the only one.
        energy_unit: unit of the masses.
        select: condition on columns, in the units of the file; None for all events.
    """

    score: Column = "score"
    mass: Column = "m_jj"
    jets: tuple[Column, ...] = ()
    label: Column | None = None
    weight: Column | None = None
    names: tuple[str, ...] | None = None
    tree: str | None = None
    energy_unit: EnergyUnit = "GeV"
    select: str | None = None


@dataclass(frozen=True, eq=False)
class _OpenTable:
    """A table with the positions of the columns that are asked for, and the rows that pass."""

    table: ColumnTable
    score: int
    mass: int
    jets: tuple[int, ...]
    label: int | None
    weight: int | None
    scale: float
    is_difference: bool
    columns: Mapping[int, Floats] = field(default_factory=dict)
    passes: Bools = field(default_factory=lambda: np.empty(0, dtype=np.bool_))

    @property
    def path(self) -> Path:
        """The file."""
        return self.table.path

    def name(self, place: int) -> str:
        """The name of a column, or its position."""
        return str(self.table.names[place]) if self.table.names else f"column {place}"

    def values(self, place: int) -> Floats:
        """The numbers of a column that was read, of the events that pass."""
        return self.columns[place][self.passes]


def read_box(
    files: Sequence[Path], columns: TableColumns, mass_range: tuple[float, float]
) -> TableBox:
    """Reads tables as one box; their columns of labels are not read.

    Args:
        files: tables, each with the same columns.
        columns: what the columns hold.
        mass_range: range of the mass in GeV in which a search is meant.

    Raises:
        InputError: a file is damaged or given twice, lacks a column, has scores that are not
            finite or weights that differ, or no event is left in the range of the mass.
    """
    _refuse_repeated(files)
    opened = [_read(_open(file, columns), columns) for file in files]
    for one in opened:
        _refuse_weights(one)
        _refuse_bad_scores(one)
    events = BoxEvents(
        score=np.concatenate([one.values(one.score) for one in opened]),
        m_jj=np.concatenate([one.scale * one.values(one.mass) for one in opened]),
        jet_mass_light=np.concatenate([_jet_masses(one)[0] for one in opened]),
        jet_mass_heavy=np.concatenate([_jet_masses(one)[1] for one in opened]),
    )
    where, name = ", ".join(map(str, files)), opened[0].name(opened[0].mass)
    if not len(events.score):
        raise InputError(f"{where}: no event passes the selection '{columns.select}'; loosen it")
    try:
        _check_masses(events.m_jj, name, columns.energy_unit, mass_range)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return TableBox(tuple(opened), columns, events)


@dataclass(frozen=True, eq=False)
class TableBox:
    """A box from tables.

    Attributes:
        opened: its tables.
        columns: what their columns hold.
        events: its events, in the order of the tables.
    """

    opened: tuple[_OpenTable, ...]
    columns: TableColumns
    events: BoxEvents

    @property
    def mass(self) -> str:
        """Name of the column of the mass."""
        return self.opened[0].name(self.opened[0].mass)

    def box(self, name: str, reference: ReferenceSignal | None) -> Box:
        """The box to search."""
        sources = [source_of(one.path, one.table.n_rows) for one in self.opened]
        first = self.opened[0]
        return Box(
            name=name,
            events=self.events,
            reference=reference,
            origin={
                "blackbox": Blackbox(
                    name=name, digest=joint_digest(sources), sources=sources, n_excluded_as_seen=0
                ),
                "run": None,
                "trained_on": None,
                "features": None,
                "cascade": None,
                "select": self.columns.select,
                "scores": ScoreSource(
                    files=sources,
                    score=first.name(first.score),
                    mass=first.name(first.mass),
                    jet_masses=[first.name(place) for place in first.jets],
                    energy_unit=self.columns.energy_unit,
                ),
            },
        )

    def read_labels(self, masterkey: Path | None = None) -> Labels | None:
        """Reads the labels of the events.

        Args:
            masterkey: file with the labels of the rows, in place of a column.

        Returns:
            Shape (N,); None where there are none.

        Raises:
            InputError: if the labels cannot be read, or are not those of these tables.
        """
        if masterkey is not None:
            key = read_masterkey(masterkey, sum(one.table.n_rows for one in self.opened))
            passes = np.concatenate([one.passes for one in self.opened])
            return np.asarray(np.sign(key[passes]), dtype=np.int8)
        found: list[Labels] = []
        for one in self.opened:
            if one.label is None:
                return None
            raw = np.nan_to_num(_column(one.table, [one.label])[one.label], nan=UNKNOWN)
            found.append(np.sign(raw)[one.passes].astype(np.int8))
        return np.concatenate(found)


def read_signal(files: Sequence[Path], columns: TableColumns) -> ReferenceSignal:
    """Reads tables of simulated signal, for the efficiency of cuts on the score.

    Where there are labels, only signal is taken; weights may differ, and jet masses are not needed.

    Raises:
        InputError: as for ``read_box``, or if there is no signal.
    """
    _refuse_repeated(files)
    scores, masses, weights = [], [], []
    for file in files:
        one = replace(_open(file, replace(columns, jets=())), jets=())
        extra = [place for place in (one.label, one.weight) if place is not None]
        one = _read(one, columns, extra)
        _refuse_bad_scores(one)
        is_signal = np.ones(len(one.values(one.score)), dtype=np.bool_)
        if one.label is not None:
            is_signal = one.values(one.label) > 0
        weight = np.ones(len(is_signal)) if one.weight is None else one.values(one.weight)
        scores.append(one.values(one.score)[is_signal])
        masses.append(one.scale * one.values(one.mass)[is_signal])
        weights.append(weight[is_signal])
    names = ", ".join(file.name for file in files)
    found = ReferenceSignal(
        score=np.concatenate(scores),
        m_jj=np.concatenate(masses),
        weight=np.concatenate(weights),
        description=f"the signal in {names}",
    )
    if not len(found.score):
        raise InputError(f"{names}: no signal event passes; a file of signal has labels above 0")
    return found


def source_of(file: Path, n_events: int) -> SourceFile:
    """The record of a file of N events."""
    return SourceFile(
        name=file.stem,
        file=file.name,
        size=file.stat().st_size,
        sha256=file_digest(file),
        events=n_events,
    )


def joint_digest(sources: Sequence[SourceFile]) -> str:
    """The digest of one file, or that of the digests of several."""
    if len(sources) == 1:
        return sources[0].sha256
    return hashlib.sha256("".join(one.sha256 for one in sources).encode()).hexdigest()


def _refuse_repeated(files: Sequence[Path]) -> None:
    whole = [file.resolve() for file in files]
    for file, path in zip(files, whole, strict=True):
        if whole.count(path) > 1:
            raise InputError(f"{file}: given twice, so its events would count twice")


def _open(file: Path, columns: TableColumns) -> _OpenTable:
    table = open_table(file, tree=columns.tree, names=columns.names)
    jets, is_difference = _jet_columns(table, columns)
    return _OpenTable(
        table=table,
        score=_needed(table, columns.score, "score", "--score"),
        mass=_needed(table, columns.mass, "mass", "--mass"),
        jets=jets,
        label=_usual(table, columns.label, "label"),
        weight=_usual(table, columns.weight, "weight"),
        scale=GEV[columns.energy_unit],
        is_difference=is_difference,
    )


def _needed(table: ColumnTable, column: Column, what: str, option: str) -> int:
    try:
        return find_column(table, column, what)
    except InputError as error:
        raise InputError(f"{error}; name it with {option}") from None


def _usual(table: ColumnTable, stated: Column | None, usual: str) -> int | None:
    """The column that is stated, or else the one of the usual name, if there is one."""
    if stated == NO_COLUMN:
        return None
    if stated is not None:
        return find_column(table, stated, usual)
    return find_column(table, usual, usual) if usual in (table.names or ()) else None


def _jet_columns(table: ColumnTable, columns: TableColumns) -> tuple[tuple[int, ...], bool]:
    """The columns of jet masses, and whether the second holds the difference of both."""
    pairs = [columns.jets] if columns.jets else _JET_MASSES
    for pair in pairs:
        if columns.jets or set(pair) <= set(table.names or ()):
            places = tuple(find_column(table, name, "jet mass") for name in pair)
            return places, pair[-1] == "jet_mass_delta"
    return (), False


def _read(one: _OpenTable, columns: TableColumns, extra: Sequence[int] = ()) -> _OpenTable:
    """Reads the columns that are needed, and applies the selection."""
    names = [str(name) for name in one.table.names or ()]
    wanted = {one.score, one.mass, *one.jets, *extra}
    wanted |= set() if one.weight is None else {one.weight}
    chosen = None
    if columns.select is not None:
        if not names:
            raise InputError(f"{one.path}: its columns have no names to select by; give --columns")
        try:
            chosen = parse_event_filter(columns.select, names)
        except InputError as error:
            raise InputError(f"{one.path}: {error}; there are {listing(names)}") from None
        if one.name(one.mass) in chosen.names:
            raise InputError(
                f"the selection '{chosen.text}' cuts on {one.name(one.mass)}, of which a search "
                "needs the whole spectrum; set its range with --mass-range"
            )
        wanted |= {names.index(name) for name in chosen.names}
    read = _column(one.table, sorted(wanted))
    passes = np.ones(one.table.n_rows, dtype=np.bool_)
    if chosen is not None:
        by_name: Columns = {names[place]: values for place, values in read.items()}
        passes = chosen.mask(by_name)
    return replace(one, columns=read, passes=passes)


def _column(table: ColumnTable, places: Sequence[int]) -> dict[int, Floats]:
    """Reads columns as a whole, by their positions."""
    starts = range(0, table.n_rows, _ROWS)
    parts = [table.read(start, min(start + _ROWS, table.n_rows), places) for start in starts]
    rows = np.concatenate(parts)
    return {place: np.ascontiguousarray(rows[:, i]) for i, place in enumerate(places)}


def _refuse_weights(one: _OpenTable) -> None:
    if one.weight is None:
        return
    weights = one.values(one.weight)
    if len(weights) and not (weights == weights[0]).all():
        raise InputError(
            f"{one.path}: weights in '{one.name(one.weight)}' from {weights.min():g} to "
            f"{weights.max():g}; a search counts events of equal weight: unweight the events, or "
            "give --weight none if the column means something else"
        )


def _refuse_bad_scores(one: _OpenTable) -> None:
    scores = one.columns[one.score]
    bad = np.flatnonzero(~np.isfinite(scores) & one.passes)
    if len(bad):
        name = one.name(one.score)
        raise InputError(
            f"{one.path}: {len(bad)} of {len(scores)} values of '{name}' are not finite, the first "
            f"is {scores[bad[0]]} in row {bad[0]}; score these events, or leave them out with "
            f"--select '-1e99 < {name} < 1e99'"
        )


def _jet_masses(one: _OpenTable) -> tuple[Floats, Floats]:
    """Masses of the lighter and of the heavier jet; NaN where they are not known."""
    missing = np.full(len(one.values(one.score)), np.nan)
    masses = [one.scale * one.values(place) for place in one.jets]
    if not masses:
        return missing, missing
    if one.is_difference:
        masses[1] = masses[0] + masses[1]
    if len(masses) == 1:
        return masses[0], missing
    return np.minimum(*masses), np.maximum(*masses)


def _check_masses(
    masses: Floats, name: str, unit: EnergyUnit, mass_range: tuple[float, float]
) -> None:
    """Refuses masses of which none is in the range, as those in another unit are not."""
    low, high = mass_range
    if ((masses >= low) & (masses < high)).any():
        return
    known = masses[np.isfinite(masses)]
    if not len(known):
        raise InputError(f"no event has a finite '{name}'; name another column with --mass")
    found = f"'{name}' is from {known.min():.4g} to {known.max():.4g} GeV"
    median = float(np.median(known)) / GEV[unit]
    other = next((one for one, scale in GEV.items() if low <= median * scale < high), None)
    mend = "another --mass or --mass-range" if other is None else f"--energy-unit {other}"
    raise InputError(f"no event has a mass from {low:g} to {high:g} GeV: {found}; give {mend}")
