"""Labelled events that a step shows before the events to classify (``train.examples``).

A model that has only seen events alone repeats, after labelled ones, what it says without them.
Here the labelled events say which signal is meant, in place of a hypothesis in words; each question
has another signal, so what they say cannot be learnt by heart (Min et al., arXiv:2110.15943). Their
number, their share of signal and their share of wrong labels differ from question to question: the
share of signal must not become the answer, and labels deserve trust only as far as they agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Floats, Ints, Labels
from hepllm.config import ExamplesConfig
from hepllm.data.event_table import EventTable
from hepllm.schema import BACKGROUND, SIGNAL


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled events of a step, in the order of its prompts.

    Attributes:
        events: positions in ``TrainingData.train``, shape (E,).
        labels: as they are shown, some of them wrong, shape (E,).
        groups: group of ``Shown`` that each stands before, shape (E,).
    """

    events: Ints
    labels: Labels
    groups: Ints

    def of(self, groups: Ints) -> Examples:
        """Returns those of some groups."""
        mine = np.isin(self.groups, groups)
        return Examples(self.events[mine], self.labels[mine], self.groups[mine])

    @classmethod
    def of_groups(cls, drawn: Mapping[int, tuple[Ints, Labels]]) -> Examples | None:
        """Joins what was drawn for each of some groups; None for no group."""
        if not drawn:
            return None
        events, labels = (np.concatenate(part) for part in zip(*drawn.values(), strict=True))
        return cls(events, labels, np.repeat([*drawn], [len(one) for one, _ in drawn.values()]))


def draw_examples(
    table: EventTable,
    is_signal: Bools,
    targets: Ints,
    config: ExamplesConfig,
    random: np.random.Generator,
) -> tuple[Ints, Labels]:
    """Draws labelled events before the targets of a group, none of which is among them.

    Events are drawn in proportion to their weights; those of a weight of 0 or less are not.

    Args:
        table: N events.
        is_signal: events of the signal that the group is about, shape (N,).
        targets: positions of the group's events.
        config: largest number, and share of wrong labels.
        random: decides all that is drawn.

    Returns:
        Positions of the events, and their labels as they are shown, in the order of the prompt.
    """
    size = int(random.integers(1, config.most + 1))
    labels = (random.random(size) < random.random()).astype(np.int8)
    odds = np.clip(table.weight, 0, None)
    odds[targets] = 0
    events = np.full(size, -1)
    for label, candidates in ((SIGNAL, is_signal), (BACKGROUND, table.label == BACKGROUND)):
        places = np.flatnonzero(labels == label)
        events[places] = _drawn(np.where(candidates, odds, 0), len(places), random)
    is_wrong = random.random(size) < random.uniform(0, config.wrong_share)
    labels = np.where(is_wrong, 1 - labels, labels).astype(np.int8)
    found = events >= 0
    return events[found], labels[found]


def _drawn(odds: Floats, size: int, random: np.random.Generator) -> Ints:
    """Draws different events; -1 where there are no more."""
    (possible,) = np.nonzero(odds)
    chosen = np.full(size, -1)
    n_drawn = min(size, len(possible))
    if n_drawn:
        shares = odds[possible] / odds[possible].sum()
        chosen[:n_drawn] = random.choice(possible, n_drawn, replace=False, p=shares)
    return chosen
