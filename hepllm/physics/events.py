"""Batches of events, and the checks that events must pass."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hepllm.arrays import Bools, Columns, Digests, Floats, Ints
from hepllm.physics.absent import are_there


@dataclass(frozen=True)
class Momenta:
    """Four-momenta as float64 arrays of shape (N,), GeV; NaN where missing."""

    px: Floats
    py: Floats
    pz: Floats
    energy: Floats

    def __add__(self, other: Momenta) -> Momenta:
        return Momenta(*(self.stack() + other.stack()))

    @property
    def pt(self) -> Floats:
        """Transverse momentum."""
        return np.hypot(self.px, self.py)

    @property
    def phi(self) -> Floats:
        """Azimuth in (-pi, pi]."""
        return np.arctan2(self.py, self.px)

    @property
    def eta(self) -> Floats:
        """Pseudorapidity."""
        return np.arcsinh(self.pz / self.pt)

    @property
    def mass(self) -> Floats:
        """Invariant mass; 0 where rounding makes its square negative."""
        squared = self.energy**2 - self.px**2 - self.py**2 - self.pz**2
        return np.sqrt(np.where(squared < 0, 0.0, squared))

    def stack(self) -> Floats:
        """The components px, py, pz, E as rows, shape (4, N)."""
        return np.stack([self.px, self.py, self.pz, self.energy])

    def take(self, events: Ints) -> Momenta:
        """The momenta at these positions."""
        return Momenta(self.px[events], self.py[events], self.pz[events], self.energy[events])


def starts_of(counts: Ints) -> Ints:
    """The first position of each run in a flat array of runs with these lengths."""
    starts: Ints = np.cumsum(counts) - counts
    return starts


def positions_in_runs(counts: Ints) -> Ints:
    """The positions 0, 1, 2, ... within each run, for a flat array of runs with these lengths."""
    positions: Ints = np.arange(counts.sum()) - np.repeat(starts_of(counts), counts)
    return positions


@dataclass(frozen=True)
class Particles:
    """Particles of N events, stored flat: the particles of event 0, then those of event 1, ...

    Attributes:
        pt, eta, phi: transverse momenta in GeV, pseudorapidities, azimuths in radians.
        counts: number of particles per event, shape (N,).
    """

    pt: Floats
    eta: Floats
    phi: Floats
    counts: Ints

    def __len__(self) -> int:
        return len(self.counts)

    @classmethod
    def from_padded(cls, padded: Floats) -> Particles:
        """Reads zero-padded rows of (pT, eta, phi) triplets, shape (N, 3 * slots), the LHCO layout.

        A slot is empty where ``are_there`` says so, most often because pT is 0; another NaN or
        negative pT is kept for ``describe_defects``.
        """
        slots = padded.shape[1] // 3
        triplets = padded.reshape(len(padded), slots, 3)
        filled = triplets[:, :, 0] != 0
        if not (triplets[:, :, 0] >= 0).all():
            pt, eta, phi = triplets.reshape(-1, 3).T
            filled = are_there(pt, [eta, phi], np.full(len(padded), slots)).reshape(filled.shape)
        pt, eta, phi = np.ascontiguousarray(triplets[filled].T, dtype=np.float64)
        return cls(pt, eta, phi, counts=filled.sum(axis=1).astype(np.int64))

    def scaled(self, gev: float, radians: float) -> Particles:
        """The same particles from a file with these units in GeV and radians."""
        if gev == 1 and radians == 1:
            return self
        return Particles(self.pt * gev, self.eta, self.phi * radians, self.counts)

    def event_of_particle(self) -> Ints:
        """The event number of each particle."""
        return np.repeat(np.arange(len(self)), self.counts)

    def take(self, events: Bools) -> Particles:
        """The events where the mask, shape (N,), is true."""
        keep = np.repeat(events, self.counts)
        return Particles(self.pt[keep], self.eta[keep], self.phi[keep], self.counts[events])

    def momenta(self) -> Momenta:
        """Massless four-momenta of all particles, flat."""
        px, py = self.pt * np.cos(self.phi), self.pt * np.sin(self.phi)
        return Momenta(px, py, self.pt * np.sinh(self.eta), self.pt * np.cosh(self.eta))

    def digests(self) -> Digests:
        """A 64-bit digest of each event's content."""
        return digest_runs([self.pt, self.eta, self.phi], self.counts)


def digest_runs(columns: Sequence[Floats], counts: Ints) -> Digests:
    """A 64-bit digest of each event, from its run of values in single precision.

    A copy of an event from a float32 file therefore has the digest of the original.

    Args:
        columns: flat arrays, event after event.
        counts: length of each event's run, shape (N,).
    """
    flat = np.stack(columns, axis=1).astype("<f4") + np.float32(0)
    flat[np.isnan(flat)] = np.nan  # one bit pattern for all NaN
    bounds = np.concatenate([[0], np.cumsum(counts)]) * flat.itemsize * len(columns)
    content = memoryview(flat.tobytes())
    runs = (content[start:stop] for start, stop in itertools.pairwise(bounds))
    digests = b"".join(hashlib.blake2b(run, digest_size=8).digest() for run in runs)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


Defects = list[tuple[str, Bools]]
"""For each defect found, its description (``3 particles with pT < 0``) and the mask of the events
that have it, shape (N,)."""


@dataclass(frozen=True)
class TabulatedEvents:
    """N events of a file that holds features instead of particles.

    Attributes:
        values: features and ``schema.TABLE_QUANTITIES`` by name, shape (N,), in GeV and radians,
            NaN where missing; at least one.
        content: digest per event.
        defects: what its reader found in that from which it made the values.
    """

    values: Columns
    content: Digests
    defects: Defects = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.content)

    def take(self, events: Bools) -> TabulatedEvents:
        """The events where the mask, shape (N,), is true."""
        values = {name: column[events] for name, column in self.values.items()}
        defects = [(text, found[events]) for text, found in self.defects]
        return TabulatedEvents(values, self.content[events], defects)

    def digests(self) -> Digests:
        """A 64-bit digest of each event's content."""
        return self.content


@dataclass(frozen=True)
class EventBatch:
    """Consecutive events of a file.

    Attributes:
        event_id: row in the file, shape (N,) as for label_raw and weight.
        content: particles or features.
        label_raw: label from the file; NaN where it has none.
        weight: event weight; 1 where the file has none.
        observers: further columns of the file, by name.
    """

    event_id: Ints
    content: Particles | TabulatedEvents
    label_raw: Floats
    weight: Floats
    observers: Columns = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.event_id)

    @property
    def particles(self) -> Particles:
        """The content of a file that holds particles."""
        if not isinstance(self.content, Particles):
            raise TypeError("these events have features, not particles")
        return self.content

    def take(self, events: Bools) -> EventBatch:
        """The events where the mask, shape (N,), is true."""
        content, label_raw = self.content.take(events), self.label_raw[events]
        observers = {name: values[events] for name, values in self.observers.items()}
        return EventBatch(self.event_id[events], content, label_raw, self.weight[events], observers)
