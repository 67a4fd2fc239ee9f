"""Internal coherence maximisation (ICM, Wen et al., arXiv:2506.10139).

A labelling D is as good as it is mutually predictable and consistent: U(D) = alpha P(D) - I(D),
where P is the mean log-probability of each label after labels of other events, and I counts the
pairs of views of one event with different labels. Simulated annealing looks for the largest U: an
event is drawn, gets the label that the others predict, inconsistencies are mended, and the result
is kept if U rises, or by chance as its temperature allows. A first label is always kept.

Unlike in the paper, an event is predicted from at most ``context`` others, not from all, and all
events of a block from the same ones (``predictions.Contexts``): a change then costs as many
predictions as contexts that it stands in, which share their prefixes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats, Ints, Labels
from hepllm.config import CoherenceConfig
from hepllm.labelling.predictions import BudgetSpentError, Contexts, Predictions
from hepllm.schema import UNKNOWN

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Labelling:
    """Labels of M items and how coherent they are.

    Attributes:
        labels: shape (M,), 1, 0, or -1 where there is none.
        log_odds: shape (M,), of each labelled item after its context; NaN for others.
        mean_log_probability: P, the mean over labelled items of the log-probability of their label.
        inconsistencies: I, pairs of views of one event with different labels.
        utility: alpha P - I.
    """

    labels: Labels
    log_odds: Floats
    mean_log_probability: float
    inconsistencies: int
    utility: float

    @property
    def is_complete(self) -> bool:
        """Whether all items have labels."""
        return bool((self.labels != UNKNOWN).all())


@dataclass(frozen=True, eq=False)
class CoherenceSearch:
    """The search for a coherent labelling of M items.

    Attributes:
        predictions: asks the model, within the budget.
        contexts: from which items each is predicted.
        config: weights and schedule.
        seed: decides initial labels, the order of events and what is accepted by chance.
    """

    predictions: Predictions
    contexts: Contexts
    config: CoherenceConfig
    seed: int

    def run(self) -> Labelling:
        """Searches until a sweep changes nothing, or sweeps or the budget are used up.

        Returns:
            The complete labelling of the largest utility that was met; the last one where none was
            complete.

        Raises:
            BudgetSpentError: not even the initial labels could be measured.
        """
        start = best = present = self.measure(self._initial())
        try:
            for present in self._with_opposite(start):
                if (present.is_complete, present.utility) > (best.is_complete, best.utility):
                    best = present
        except BudgetSpentError:
            LOG.info("the budget of %d predictions is spent", self.predictions.budget)
        # Utilities of labellings of different sizes say nothing about each other.
        return best if best.is_complete else present

    def measure(self, labels: Labels) -> Labelling:
        """Measures the coherence of labels, shape (M,).

        Raises:
            BudgetSpentError: as ``Predictions``.
        """
        items = np.flatnonzero(labels != UNKNOWN)
        log_odds = np.full(len(labels), np.nan)
        log_odds[items] = self.contexts.predict(self.predictions, labels, items)
        signs = 2.0 * labels[items] - 1.0
        mean = float(-np.logaddexp(0.0, -signs * log_odds[items]).mean()) if len(items) else 0.0
        wrong = inconsistencies(self.contexts.event, labels)
        return Labelling(labels, log_odds, mean, wrong, self.config.alpha * mean - wrong)

    def temperature(self, step: int) -> float:
        """Temperature of a step, counted from 1."""
        config = self.config
        falling = config.temperature / (1.0 + config.cooling * math.log(step))
        return max(config.min_temperature, falling)

    def _initial(self) -> Labels:
        """Random labels, as many of each, for random events."""
        events = np.unique(self.contexts.event)
        random = np.random.default_rng([self.seed, 3])
        chosen = random.permutation(events)[: self.config.initial]
        labels = np.full(len(self.contexts.event), UNKNOWN, dtype=np.int8)
        for place, event in enumerate(chosen):
            labels[self.contexts.event == event] = place % 2
        return labels

    def _with_opposite(self, start: Labelling) -> Iterator[Labelling]:
        """Yields the labellings of a search, and of another from the opposite of its end.

        Labels that are all exchanged are nearly as predictable from one another, and the random
        initial labels decide which of the two a search ends with.
        """
        end = start
        for end in self._states(start):
            yield end
        opposite = self.measure(np.where(end.labels == UNKNOWN, UNKNOWN, 1 - end.labels))
        yield opposite
        if opposite.utility > end.utility:
            LOG.info("the opposite labels are more coherent; searching on from them")
            yield from self._states(opposite)

    def _states(self, present: Labelling) -> Iterator[Labelling]:
        """Yields the labelling after each step."""
        n_items, step = len(present.labels), 0
        for sweep in range(self.config.sweeps):
            before = present.labels
            for item in np.random.default_rng([self.seed, 4, sweep]).permutation(n_items).tolist():
                step += 1
                present = self._step(present, item, step)
                yield present
            if np.array_equal(before, present.labels):
                LOG.info("no label changed in sweep %d", sweep + 1)
                return

    def _step(self, present: Labelling, item: int, step: int) -> Labelling:
        """Gives an item the label that the others predict, and decides whether it stays."""
        (log_odds,) = self.contexts.predict(self.predictions, present.labels, np.array([item]))
        label = int(log_odds > 0)
        if present.labels[item] == label:
            return present
        labels = present.labels.copy()
        labels[item] = label
        proposed = self._mended(self.measure(labels), item)
        if np.array_equal(proposed.labels, present.labels):
            return present
        if present.labels[item] == UNKNOWN:  # utilities of different sizes cannot be compared
            return proposed
        gain = proposed.utility - present.utility
        chance = np.random.default_rng([self.seed, 5, step]).random()
        is_accepted = gain > 0 or chance < math.exp(gain / self.temperature(step))
        return proposed if is_accepted else present

    def _mended(self, proposed: Labelling, item: int) -> Labelling:
        """The labelling, or that of the largest utility in which the views of an event agree."""
        views = np.flatnonzero(self.contexts.event == self.contexts.event[item])
        given = proposed.labels[views]
        if len(np.unique(given[given != UNKNOWN])) < 2:
            return proposed
        candidates = [proposed]
        for label in (0, 1):
            labels = proposed.labels.copy()
            labels[views[given != UNKNOWN]] = label
            candidates.append(self.measure(labels))
        return max(candidates, key=lambda one: one.utility)


def inconsistencies(event: Ints, labels: Labels) -> int:
    """Counts pairs of items of one event with different labels.

    Args:
        event: shape (M,), event of each item, from 0.
        labels: shape (M,), -1 where there is none.
    """
    n_events = int(event.max(initial=-1)) + 1
    ones = np.bincount(event[labels == 1], minlength=n_events)
    zeros = np.bincount(event[labels == 0], minlength=n_events)
    return int((ones * zeros).sum())
