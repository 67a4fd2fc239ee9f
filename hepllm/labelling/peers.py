"""Simpler ways to label events with the same predictions, to which a search is compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.cluster import KMeans

from hepllm.arrays import Floats, Ints, Labels
from hepllm.labelling.predictions import (
    NO_CONTEXT,
    BudgetSpentError,
    Context,
    Contexts,
    Predictions,
    Request,
)
from hepllm.schema import feature_of


def zero_shot(predictions: Predictions, n_items: int) -> Floats:
    """Log-odds of all items without any labelled event, shape (M,); M predictions."""
    (found,) = predictions([Request(NO_CONTEXT, tuple(range(n_items)))])
    return found


def few_shot(predictions: Predictions, event: Ints, size: int, seed: int) -> Floats:
    """Mean log-odds after events with random labels, shape (M,).

    As many contexts as the budget allows are drawn, each with as many labels 1 as 0; items of their
    events are left out of their targets.

    Args:
        predictions: asks the model.
        event: shape (M,), event of each item.
        size: items of a context.
        seed: seed of events and labels.

    Raises:
        BudgetSpentError: an item is in no context's targets.
    """
    random = np.random.default_rng([seed, 6])
    sums, counts = np.zeros(len(event)), np.zeros(len(event))
    n_events = len(np.unique(event))
    size = min(size, n_events // 2)
    while predictions.left >= len(event) or not counts.all():
        chosen = random.choice(np.unique(event), size, replace=False)
        items = tuple(int(random.choice(np.flatnonzero(event == one))) for one in chosen)
        labels = tuple(random.permutation(np.arange(size) % 2).tolist())
        targets = np.flatnonzero(~np.isin(event, chosen))
        request = Request(Context(items, labels), tuple(targets.tolist()))
        (found,) = predictions([request])
        sums[targets] += found
        counts[targets] += 1
    return np.asarray(sums / counts)


def iterated(
    predictions: Predictions, contexts: Contexts, start: Floats, rounds: int, prior: float | None
) -> Floats:
    """Log-odds after labels of the round before, until they repeat; shape (M,).

    After each round the views of an event get the label of their mean log-odds.

    Args:
        predictions: asks the model.
        contexts: from which items each is predicted.
        start: log-odds of the items, shape (M,), that the first labels follow from.
        rounds: most rounds; fewer where the budget ends.
        prior: as for ``cut``.
    """
    log_odds, labels = start, agreed(start, contexts.event, prior)
    everything = np.arange(len(start))
    for _ in range(rounds):
        try:
            log_odds = contexts.predict(predictions, labels, everything)
        except BudgetSpentError:
            break
        found = agreed(log_odds, contexts.event, prior)
        if np.array_equal(found, labels):
            break
        labels = found
    return log_odds


def k_means(numbers: Floats, names: Sequence[str], zero_shot_odds: Floats, seed: int) -> Floats:
    """Distance to the centre of one cluster minus that to the other, shape (N,).

    The features are transformed as the registry says and standardised. The cluster whose events
    have the larger mean log-odds is called signal.

    Args:
        numbers: shape (N, F); a missing value becomes the mean of its feature, and features that
            no event has are left out.
        names: the F features.
        zero_shot_odds: shape (N,), log-odds of the events without labelled ones.
        seed: seed of the centres.
    """
    columns = numbers.copy()
    for place, name in enumerate(names):
        if feature_of(name).transform == "log":
            columns[:, place] = np.log1p(np.maximum(columns[:, place], 0.0))
    columns = columns[:, ~np.isnan(columns).all(axis=0)]
    mean, spread = np.nanmean(columns, axis=0), np.nanstd(columns, axis=0)
    scaled = np.nan_to_num((columns - mean) / np.where(spread > 0, spread, 1.0))
    fitted = KMeans(2, n_init=10, random_state=seed).fit(scaled)
    distance = fitted.transform(scaled)
    nearer_first = distance[:, 1] - distance[:, 0]
    in_first = nearer_first > 0
    if not in_first.any() or in_first.all():
        return np.asarray(nearer_first)
    first_is_signal = zero_shot_odds[in_first].mean() >= zero_shot_odds[~in_first].mean()
    return np.asarray(nearer_first if first_is_signal else -nearer_first)


def agreed(log_odds: Floats, event: Ints, prior: float | None) -> Labels:
    """Labels of M items, the same for all views of an event: those of their mean log-odds."""
    means = mean_by_event(log_odds, event)
    return cut(means, prior)[event]


def mean_by_event(values: Floats, event: Ints) -> Floats:
    """Mean over the items of each event, shape (N,); NaN where none has a value."""
    known = np.isfinite(values)
    n_events = int(event.max(initial=-1)) + 1
    sums = np.bincount(event[known], values[known], minlength=n_events)
    counts = np.bincount(event[known], minlength=n_events)
    return np.asarray(np.divide(sums, counts, out=np.full(n_events, np.nan), where=counts > 0))


def cut(log_odds: Floats, prior: float | None) -> Labels:
    """Labels 1 above a threshold, shape (N,): 0, or the one that the share ``prior`` exceeds."""
    threshold = 0.0 if prior is None else float(np.quantile(log_odds, 1.0 - prior))
    return (log_odds > threshold).astype(np.int8)
