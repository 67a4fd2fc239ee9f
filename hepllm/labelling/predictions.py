"""Predictions of one event from the labels of others: asked once, counted, kept.

All methods ask for log P(signal) / P(background) of a target after labelled events. Equal requests
are answered from memory, and what an earlier, unfinished run has kept is used again. So a method
needs no state of its own to be resumed: it runs from its seed, and costs only what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from hepllm.arrays import Floats, Ints, Labels
from hepllm.errors import HepllmError


class Context(NamedTuple):
    """Labelled items before a target, in the order of the prompt."""

    items: tuple[int, ...]
    labels: tuple[int, ...]


NO_CONTEXT = Context((), ())


class Request(NamedTuple):
    """Targets that are predicted after one context."""

    context: Context
    targets: tuple[int, ...]


class LabelModel(Protocol):
    """What predicts labels: a model on this machine, a server, or a planted rule in tests."""

    def log_odds(self, requests: Sequence[Request]) -> list[Floats]:
        """Returns log P(1) / P(0) of the targets of each request."""

    def check_fit(self, size: int) -> None:
        """Raises ``InputError`` if a prompt of ``size`` labelled items may not fit."""


class BudgetSpentError(HepllmError):
    """The next request needs more predictions than are left; methods end with what they have."""


Key = tuple[Context, int]


@dataclass
class Predictions:
    """Asks a model, counts what it predicts, and keeps the answers.

    Attributes:
        model: the model.
        budget: most predictions.
        known: answers of an earlier run; one that is used counts as if it were asked now.
        on_new: called with new answers, to keep and to tell them.
        n_used: predictions so far, each of them counted once.
        n_asked: those that the model had to make in this run.
    """

    model: LabelModel
    budget: int
    known: Mapping[Key, float] = field(default_factory=dict)
    on_new: Callable[[Sequence[tuple[Key, float]]], None] = lambda _: None
    n_used: int = 0
    n_asked: int = 0

    def __post_init__(self) -> None:
        """Starts with nothing used."""
        self._used: dict[Key, float] = {}

    @property
    def left(self) -> int:
        """Predictions that are left."""
        return self.budget - self.n_used

    def answers(self) -> dict[Key, float]:
        """All predictions that were used so far."""
        return dict(self._used)

    def __call__(self, requests: Sequence[Request]) -> list[Floats]:
        """Returns the log-odds of the targets of each request.

        Raises:
            BudgetSpentError: the requests need more predictions than are left.
        """
        keys = list(
            dict.fromkeys(
                (request.context, target)
                for request in requests
                for target in request.targets
                if (request.context, target) not in self._used
            )
        )
        if len(keys) > self.left:
            raise BudgetSpentError(f"{len(keys)} predictions needed, {self.left} left")
        self._answer(keys)
        return [
            np.array([self._used[request.context, target] for target in request.targets])
            for request in requests
        ]

    def _answer(self, keys: Sequence[Key]) -> None:
        missing: dict[Context, list[int]] = {}
        for key in keys:
            if key in self.known:
                self._used[key] = self.known[key]
            else:
                missing.setdefault(key[0], []).append(key[1])
        for asked in _parts(missing):
            new = [
                ((request.context, target), float(value))
                for request, values in zip(asked, self.model.log_odds(asked), strict=True)
                for target, value in zip(request.targets, values, strict=True)
            ]
            self._used |= dict(new)
            self.n_asked += len(new)
            self.on_new(new)
        self.n_used += len(keys)


_AT_ONCE = 128
"""Predictions of which nothing is kept if the command is stopped meanwhile."""


def _parts(missing: Mapping[Context, list[int]]) -> Iterator[list[Request]]:
    """Divides requests into parts of some predictions; one context is as undivided as can be."""
    part: list[Request] = []
    n_targets = 0
    for context, targets in missing.items():
        for start in range(0, len(targets), _AT_ONCE):
            some = tuple(targets[start : start + _AT_ONCE])
            if n_targets and n_targets + len(some) > _AT_ONCE:
                yield part
                part, n_targets = [], 0
            part.append(Request(context, some))
            n_targets += len(some)
    if part:
        yield part


_SCHEMA = pa.schema(
    [
        pa.field("items", pa.list_(pa.int32())),
        pa.field("labels", pa.list_(pa.int8())),
        pa.field("target", pa.int32()),
        pa.field("log_odds", pa.float64()),
    ]
)


def as_table(answers: Sequence[tuple[Key, float]]) -> pa.Table:
    """Answers as a table, to be kept."""
    columns = [
        [list(key[0].items) for key, _ in answers],
        [list(key[0].labels) for key, _ in answers],
        [key[1] for key, _ in answers],
        [value for _, value in answers],
    ]
    return pa.table(columns, schema=_SCHEMA)


def from_table(table: pa.Table) -> dict[Key, float]:
    """Answers from a table of ``as_table``."""
    rows = (table[name].to_pylist() for name in ("items", "labels", "target", "log_odds"))
    return {
        (Context(tuple(items), tuple(labels)), target): value
        for items, labels, target, value in zip(*rows, strict=True)
    }


@dataclass(frozen=True, eq=False)
class Contexts:
    """From which labelled items each item is predicted.

    The events are divided into blocks. All items of a block have the same context, the first
    labelled ones in a random order of the events outside; so a context is encoded once for a block,
    and no event is predicted from a copy of itself.

    Attributes:
        event: shape (M,), event of each item.
        block: shape (M,), block of each item.
        order: for each block, items outside, one for each event, in their order.
        size: most items of a context.
    """

    event: Ints
    block: Ints
    order: tuple[Ints, ...]
    size: int

    @classmethod
    def draw(cls, event: Ints, n_blocks: int, size: int, seed: int) -> Contexts:
        """Draws blocks and orders; the arguments are those of the class."""
        random = np.random.default_rng([seed, 2])
        events = np.unique(event)
        n_blocks = min(n_blocks, len(events))
        places = random.permutation(len(events)) % n_blocks
        block = places[np.searchsorted(events, event)]
        orders = []
        for number in range(n_blocks):
            mixed = random.permutation(np.flatnonzero(block != number))
            _, first = np.unique(event[mixed], return_index=True)
            orders.append(mixed[np.sort(first)])
        return cls(event, block, tuple(orders), size)

    def of(self, block: int, labels: Labels) -> Context:
        """The context of a block, for labels (M,) with -1 for unlabelled items."""
        order = self.order[block]
        chosen = order[labels[order] >= 0][: self.size]
        return Context(tuple(chosen.tolist()), tuple(labels[chosen].tolist()))

    def requests(self, labels: Labels, items: Ints) -> list[tuple[Ints, Request]]:
        """Requests for some items, each with the places of its targets among them."""
        blocks = self.block[items]
        found = []
        for number in np.unique(blocks).tolist():
            places = np.flatnonzero(blocks == number)
            context = self.of(number, labels)
            found.append((places, Request(context, tuple(items[places].tolist()))))
        return found

    def predict(self, predictions: Predictions, labels: Labels, items: Ints) -> Floats:
        """Log-odds of some items after their contexts, in their order."""
        asked = self.requests(labels, items)
        found = np.empty(len(items))
        for (places, _), values in zip(
            asked, predictions([request for _, request in asked]), strict=True
        ):
            found[places] = values
        return found
