"""Tuples of labelled events and a target, each predicted once for the soft labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Floats, Ints
from hepllm.labelling.predictions import Context, Predictions, Request


@dataclass(frozen=True, eq=False)
class Tuples:
    """M predictions of N events after C contexts.

    Attributes:
        context: shape (M,), number of the context.
        target: shape (M,), event that is predicted.
        log_odds: shape (M,), the prediction.
        event: shape (K,), events that stand in contexts.
        label: shape (K,), the labels that they have there.
        row: shape (K,), contexts that they stand in.
        n_events: N.
    """

    context: Ints
    target: Ints
    log_odds: Floats
    event: Ints
    label: Ints
    row: Ints
    n_events: int

    def __len__(self) -> int:
        return len(self.target)

    @property
    def n_contexts(self) -> int:
        """C."""
        return int(self.row.max(initial=-1)) + 1

    def take(self, chosen: Bools) -> Tuples:
        """The predictions of a mask of shape (M,), with all contexts."""
        return Tuples(
            self.context[chosen],
            self.target[chosen],
            self.log_odds[chosen],
            self.event,
            self.label,
            self.row,
            self.n_events,
        )


def join_tuples(several: Sequence[Tuples]) -> Tuples:
    """All predictions of several sets of the same events."""
    starts = np.cumsum([0, *(one.n_contexts for one in several[:-1])])
    pairs = list(zip(several, starts, strict=True))
    return Tuples(
        np.concatenate([one.context + start for one, start in pairs]),
        np.concatenate([one.target for one in several]),
        np.concatenate([one.log_odds for one in several]),
        np.concatenate([one.event for one in several]),
        np.concatenate([one.label for one in several]),
        np.concatenate([one.row + start for one, start in pairs]),
        several[0].n_events,
    )


def predict_tuples(
    predictions: Predictions,
    event: Ints,
    probability: Floats,
    n_tuples: int,
    *,
    size: int,
    per_context: int,
    seed: Sequence[int],
) -> Tuples:
    """Draws contexts and targets, and predicts them.

    Events of a context are drawn evenly, with labels by their present probabilities. Targets are
    drawn by the entropy of theirs, so that uncertain events get more; a tenth of the draws is even.

    Args:
        predictions: asks the model.
        event: shape (I,), event of each item; a target is predicted from any of its views.
        probability: shape (N,), present probabilities of signal.
        n_tuples: about how many predictions.
        size: events of a context.
        per_context: targets of a context, which share its encoding.
        seed: seed of all draws.

    Raises:
        BudgetSpentError: as ``Predictions``.
    """
    random = np.random.default_rng(list(seed))
    n_events = len(probability)
    size = min(size, n_events - 2)
    per_context = min(per_context, n_events - size)
    clipped = np.clip(probability, 1e-6, 1 - 1e-6)
    entropy = -(clipped * np.log(clipped) + (1 - clipped) * np.log1p(-clipped))
    share = 0.9 * entropy / entropy.sum() + 0.1 / n_events
    views = [np.flatnonzero(event == one) for one in range(n_events)]
    requests, shown, labels, targets = [], [], [], []
    for _ in range(max(1, round(n_tuples / per_context))):
        chosen = random.choice(n_events, size, replace=False)
        given = (random.random(size) < probability[chosen]).astype(np.int64)
        left = share.copy()
        left[chosen] = 0
        asked = random.choice(n_events, per_context, replace=False, p=left / left.sum())
        items = tuple(int(random.choice(views[one])) for one in chosen)
        wanted = tuple(int(random.choice(views[one])) for one in asked)
        requests.append(Request(Context(items, tuple(given.tolist())), wanted))
        shown.append(chosen)
        labels.append(given)
        targets.append(asked)
    found = predictions(requests)
    n_contexts = len(requests)
    return Tuples(
        np.repeat(np.arange(n_contexts), per_context),
        np.concatenate(targets),
        np.concatenate(found),
        np.concatenate(shown),
        np.concatenate(labels),
        np.repeat(np.arange(n_contexts), size),
        n_events,
    )
