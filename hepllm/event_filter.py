"""Event filters written as text, like ``3300 < m_jj < 3700 and tau21_light < 0.5``.

The text is parsed, never evaluated; a filter is a condition of ``hepllm.expressions``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Columns
from hepllm.expressions import Condition, Grammar, names_in
from hepllm.schema import FEATURES


@dataclass(frozen=True)
class EventFilter:
    """A parsed event filter; made by ``parse_event_filter``.

    Attributes:
        text: the filter on one line.
        names: columns that it reads.
        condition: says where it is known to hold and where it is known to fail.
    """

    text: str
    names: tuple[str, ...]
    condition: Condition

    def mask(self, columns: Columns) -> Bools:
        """The events that are known to pass, shape (N,).

        A comparison with a missing value (NaN) is unknown, and so is its ``not``; ``or`` with a
        true condition is true (Kleene's three-valued logic).
        """
        length = len(next(iter(columns.values())))
        with np.errstate(all="ignore"):
            passes = self.condition(columns).yes
        return np.array(np.broadcast_to(passes, (length,)))


def parse_event_filter(
    text: str, columns: Collection[str] | None = None, own: Collection[str] = ()
) -> EventFilter:
    """Parses an event filter and checks every name in it.

    Args:
        text: the filter.
        columns: names that it may contain; None for those of features.
        own: further names, of new variables and observers.

    Raises:
        InputError: names the first part that is not valid, and the nearest valid name.
    """
    known = {*(FEATURES if columns is None else columns), *own}
    kind = "feature" if columns is None else "column"
    grammar = Grammar(
        " ".join(text.split()), known, kind, "event filter", "condition", "3300 < m_jj < 3700"
    )
    try:
        tree = grammar.tree()
        condition = grammar.condition(tree)
    except RecursionError:
        raise grammar.error("not a valid condition: too deeply nested") from None
    return EventFilter(grammar.text, names_in(tree, known), condition)
