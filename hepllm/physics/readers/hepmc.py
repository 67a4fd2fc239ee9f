"""HepMC files of event generators, versions 2 and 3 of the text format; needs ``pyhepmc``.

Opening a file reads it once to note where every hundredth event begins, so that a worker finds its
events without reading those before them; only one event at a time is in memory as a graph.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hepllm.arrays import Floats
from hepllm.config import PreprocessConfig
from hepllm.config.inputs import NO_COLUMN, Column
from hepllm.errors import InputError
from hepllm.physics.events import EventBatch, Particles
from hepllm.physics.generated import NEUTRINOS

_STRIDE = 100
"""Events between two noted places."""

_BLOCK = 1 << 22
"""Bytes that are searched at once."""

_FINAL = 1
"""HepMC's status of a particle that leaves the event."""


@dataclass(frozen=True)
class HepmcFile:
    """A HepMC file.

    Attributes:
        path: the file.
        n_events: number of events.
        is_version_2: whether it has the older format.
        weight: which of the events' weights counts, None for 1.
        offsets: in bytes, of events 0, 100, 200, ...
    """

    path: Path
    n_events: int
    is_version_2: bool
    weight: Column | None
    offsets: tuple[int, ...]

    @property
    def has_labels(self) -> bool:
        """Never: HepMC has none."""
        return False

    def read(self, start: int, stop: int) -> EventBatch:
        """Reads events, start included and stop not.

        Raises:
            InputError: an event is damaged.
        """
        n_events = stop - start
        columns: list[Floats] = [np.empty((3, 0))]
        weights = np.ones(n_events)
        counts = np.zeros(n_events, dtype=np.int64)
        for row, event in enumerate(self._events(start, stop)):
            visible = _visible_particles(event)
            columns.append(visible)
            counts[row] = visible.shape[1]
            weights[row] = self._weight_of(event, start + row)
        pt, eta, phi = np.ascontiguousarray(np.concatenate(columns, axis=1))
        return EventBatch(
            event_id=np.arange(start, stop, dtype=np.int64),
            content=Particles(pt, eta, phi, counts),
            label_raw=np.full(n_events, np.nan),
            weight=weights,
        )

    def _events(self, start: int, stop: int) -> Iterator[Any]:
        pyhepmc = _import_pyhepmc()
        io_module = pyhepmc.io
        kind = io_module.ReaderAsciiHepMC2 if self.is_version_2 else io_module.ReaderAscii
        with self.path.open("rb") as stream:
            head = stream.read(self.offsets[0])
            stream.seek(self.offsets[start // _STRIDE])
            offset = next(islice(_event_offsets(stream), start % _STRIDE, None))
            stream.seek(offset)
            with kind(io_module.pyiostream(_Joined(head, stream))) as reader:
                for row in range(start, stop):
                    event = pyhepmc.GenEvent()
                    if not reader.read_event(event) or reader.failed():
                        raise InputError(
                            f"{self.path}: row {row}: the event is damaged or cut short"
                        )
                    yield event

    def _weight_of(self, event: Any, row: int) -> float:
        if self.weight is None or (self.weight == 0 and not event.weights):
            return 1.0
        try:
            return float(event.weight(self.weight))
        except (IndexError, KeyError, RuntimeError):
            raise InputError(
                f"{self.path}: row {row}: no weight '{self.weight}'; {_weights_of(event)}"
            ) from None


class _Joined(io.RawIOBase):
    """The head of a file, then what follows in a stream: as if the events before were not there."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head = io.BytesIO(head)
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        content = self._head.read(len(buffer)) or self._stream.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


def open_hepmc(path: Path, config: PreprocessConfig) -> HepmcFile:
    """Opens a HepMC file and notes where its events are.

    Raises:
        InputError: ``pyhepmc`` is not installed, there are no events or they are damaged, or the
            configuration asks for what HepMC does not have.
    """
    _import_pyhepmc()
    if config.label not in (None, NO_COLUMN):
        raise InputError(
            f"{path}: HepMC events have no labels; give preprocess.source_labels or a master key"
        )
    if config.energy_unit != "GeV":
        raise InputError(
            f"{path}: HepMC files tell their unit themselves; leave preprocess.energy_unit out"
        )
    with path.open("rb") as stream:
        head = stream.read(4096)
        stream.seek(0)
        offsets, n_events = [], 0
        for offset in _event_offsets(stream):
            if n_events % _STRIDE == 0:
                offsets.append(offset)
            n_events += 1
    if n_events == 0:
        raise InputError(f"{path}: there are no events in it")
    weight = 0 if config.weight is None else config.weight
    file = HepmcFile(
        path,
        n_events,
        b"IO_GenEvent" in head,
        None if weight == NO_COLUMN else weight,
        tuple(offsets),
    )
    file.read(0, 1)
    return file


def _import_pyhepmc() -> Any:
    try:
        pyhepmc = importlib.import_module("pyhepmc")
    except ImportError:
        raise InputError("HepMC files need pyhepmc; run: pip install 'hepllm[hepmc]'") from None
    pyhepmc.Setup.print_errors = False  # they are ours to tell
    pyhepmc.Setup.print_warnings = False
    return pyhepmc


def _event_offsets(stream: BinaryIO) -> Iterator[int]:
    """Where lines of events begin, from where the stream stands; it must be a line's begin."""
    base, kept = stream.tell() - 1, b"\n"
    while block := stream.read(_BLOCK):
        text = kept + block
        found = text.find(b"\nE ")
        while found >= 0:
            yield base + found + 1
            found = text.find(b"\nE ", found + 1)
        kept = text[-2:]
        base += len(text) - len(kept)


def _visible_particles(event: Any) -> Floats:
    """Final particles that are no neutrinos, as massless: pT in GeV, eta, phi; shape (3, N)."""
    particles = event.numpy.particles
    visible = (particles.status == _FINAL) & ~np.isin(np.abs(particles.pid), NEUTRINOS)
    px, py, pz = (getattr(particles, name)[visible] for name in ("px", "py", "pz"))
    pt = np.hypot(px, py)
    moving = pt != 0  # a remnant along the beam has no eta
    px, py, pz, pt = px[moving], py[moving], pz[moving], pt[moving]
    scale = 1e-3 if event.momentum_unit.name == "MEV" else 1.0
    return np.stack([pt * scale, np.arcsinh(pz / pt), np.arctan2(py, px)])


def _weights_of(event: Any) -> str:
    try:
        names = [name for name in event.weight_names if name]
    except RuntimeError:
        names = []
    return f"there are {', '.join(names)}" if names else f"there are {len(event.weights)}, by place"
