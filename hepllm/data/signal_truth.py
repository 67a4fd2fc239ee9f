"""The true signals of simulated events, as a hypothesis states them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Ints
from hepllm.data.dataset import Dataset
from hepllm.data.event_table import EventTable
from hepllm.hypotheses.signal import Signal


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
    known: dict[Signal, int] = {}
    place_of = {id(None): -1}  # of few objects, which many events share
    signals = dataset.true_signals(table).tolist()
    for signal in signals:
        if id(signal) not in place_of:
            stated = signal.without_resonance()
            place_of[id(signal)] = known.setdefault(stated, len(known))
    place = np.array([place_of[id(signal)] for signal in signals], dtype=np.int64)
    return SignalTruth(tuple(known), place)
