"""The record of a training: what it believed of each event in each epoch, as a side table.

A file ``dynamics.parquet`` has a row per training event, by ``event_digest``, its label, and for
each epoch two columns of float16: the probability of the label's class, and the margin. Epochs of
the adapter alone have columns of their own (``adapter_probability_001``), since another head read
the event there than in those with the language model (``model_probability_001``). The values are
those of the forward passes that trained, each before the update of its step, with dropout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hepllm import __version__
from hepllm.arrays import Digests, Labels
from hepllm.data.notes import NotesRecord, read_notes, write_notes
from hepllm.errors import InputError

DYNAMICS = "dynamics.parquet"
"""Name of the file in a run folder, and in its checkpoints."""

Part = Literal["adapter", "model"]
"""A part of a training: the adapter alone, or with the language model."""

PARTS: tuple[Part, ...] = get_args(Part)

Halves = NDArray[np.float16]

_KINDS = ("probability", "margin")


@dataclass(frozen=True, eq=False)
class PartDynamics:
    """What one part of a training believed of N events in E epochs.

    Attributes:
        probability: probability of the class that the label states, shape (N, E); NaN where the
            event was not shown in an epoch.
        margin: logit of that class minus that of the other, shape (N, E); likewise NaN.
    """

    probability: Halves
    margin: Halves

    @classmethod
    def empty(cls, n_events: int, n_epochs: int) -> PartDynamics:
        """Nothing seen yet."""
        one, other = (np.full((n_events, n_epochs), np.nan, dtype=np.float16) for _ in _KINDS)
        return cls(one, other)

    @property
    def n_epochs(self) -> int:
        """Epochs in which an event may have been shown."""
        return int(self.probability.shape[1])


@dataclass(frozen=True, eq=False)
class Dynamics:
    """The record of a training on N events.

    Attributes:
        event_digest: shape (N,).
        label: what the training takes for true, shape (N,).
        parts: the parts of the training that had epochs.
    """

    event_digest: Digests
    label: Labels
    parts: Mapping[Part, PartDynamics]

    def write(self, file: Path) -> None:
        """Writes the side table, whole or not at all, with the same bytes for equal contents."""
        columns: dict[str, NDArray[Any]] = {"label": self.label}
        for name, kind, epoch in _columns({part: one.n_epochs for part, one in self.parts.items()}):
            columns[f"{name}_{kind}_{epoch + 1:03d}"] = np.ascontiguousarray(
                getattr(self.parts[name], kind)[:, epoch]
            )
        record = NotesRecord(
            holds="what the training believed of its events, by epoch",
            made_by=f"hepllm train, version {__version__}",
        )
        write_notes(file, self.event_digest, columns, record)


def read_dynamics(folder: Path, remedy: str) -> Dynamics:
    """Reads the record of a run folder or of a checkpoint.

    Args:
        folder: where the file is.
        remedy: advice in the message if it is missing.

    Raises:
        InputError: if it is missing or damaged.
    """
    file = folder / DYNAMICS
    notes = read_notes(file, remedy)
    names = [name for name in notes.table.column_names if name.rpartition("_")[2].isdigit()]
    n_epochs = {
        part: sum(name.startswith(f"{part}_{_KINDS[0]}_") for name in names) for part in PARTS
    }
    parts = {
        part: PartDynamics.empty(len(notes.event_digest), number)
        for part, number in n_epochs.items()
        if number
    }
    for part, kind, epoch in _columns({part: one.n_epochs for part, one in parts.items()}):
        values = notes.column(f"{part}_{kind}_{epoch + 1:03d}")
        if values.dtype != np.float16:
            raise InputError(f"{file}: {part}_{kind}_{epoch + 1:03d} is no float16; {remedy}")
        getattr(parts[part], kind)[:, epoch] = values
    return Dynamics(notes.event_digest, notes.column("label").astype(np.int8), parts)


def _columns(n_epochs: Mapping[Part, int]) -> Iterator[tuple[Part, str, int]]:
    """The columns of the parts in the order of the file: part, kind of value, epoch from 0."""
    for part, number in n_epochs.items():
        for kind in _KINDS:
            for epoch in range(number):
                yield part, kind, epoch
