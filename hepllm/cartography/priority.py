"""In which order suspicious events are worth a look.

The priority of an event is the weight of its faults plus the doubt of its label:

- faults: the sum of the weights of the broken rules about measurements. Of equal events, all but
  the first are copies, and the rule counts for these alone; where their labels differ, one is
  wrong, and all have another 1. Rules that many events break say something of the dataset.
- doubt: the probability of the other class at the mean of the margins that several methods give,
  each the logit of the label's class minus that of the other. So an ensemble averages logits.

So what cannot be (weight 1) comes before all doubts, and what is only unusual (weight 0.5) is level
with a label that is as likely wrong as right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from hepllm.arrays import Bools, Digests, Floats, Ints, Labels
from hepllm.cartography.flags import RULES
from hepllm.schema import UNKNOWN

OF_LABELS = frozenset({"not_believed", "unlike_neighbours"})
"""Rules about labels, of which margins say more."""

SAME_EVENT = "same_event"


@dataclass(frozen=True, eq=False)
class Copies:
    """Equal events among N.

    Attributes:
        first: row of the first event that is equal, its own where there is none before; (N,).
        is_copy: whether there is an equal event before; (N,).
        has_conflict: whether equal events have both labels; (N,).
    """

    first: Ints
    is_copy: Bools
    has_conflict: Bools


@dataclass(frozen=True, eq=False)
class Priorities:
    """Why N events are worth a look; arrays of shape (N,).

    Attributes:
        faults: sum of weights.
        margin: mean margin of the label; NaN where no method knows the event.
        doubt: probability that the label is wrong, 0 where no method knows the event.
        counted: rules that count, by name: the events whose priority they raise.
        systematic: names of the rules that too many events break.
    """

    faults: Floats
    margin: Floats
    doubt: Floats
    counted: Mapping[str, Bools]
    systematic: tuple[str, ...]

    @property
    def priority(self) -> Floats:
        """Faults plus doubt, shape (N,)."""
        return self.faults + self.doubt

    def review(self, share: float) -> Ints:
        """Rows of the share of events of largest priority, the largest first; of equals the first.

        Events without any fault or doubt are not among them.
        """
        number = int(np.ceil(share * len(self.faults)))
        order = np.argsort(-self.priority, kind="stable")[:number]
        return np.asarray(order[self.priority[order] > 0])


def find_copies(event_digest: Digests, label: Labels) -> Copies:
    """Finds equal events, and those of them whose labels differ; an unknown one does not."""
    _, first, place = np.unique(event_digest, return_index=True, return_inverse=True)
    lowest, highest = (np.full(len(first), fill, dtype=np.int64) for fill in (9, -9))
    is_known = label != UNKNOWN
    np.minimum.at(lowest, place[is_known], label[is_known])
    np.maximum.at(highest, place[is_known], label[is_known])
    rows = first[place]
    return Copies(rows, rows != np.arange(len(rows)), (lowest < highest)[place])


def mean_of_known(values: Sequence[Floats]) -> Floats:
    """Mean over K >= 1 arrays of those values that are not NaN, shape (N,); NaN where all are."""
    total, counts = np.zeros(len(values[0])), np.zeros(len(values[0]), dtype=np.int64)
    for one in values:
        is_known = ~np.isnan(one)
        total[is_known] += one[is_known]
        counts += is_known
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


def prioritise(
    broken: Mapping[str, Bools], copies: Copies, margins: Sequence[Floats], systematic: float
) -> Priorities:
    """Combines what rules and methods found in N events.

    Args:
        broken: events that break each rule of ``flags.RULES`` that was asked, shape (N,) each.
        copies: equal events.
        margins: margins of the labels by each method, shape (N,), NaN where it knows nothing.
        systematic: share of the events from which a broken rule does not count.
    """
    n_events = len(copies.first)
    faults = copies.has_conflict.astype(np.float64)
    counted: dict[str, Bools] = {}
    common = []
    for name, events in broken.items():
        if name in OF_LABELS:
            continue
        mine = events & copies.is_copy if name == SAME_EVENT else events
        if mine.mean() > systematic:
            common.append(name)
            continue
        counted[name] = mine
        faults += RULES[name].weight * mine
    margin = mean_of_known([np.full(n_events, np.nan), *margins])
    doubt = np.where(np.isnan(margin), 0.0, expit(-margin))
    return Priorities(faults, margin, doubt, counted, tuple(common))
