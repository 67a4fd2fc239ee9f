"""The truth of simulated signal events: which rows of a file belong to which masses and decays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Floats, Ints
from hepllm.config import SignalConfig
from hepllm.errors import InputError
from hepllm.hypotheses.signal import Decay, Product, Signal
from hepllm.records import Events, FileRecord, Gev, Record

SUFFIX = ".points.json"


class SignalPoint(Record):
    """Consecutive rows of a file, the signal events among which are Z' -> X Y of these masses."""

    m_zprime: Gev
    """Mass of Z'."""
    m_x: Gev | None
    """Mass of X; null for a single quark."""
    m_y: Gev | None
    """Mass of Y; null for a single quark."""
    decay_x: Decay = "qq"
    """Decay of X."""
    decay_y: Decay = "qq"
    """Decay of Y."""
    width: float = 1e-3
    """Natural width of Z' over its mass."""
    first: int
    """The first row, counted from 0."""
    events: Events
    """Number of rows."""
    generated: Events | None = None
    """Signal events generated to find those among them; the others do not trigger. Null where it is
    not known."""

    @classmethod
    def of(
        cls, signal: SignalConfig, first: int, events: int, generated: int | None = None
    ) -> SignalPoint:
        """The point of a simulated signal; a single quark has no mass."""
        return cls(
            m_zprime=signal.m_zprime,
            m_x=None if signal.decay_x == "q" else signal.m_x,
            m_y=None if signal.decay_y == "q" else signal.m_y,
            decay_x=signal.decay_x,
            decay_y=signal.decay_y,
            width=signal.width,
            first=first,
            events=events,
            generated=generated,
        )

    @property
    def masses(self) -> tuple[float, float, float]:
        """Masses of Z', X and Y in GeV, NaN for a single quark."""
        m_x, m_y = (math.nan if mass is None else mass for mass in (self.m_x, self.m_y))
        return self.m_zprime, m_x, m_y

    @property
    def signal(self) -> Signal:
        """What a hypothesis that is right states."""
        products = Product(self.m_x, self.decay_x), Product(self.m_y, self.decay_y)
        return Signal(products, self.m_zprime)


class SignalPoints(FileRecord):
    """The content of ``<file>.points.json``: the points of a file, in the order of its rows."""

    points: list[SignalPoint]
    """All points of the file."""


def points_beside(file: Path) -> Path:
    """The path of the points of an event file."""
    return file.with_suffix(SUFFIX)


def read_points(path: Path, n_events: int) -> tuple[SignalPoint, ...]:
    """Reads the points of an event file with ``n_events`` rows.

    Raises:
        InputError: the file is damaged, or its points do not cover these rows one after another.
    """
    points = SignalPoints.read(path, "simulate the events again, or remove it").points
    stop = 0
    for point in points:
        if point.first != stop or point.events < 1:
            raise InputError(
                f"{path}: a point begins at row {point.first} with {point.events} events, expected "
                f"row {stop}; simulate the events again, or remove the file"
            )
        stop += point.events
    if stop != n_events:
        raise InputError(
            f"{path}: points for {stop} events, but the event file has {n_events}; "
            "simulate the events again, or remove it"
        )
    return tuple(points)


def point_of_rows(points: Sequence[SignalPoint], rows: Ints) -> Ints:
    """The position in ``points`` of each row, shape (N,)."""
    starts = np.array([point.first for point in points])
    return np.asarray(np.searchsorted(starts, rows, side="right") - 1)


def masses_of_points(points: Sequence[SignalPoint]) -> Floats:
    """Masses of Z', X and Y in GeV, shape (K, 3)."""
    return np.array([point.masses for point in points], dtype=np.float64).reshape(-1, 3)


def signals_of_points(points: Sequence[SignalPoint]) -> NDArray[np.object_]:
    """What right hypotheses state, shape (K,)."""
    signals = np.empty(len(points), dtype=object)
    signals[:] = [point.signal for point in points]
    return signals
