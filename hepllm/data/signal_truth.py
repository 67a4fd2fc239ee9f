"""The true signals of simulated events, as a hypothesis states them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Ints
from hepllm.data.dataset import Dataset, EventTable
from hepllm.data.signal_points import SignalPoint, point_of_rows
from hepllm.hypotheses.signal import Product, Signal
from hepllm.schema import SIGNAL


@dataclass(frozen=True, eq=False)
class SignalTruth:
    """The true signals of N events.

    Attributes:
        signals: distinct signals; the mass of the resonance is none of their properties.
        place: place of each event's own in ``signals``, shape (N,); -1 for background, and for
            signal of unknown truth.
    """

    signals: tuple[Signal, ...]
    place: Ints

    def take(self, events: NDArray[np.generic]) -> SignalTruth:
        """The truth of the events of a mask, shape (N,), or of an array of positions."""
        return SignalTruth(self.signals, self.place[events])


def signal_truth(dataset: Dataset, table: EventTable) -> SignalTruth:
    """Looks up the true signals of events.

    Args:
        dataset: their dataset.
        table: N events, with their labels.
    """
    place = np.full(len(table), -1)
    known: dict[Signal, int] = {}
    for source in dataset.manifest.sources:
        if not source.signal_points:
            continue
        mine = np.flatnonzero((table.source == source.name) & (table.label == SIGNAL))
        signals = [signal_of(point) for point in source.signal_points]
        places = np.array([known.setdefault(signal, len(known)) for signal in signals])
        place[mine] = places[point_of_rows(source.signal_points, table.event_id[mine])]
    return _without_unused(tuple(known), place)


def signal_of(point: SignalPoint) -> Signal:
    """What a hypothesis states of a point: masses and decays of X and Y."""
    return Signal((Product(point.m_x, "qq"), Product(point.m_y, "qq")))


def _without_unused(signals: Sequence[Signal], place: Ints) -> SignalTruth:
    """Leaves out signals that no event has."""
    used = np.unique(place[place >= 0])
    renumbered = np.full(len(signals) + 1, -1)
    renumbered[used] = np.arange(len(used))
    return SignalTruth(tuple(signals[i] for i in used), renumbered[place])
