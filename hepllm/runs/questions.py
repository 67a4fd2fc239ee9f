"""What a run is asked about events: whether they are signal, or signal of a hypothesis in words."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Ints
from hepllm.data.dataset import Dataset
from hepllm.data.event_table import EventTable
from hepllm.data.signal_truth import SignalTruth, signal_truth
from hepllm.errors import InputError
from hepllm.hypotheses.hypothesis import OPEN, Hypothesis, parse_hypothesis
from hepllm.hypotheses.signal import Product, Signal
from hepllm.hypotheses.trained_range import TrainedRange, outside
from hepllm.learning.presentation import assign_own
from hepllm.report.records import OWN
from hepllm.schema import BACKGROUND, SIGNAL

LOG = logging.getLogger(__name__)

_ENOUGH = 300
"""Validation events of the nearest signals that stand for a stated one."""

_OTHER_DECAY = 1.0
"""Distance between signals for each product with another number of prongs.

As much as a factor of 2.7 in a mass.
"""


@dataclass(frozen=True)
class Question:
    """What a run is asked about the events of a set.

    Attributes:
        hypothesis: one for all events; None for each signal's own, with the background shared out
            among them as in training.
    """

    hypothesis: Hypothesis | None = OPEN

    @property
    def is_open(self) -> bool:
        """Whether nothing is stated."""
        return self.hypothesis is not None and self.hypothesis.signal.is_open

    @property
    def text(self) -> str | None:
        """The text of the hypothesis, or ``own``; None where nothing is stated."""
        if self.hypothesis is None:
            return OWN
        return None if self.is_open else self.hypothesis.text

    @property
    def suffix(self) -> str:
        """What the name of a set ends with, such as ``-730qq-380qq``; empty if nothing is stated.

        Texts that state the same have the same one.
        """
        if self.hypothesis is None:
            return f"-{OWN}"
        if self.is_open:
            return ""
        return "-" + "-".join(map(_short, self.hypothesis.signal.products))

    def hypotheses(
        self, dataset: Dataset, table: EventTable, seed: int
    ) -> NDArray[np.object_] | None:
        """Returns the hypothesis of each event, shape (N,); None where nothing is stated.

        Args:
            dataset: their dataset, which has the true signals.
            table: N events, with their labels if each has its own.
            seed: decides which background goes with which signal.

        Raises:
            InputError: if each is to have its own, and no signal is known.
        """
        if self.hypothesis is not None:
            return None if self.is_open else fill(self.hypothesis, len(table))
        truth = signal_truth(dataset, table)
        if not len(truth.signals):
            raise InputError(
                f"{dataset.folder}: the true masses of its signal are not known, so no event has "
                "a hypothesis of its own; state one by --hypothesis TEXT"
            )
        return assign_own(table, truth, seed)

    def reference_events(self, dataset: Dataset, table: EventTable) -> Ints:
        """Chooses validation events that stand for background and for the stated signal.

        All background, and the signals that are nearest to the hypothesis, at least 300 events of
        them if there are as many. All events where nothing is stated.

        Args:
            dataset: their dataset.
            table: N validation events.

        Returns:
            Sorted positions.
        """
        if self.hypothesis is None or self.is_open:
            return np.arange(len(table))
        near = _near(self.hypothesis.signal, signal_truth(dataset, table))
        return np.flatnonzero((table.label == BACKGROUND) | ((table.label == SIGNAL) & near))


OPEN_QUESTION = Question()
"""Whether an event is signal of any kind."""


def fill(hypothesis: Hypothesis, n_events: int) -> NDArray[np.object_]:
    """One hypothesis for N events, shape (N,)."""
    filled = np.empty(n_events, dtype=object)
    filled[:] = [hypothesis] * n_events
    return filled


def read_question(text: str | None, trained: TrainedRange | None, run: str) -> Question:
    """Reads a hypothesis in words for a run, and warns of what the run never saw.

    Args:
        text: the hypothesis; ``own`` for each event's own; None for none.
        trained: signals that the run was shown with their hypotheses; None if it was not.
        run: name of the run, for messages.

    Raises:
        InputError: if the text is no hypothesis, or the run was trained without hypotheses.
    """
    if text is None:
        return OPEN_QUESTION
    found = None if text.strip() == OWN else parse_hypothesis(text)
    if trained is None:
        raise InputError(
            f"{run}: was trained without hypotheses, so it cannot read --hypothesis; train on a "
            "dataset with signals of several masses, as 'hepllm simulate --grid' makes them"
        )
    if found is None:
        return Question(None)
    for note in found.notes:
        LOG.warning("hypothesis '%s': %s", found.text, note)
    for sentence in outside(found, trained):
        LOG.warning("hypothesis '%s': %s; the scores may mean little", found.text, sentence)
    return OPEN_QUESTION if found.signal.is_open else Question(found)


def _short(product: Product) -> str:
    """A product in a file name: ``730qq``, ``380``, ``any3prong``."""
    mass = "any" if product.mass is None else re.sub(r"\.0$", "", f"{product.mass:.1f}")
    if product.decay is not None:
        return mass + product.decay
    return mass if product.n_prongs is None else f"{mass}{product.n_prongs}prong"


def _near(stated: Signal, truth: SignalTruth) -> NDArray[np.bool_]:
    """Which events are of the signals nearest to the stated one, shape (N,).

    Signal of unknown truth is as near as any.
    """
    distances = np.array([_distance(stated, one) for one in truth.signals])
    counts = np.bincount(truth.place[truth.place >= 0], minlength=len(distances))
    order = np.argsort(distances, kind="stable")
    enough = np.searchsorted(np.cumsum(counts[order]), _ENOUGH)
    farthest = distances[order[min(int(enough), len(order) - 1)]] if len(order) else 0.0
    is_near = np.append(distances <= farthest, True)  # the last for the place -1
    return np.asarray(is_near[truth.place])


def _distance(stated: Signal, other: Signal) -> float:
    """Distance of two signals in the logarithms of their masses and in their decays.

    The products are compared in the order that makes it smaller.
    """
    first, second = other.products
    return min(
        math.hypot(*(_apart(*pair) for pair in zip(stated.products, order, strict=True)))
        for order in ((first, second), (second, first))
    )


def _apart(stated: Product, other: Product) -> float:
    """Distance of two products; what is not stated counts as equal."""
    of_mass = 0.0
    if stated.mass is not None and other.mass is not None:
        of_mass = math.log(stated.mass / other.mass)
    is_other = stated.n_prongs is not None and stated.n_prongs != other.n_prongs
    return math.hypot(of_mass, _OTHER_DECAY * is_other)
