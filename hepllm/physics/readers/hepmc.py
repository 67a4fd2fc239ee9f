"""Reads HepMC files of event generators, versions 2 and 3 of the text format; needs ``pyhepmc``.

Opening a file records the position of every hundredth event, so that a worker finds its events
without reading all events before them. Only one event at a time is in memory as a graph.
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
"""Events between two recorded positions."""

_BLOCK = 1 << 22
"""Bytes searched at once."""


@dataclass(frozen=True)
class HepmcFile:
    """A HepMC file.

    Attributes:
        is_version_2: whether the file has the older format.
        weight: name or position of the weight to read; None: all weights are 1.
        offsets: positions in bytes of events 0, 100, 200, ...
    """

    path: Path
    n_events: int
    is_version_2: bool
    weight: Column | None
    offsets: tuple[int, ...]

    @property
    def has_labels(self) -> bool:
        """False: HepMC has no labels."""
        return False

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

    def _events(self, start: int, stop: int) -> Iterator[Any]:
        pyhepmc = _import_pyhepmc()
        readers = pyhepmc.io
        reader_type = readers.ReaderAsciiHepMC2 if self.is_version_2 else readers.ReaderAscii
        with self.path.open("rb") as stream:
            head = stream.read(self.offsets[0])
            stream.seek(self.offsets[start // _STRIDE])
            stream.seek(next(islice(_event_offsets(stream), start % _STRIDE, None)))
            with reader_type(readers.pyiostream(_Joined(head, stream))) as reader:
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
    """The head of a file, then the rest of a stream, without the events between them."""

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
    """Opens a HepMC file and records where its events are.

    Raises:
        InputError: ``pyhepmc`` is not installed, the file has no events or is damaged, or the
            configuration asks for labels or another unit.
    """
    _import_pyhepmc()
    if config.label not in (None, NO_COLUMN):
        raise InputError(
            f"{path}: HepMC events have no labels; give preprocess.source_labels or a master key"
        )
    if config.energy_unit != "GeV":
        raise InputError(f"{path}: HepMC files state their own unit; remove preprocess.energy_unit")
    if config.angle_unit != "rad":
        raise InputError(f"{path}: HepMC files hold no angles; remove preprocess.angle_unit")
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
    stated = 0 if config.weight is None else config.weight
    weight = None if stated == NO_COLUMN else stated
    file = HepmcFile(path, n_events, b"IO_GenEvent" in head, weight, tuple(offsets))
    file.read(0, 1)
    return file


def _import_pyhepmc() -> Any:
    try:
        pyhepmc = importlib.import_module("pyhepmc")
    except ImportError:
        raise InputError("HepMC files need pyhepmc; run: pip install 'hepllm[hepmc]'") from None
    pyhepmc.Setup.print_errors = False  # the caller reports them
    pyhepmc.Setup.print_warnings = False
    return pyhepmc


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


def _visible_particles(event: Any) -> Floats:
    """Final particles except neutrinos, massless: pT in GeV, eta and phi, shape (3, N)."""
    particles = event.numpy.particles
    visible = (particles.status == 1) & ~np.isin(np.abs(particles.pid), NEUTRINOS)
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
    return f"there are {', '.join(names) if names else f'{len(event.weights)} without names'}"
