"""Reads LHC Olympics HDF5 files: frames of 700 zero-padded (pT, eta, phi) and maybe a label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hepllm.config import PreprocessConfig
from hepllm.config.inputs import GEV, NO_COLUMN, RADIANS
from hepllm.errors import InputError
from hepllm.physics.events import EventBatch, Particles
from hepllm.physics.readers.columns import EventsInTable, chosen_columns, find_column
from hepllm.physics.readers.frames import HdfFrame

N_PARTICLES = 700
N_COLUMNS = 3 * N_PARTICLES


@dataclass(frozen=True)
class LhcoFile(EventsInTable):
    """An LHCO file.

    Attributes:
        label, weight: positions of the columns of labels and weights, if any.
        columns: positions of the columns of particles.
        scale: GeV per unit of pT.
        radians: radians per unit of phi.
        observers: positions of further columns, by name.
    """

    table: HdfFrame
    label: int | None
    weight: int | None
    columns: tuple[int, ...]
    scale: float
    radians: float
    observers: Mapping[str, int] = field(default_factory=dict)

    def read(self, start: int, stop: int) -> EventBatch:
        """Reads the rows from ``start`` to before ``stop``.

        Raises:
            InputError: the rows are damaged, or the labels are not where they are expected.
        """
        rows = self.table.read(start, stop)
        if self.label == N_COLUMNS and np.isin(rows[:, 0], (0, 1)).all() and rows[:, 1].any():
            raise InputError(
                f"{self.path}: rows {start}-{stop - 1}: the first column holds labels (0 or 1), "
                "not pT; read them there by --set preprocess.label=0"
            )
        labels = np.full(len(rows), np.nan) if self.label is None else rows[:, self.label].copy()
        weights = np.ones(len(rows)) if self.weight is None else rows[:, self.weight].copy()
        in_order = self.columns == tuple(range(N_COLUMNS))
        particles = rows[:, :N_COLUMNS] if in_order else rows[:, list(self.columns)]
        event_id = np.arange(start, stop, dtype=np.int64)
        content = Particles.from_padded(particles).scaled(self.scale, self.radians)
        observers = {name: rows[:, place].copy() for name, place in self.observers.items()}
        return EventBatch(event_id, content, labels, weights, observers)


def lhco_of_frame(frame: HdfFrame, config: PreprocessConfig) -> LhcoFile:
    """Interprets a frame as an LHCO file; by default, a column 2,101 holds labels.

    Raises:
        InputError: the number of columns is wrong, or a configured column is missing.
    """
    label = weight = None
    if config.weight not in (None, NO_COLUMN):
        weight = find_column(frame, config.weight, "weight")
    if config.label is None:
        label = N_COLUMNS if frame.n_columns == N_COLUMNS + 1 and weight is None else None
    elif config.label != NO_COLUMN:
        label = find_column(frame, config.label, "label")
    observed = chosen_columns(frame.path, frame.names, config.observers)
    observers = {name: find_column(frame, name, name) for name in observed}
    others = {label, weight, *observers.values()}
    columns = tuple(i for i in range(frame.n_columns) if i not in others)
    if config.label == NO_COLUMN and len(columns) == N_COLUMNS + 1:
        columns = columns[:-1]
    if len(columns) != N_COLUMNS:
        stated = len({label, weight} - {None})
        besides = f" besides the {stated} of label and weight" if stated else ""
        raise InputError(
            f"{frame.path}: {len(columns)} columns in '{frame.key}'{besides}, expected {N_COLUMNS} "
            f"({N_PARTICLES} x pT, eta, phi) or {N_COLUMNS + 1} with a label; "
            "a table of features needs preprocess.columns"
        )
    frame.require_numbers({place for place in (*columns, *others) if place is not None})
    units = GEV[config.energy_unit], RADIANS[config.angle_unit]
    return LhcoFile(frame, label, weight, columns, *units, observers)
