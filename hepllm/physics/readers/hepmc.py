"""Reads HepMC files of event generators, versions 2 and 3 of the text format.

Opening a file records the position of every hundredth event, so that a worker finds its events
without reading all events before them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hepllm.arrays import Floats
from hepllm.config import PreprocessConfig
from hepllm.config.inputs import NO_COLUMN, Column
from hepllm.errors import InputError
from hepllm.physics.events import EventBatch, Particles
from hepllm.physics.generated import NEUTRINOS
from hepllm.physics.readers.hepmc_text import (
    GeneratedEvent,
    names_in_head,
    parse_event,
    version_of,
)

_STRIDE = 100
"""Events between two recorded positions."""

_BLOCK = 1 << 22
"""Bytes searched at once."""


@dataclass(frozen=True)
class HepmcFile:
    """A HepMC file.

    Attributes:
        version: of the format, 2 or 3.
        weight_names: names of the weights in the head of the file, which version 2 does not have.
        weight: name or position of the weight to read; None: all weights are 1.
        offsets: positions in bytes of events 0, 100, 200, ...
    """

    path: Path
    n_events: int
    version: int
    weight_names: tuple[str, ...]
    weight: Column | None
    offsets: tuple[int, ...]

    @property
    def has_labels(self) -> bool:
        """False: HepMC has no labels."""
        return False

    @property
    def observers(self) -> tuple[str, ...]:
        """None: HepMC has no columns."""
        return ()

    def read(self, start: int, stop: int) -> EventBatch:
        """Reads the events from ``start`` to before ``stop``.

        Raises:
            InputError: an event is damaged.
        """
        n_events = stop - start
        columns: list[Floats] = [np.empty((3, 0))]
        weights = np.ones(n_events)
        counts = np.zeros(n_events, dtype=np.int64)
        for row, event in enumerate(self._events(start, stop)):
            columns.append(_visible_particles(event))
            counts[row] = columns[-1].shape[1]
            weights[row] = self._weight_of(event, start + row)
        pt, eta, phi = np.ascontiguousarray(np.concatenate(columns, axis=1))
        event_id, label_raw = np.arange(start, stop, dtype=np.int64), np.full(n_events, np.nan)
        return EventBatch(event_id, Particles(pt, eta, phi, counts), label_raw, weights)

    def _events(self, start: int, stop: int) -> Iterator[GeneratedEvent]:
        with self.path.open("rb") as stream:
            stream.seek(self.offsets[start // _STRIDE])
            skip = start % _STRIDE
            wanted = islice(_event_offsets(stream), skip, skip + stop - start + 1)
            begins = list(wanted)
            for row, begin in enumerate(begins[: stop - start], start):
                following = begins[row - start + 1 : row - start + 2]
                stream.seek(begin)
                text = stream.read(following[0] - begin if following else -1)
                try:
                    yield parse_event(text, self.version, self.weight_names)
                except (ValueError, IndexError) as error:
                    raise InputError(
                        f"{self.path}: row {row}: the event is damaged or cut short: {error}"
                    ) from None

    def _weight_of(self, event: GeneratedEvent, row: int) -> float:
        if self.weight is None or (self.weight == 0 and not event.weights):
            return 1.0
        weight = event.weight(self.weight)
        if weight is None:
            raise InputError(
                f"{self.path}: row {row}: no weight '{self.weight}'; {_weights_of(event)}"
            )
        return weight


def open_hepmc(path: Path, config: PreprocessConfig) -> HepmcFile:
    """Opens a HepMC file and records where its events are.

    Raises:
        InputError: the file has no events, is damaged or of an unknown version, or the
            configuration asks for labels or another unit.
    """
    if config.label not in (None, NO_COLUMN):
        raise InputError(
            f"{path}: HepMC events have no labels; give preprocess.source_labels or a master key"
        )
    if config.observers:
        raise InputError(f"{path}: HepMC events have no columns; remove preprocess.observers")
    if config.energy_unit != "GeV":
        raise InputError(f"{path}: HepMC files state their own unit; remove preprocess.energy_unit")
    if config.angle_unit != "rad":
        raise InputError(f"{path}: HepMC files hold no angles; remove preprocess.angle_unit")
    with path.open("rb") as stream:
        offsets, n_events = [], 0
        for offset in _event_offsets(stream):
            if n_events % _STRIDE == 0:
                offsets.append(offset)
            n_events += 1
        stream.seek(0)
        head = stream.read(offsets[0] if offsets else _BLOCK)
    version = version_of(head)
    if version is None:
        raise InputError(
            f"{path}: HepMC in a format other than Asciiv3 (version 3) and IO_GenEvent "
            "(version 2); let the generator write one of these"
        )
    if n_events == 0:
        raise InputError(f"{path}: there are no events in it")
    stated = 0 if config.weight is None else config.weight
    weight = None if stated == NO_COLUMN else stated
    names = names_in_head(head) if version == 3 else ()
    file = HepmcFile(path, n_events, version, names, weight, tuple(offsets))
    file.read(0, 1)
    return file


def _event_offsets(stream: BinaryIO) -> Iterator[int]:
    """Positions of the lines that begin events, from here, which must be the start of a line."""
    base, kept = stream.tell() - 1, b"\n"
    while block := stream.read(_BLOCK):
        text = kept + block
        found = text.find(b"\nE ")
        while found >= 0:
            yield base + found + 1
            found = text.find(b"\nE ", found + 1)
        kept = text[-2:]
        base += len(text) - len(kept)


def _visible_particles(event: GeneratedEvent) -> Floats:
    """Final particles except neutrinos, massless: pT in GeV, eta and phi, shape (3, N)."""
    px, py, pz = event.momentum[:, ~np.isin(np.abs(event.pid), NEUTRINOS)]
    pt = np.hypot(px, py)
    moving = pt != 0  # a remnant along the beam has no eta
    px, py, pz, pt = px[moving], py[moving], pz[moving], pt[moving]
    return np.stack([pt, np.arcsinh(pz / pt), np.arctan2(py, px)])


def _weights_of(event: GeneratedEvent) -> str:
    names = [name for name in event.weight_names if name]
    return f"there are {', '.join(names) if names else f'{len(event.weights)} without names'}"
