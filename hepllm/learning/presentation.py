"""Which events each step shows, and under which hypothesis, as pure functions of step and seed.

A signal event is shown under its own hypothesis. The background is shared out among the hypotheses
in proportion to their signal, so that a hypothesis alone says nothing about the class. Events that
share a hypothesis stand together, because their words are then encoded once (``model.packing``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Bools, Floats, Ints
from hepllm.config import HypothesisConfig, TrainConfig
from hepllm.data.event_table import EventTable
from hepllm.data.signal_truth import SignalTruth
from hepllm.hypotheses.hypothesis import OPEN, Hypothesis, parse_hypothesis
from hepllm.hypotheses.phrases import EXACT, Vagueness, phrase
from hepllm.hypotheses.signal import Signal
from hepllm.learning.curriculum import Curriculum
from hepllm.learning.examples import Examples, draw_examples
from hepllm.learning.schedule import batch_of_step, count_steps
from hepllm.schema import SIGNAL

Hypotheses = NDArray[np.object_]
"""One ``Hypothesis`` per event, shape (N,)."""

_OPEN = -1
"""Place of the open hypothesis among the signals of a truth."""

_ORDER, _WORDS, _MEASURED, _EXAMPLES = 1, 71, 72, 75
"""Streams of random numbers, beside those of other modules."""


@dataclass(frozen=True, eq=False)
class Shown:
    """B events of a step, those of one hypothesis one after another.

    Attributes:
        events: positions in ``TrainingData.train``, shape (B,).
        groups: number of the hypothesis of each event, shape (B,); rises where the next begins.
            None where all events are shown without one.
        hypothesis: what each event is shown with, shape (B,); None: the open one for all.
        is_wrong: signal events that are shown with another's hypothesis, as background, shape (B,).
        examples: labelled events before those of some groups; None without.
    """

    events: Ints
    groups: Ints | None = None
    hypothesis: Hypotheses | None = None
    is_wrong: Bools | None = None
    examples: Examples | None = None

    def __len__(self) -> int:
        return len(self.events)

    def take(self, part: slice) -> Shown:
        """Returns some of them, with all examples of their groups."""
        groups = None if self.groups is None else self.groups[part]
        return Shown(
            self.events[part],
            groups,
            None if self.hypothesis is None else self.hypothesis[part],
            None if self.is_wrong is None else self.is_wrong[part],
            None if self.examples is None or groups is None else self.examples.of(groups),
        )

    def share(self, rank: int, n_processes: int) -> slice:
        """Returns the part of one of several processes.

        A hypothesis is divided only where shares would differ by more than half of one.
        """
        n_events = len(self)
        edges = np.linspace(0, n_events, n_processes + 1)
        if self.groups is not None:
            ends = np.array([0, *(np.flatnonzero(np.diff(self.groups)) + 1), n_events])
            nearest = ends[np.abs(ends[:, np.newaxis] - edges).argmin(axis=0)]
            is_near = np.abs(nearest - edges) < n_events / n_processes / 2
            edges = np.where(is_near, nearest, edges)
        start, stop = np.ceil(edges[rank : rank + 2]).astype(int)
        return slice(int(start), int(stop))

    def micro_batches(self, size: int) -> list[slice]:
        """Divides them into parts of at most ``size``, and no hypothesis unless it is larger."""
        n_events = len(self)
        if self.groups is None:
            return [slice(i, min(i + size, n_events)) for i in range(0, n_events, size)]
        ends = [*(np.flatnonzero(np.diff(self.groups)) + 1).tolist(), n_events]
        parts, start, stop = [], 0, 0
        for end in ends:
            if end - start > size and stop > start:
                parts.append(slice(start, stop))
                start = stop
            while end - start > size:
                parts.append(slice(start, start + size))
                start += size
            stop = end
        return [*parts, slice(start, n_events)] if n_events > start else parts


@dataclass(frozen=True, eq=False)
class _Order:
    """The events of an epoch in the order in which they are shown.

    Attributes:
        events: positions of the events, shape (N,).
        group: number of the group of each, shape (N,); a group shares one hypothesis.
        signal: place of each event's hypothesis in the truth, or ``_OPEN``, shape (N,).
        is_wrong: as in ``Shown``, shape (N,).
    """

    events: Ints
    group: Ints
    signal: Ints
    is_wrong: Bools


@dataclass(frozen=True, eq=False)
class Presentation:
    """How the training events are shown.

    Attributes:
        table: N events.
        config: batch size and epochs.
        seed: seed of the training.
        truth: true signals of the events; None: events are shown without hypotheses.
        rank: ranks of the events for a curriculum, shape (N,); None without.
    """

    table: EventTable
    config: TrainConfig
    seed: int
    truth: SignalTruth | None = None
    rank: Floats | None = None

    @property
    def batch_size(self) -> int:
        """Events per step."""
        return min(self.config.batch_size, len(self.table))

    def step(self, step: int) -> Shown:
        """Returns the events of a step: a slice of the order of its epoch.

        A last, smaller batch of an epoch is left out. The order differs in the next epoch, so no
        event is left out in all of them. ``step`` counts the steps done in all epochs.
        """
        size, n_events = self.batch_size, len(self.table)
        if self.truth is None:
            chosen = None
            if self.curriculum is not None:
                chosen = self.curriculum.batch(step, size, self.seed)
            if chosen is None:
                chosen = batch_of_step(step, n_events, self.config, self.seed)
            return Shown(chosen)
        epoch, place = divmod(step, n_events // size)
        batch, found = slice(place * size, (place + 1) * size), self._order(epoch, self.truth)
        groups, signals = found.group[batch], found.signal[batch]
        hypothesis = self._hypotheses(self.truth, epoch, groups, signals)
        return Shown(
            events=found.events[batch],
            groups=groups,
            hypothesis=hypothesis,
            is_wrong=found.is_wrong[batch],
            examples=self._examples(self.truth, epoch, found, batch, hypothesis),
        )

    @cached_property
    def curriculum(self) -> Curriculum | None:
        """What the first steps choose from; None for all events in turn."""
        if self.rank is None:
            return None
        by_map = self.config.by_map
        n_steps = round(by_map.curriculum_share * count_steps(len(self.table), self.config))
        return Curriculum(self.rank, by_map.curriculum_start, n_steps)

    def _hypotheses(
        self, truth: SignalTruth, epoch: int, groups: Ints, signals: Ints
    ) -> Hypotheses:
        """Words the hypothesis of each event, once for each group, shape (B,)."""
        hypotheses = np.empty(len(groups), dtype=object)
        vagueness = Vagueness(all=0, rounding=self.config.hypothesis.rounded_share)
        for group in np.unique(groups):
            mine = groups == group
            place = int(signals[mine][0])
            if place == _OPEN:
                hypotheses[mine] = OPEN
                continue
            words = [self.seed, _WORDS, epoch, int(group)]
            hypotheses[mine] = _worded(truth.signals[place], vagueness, words)
        return hypotheses

    def _examples(
        self, truth: SignalTruth, epoch: int, order: _Order, batch: slice, hypothesis: Hypotheses
    ) -> Examples | None:
        """Draws the examples of the groups that have some, and opens the hypotheses of most."""
        config = self.config.examples
        if not config.most:
            return None
        drawn = {}
        for group in np.unique(order.group[batch]).tolist():
            mine = order.group == group
            place = int(order.signal[mine][0])
            random = np.random.default_rng([self.seed, _EXAMPLES, epoch, group])
            if place == _OPEN or random.random() >= config.share:
                continue
            if random.random() >= config.stated_share:
                hypothesis[mine[batch]] = OPEN
            is_signal = (self.table.label == SIGNAL) & (truth.place == place)
            targets = order.events[mine]  # also those of a next batch
            drawn[group] = draw_examples(self.table, is_signal, targets, config, random)
        return Examples.of_groups(drawn)

    def _order(self, epoch: int, truth: SignalTruth) -> _Order:
        """The order of an epoch; the last one is kept, since all of its steps need it."""
        kept = self._kept
        if epoch not in kept:
            kept.clear()
            random = np.random.default_rng([self.seed, _ORDER, epoch])
            kept[epoch] = _arrange(
                self.table, truth, self.config.hypothesis, self.batch_size, random
            )
        return kept[epoch]

    @cached_property
    def _kept(self) -> dict[int, _Order]:
        return {}


def assign_own(table: EventTable, truth: SignalTruth, seed: int = 0) -> Hypotheses:
    """Gives each event one hypothesis to measure with: signal its own, background a drawn one.

    Each signal has one phrasing, so that few hypotheses are encoded. Signal of unknown truth, and
    its share of the background, has the open one.

    Args:
        table: N events.
        truth: their true signals.
        seed: decides the phrasings, and which background goes with which signal.

    Returns:
        Shape (N,).
    """
    random = np.random.default_rng([seed, _MEASURED])
    places = np.where(table.label == SIGNAL, truth.place, _OPEN)
    shared = _share_out(places, table, random)
    hypotheses = np.empty(len(table), dtype=object)
    for place in np.unique(shared):
        hypotheses[shared == place] = (
            OPEN
            if place == _OPEN
            else _worded(truth.signals[place], EXACT, [seed, _MEASURED, int(place)])
        )
    return hypotheses


def _worded(signal: Signal, vagueness: Vagueness, seed: Sequence[int]) -> Hypothesis:
    """Words a hypothesis, on the same road as a text of a user."""
    return parse_hypothesis(phrase(signal, np.random.default_rng(seed), vagueness=vagueness))


def _arrange(
    table: EventTable,
    truth: SignalTruth,
    config: HypothesisConfig,
    batch_size: int,
    random: np.random.Generator,
) -> _Order:
    is_signal = table.label == SIGNAL
    places = np.where(is_signal, truth.place, _OPEN)
    places[random.random(len(table)) < config.open_share] = _OPEN
    is_wrong = is_signal & (places != _OPEN) & (random.random(len(table)) < config.wrong_share)
    is_wrong &= len(np.unique(places[places != _OPEN])) > 1  # else there is no other
    shared = _share_out(places, table, random, is_wrong)
    return _grouped(shared, is_signal & ~is_wrong, is_wrong, batch_size / config.per_batch, random)


def _share_out(
    places: Ints,
    table: EventTable,
    random: np.random.Generator,
    is_wrong: Bools | None = None,
) -> Ints:
    """Returns the place of each event's hypothesis, shape (N,), for signal that of ``places``.

    The weight of the background of each hypothesis is its share of the weight of the signal.
    Signal events that are wrong have the place of another one.
    """
    is_signal = table.label == SIGNAL
    wrong = np.zeros(len(table), dtype=np.bool_) if is_wrong is None else is_wrong
    shared = places.copy()
    bins, index = np.unique(places[is_signal], return_inverse=True)
    if not len(bins):
        return shared
    weight = np.clip(table.weight, 0, None)
    all_shares, shares = (
        _positive(np.bincount(index, weight[is_signal] * counts).astype(np.float64))
        for counts in (np.ones(len(index)), ~wrong[is_signal])
    )
    background = random.permutation(np.flatnonzero(~is_signal))
    total = np.cumsum(weight[background])
    # In a random order, so that rounding favours no hypothesis.
    order = random.permutation(len(bins))
    ends = np.cumsum(shares[order]) / shares.sum() * weight[background].sum()
    found = np.searchsorted(ends, total - weight[background] / 2)
    shared[background] = bins[order[np.minimum(found, len(bins) - 1)]]
    for event in np.flatnonzero(wrong):
        others = np.flatnonzero((bins != places[event]) & (bins != _OPEN))
        odds = _positive(all_shares[others])
        shared[event] = bins[random.choice(others, p=odds / odds.sum())]
    return shared


def _positive(shares: Floats) -> Floats:
    """The shares of signals; equal ones where their weights do not sum to a positive number."""
    return shares if shares.sum() > 0 else np.ones_like(shares)


def _grouped(
    shared: Ints, is_right: Bools, is_wrong: Bools, size: float, random: np.random.Generator
) -> _Order:
    """Divides the events of each hypothesis into groups of about ``size``, in a random order.

    The right signal and the other events are each spread evenly over the groups of a hypothesis.
    """
    bins, index = np.unique(shared, return_inverse=True)
    n_groups = np.maximum(1, np.ceil(np.bincount(index) / size)).astype(np.int64)
    first = np.cumsum(n_groups) - n_groups
    group = np.empty(len(shared), dtype=np.int64)
    for members in (np.flatnonzero(is_right), np.flatnonzero(~is_right)):
        mixed = random.permutation(members)
        mixed = mixed[np.argsort(index[mixed], kind="stable")]
        mine = index[mixed]
        counts = np.bincount(mine, minlength=len(bins))
        rank = np.arange(len(mine)) - (np.cumsum(counts) - counts)[mine]
        # A random offset, so that classes with fewer events than groups are not in the first ones.
        offset = random.random(len(bins))[mine]
        group[mixed] = first[mine] + np.floor((rank + offset) * n_groups[mine] / counts[mine])
    group = random.permutation(n_groups.sum())[group]
    order = np.lexsort((random.random(len(shared)), group))
    return _Order(order, group[order], shared[order], is_wrong[order])
