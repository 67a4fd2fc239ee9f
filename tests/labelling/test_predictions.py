"""Predictions are asked once and counted, and contexts hold no copy of their targets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hepllm.labelling.predictions import (
    NO_CONTEXT,
    BudgetSpentError,
    Context,
    Contexts,
    Predictions,
    Request,
    as_table,
    from_table,
)

AFTER = Context((1, 2), (0, 1))


def test_equal_predictions_are_asked_once(planted: Callable) -> None:
    model = planted(8)
    predictions = Predictions(model, 10)
    first = predictions([Request(AFTER, (3, 4)), Request(AFTER, (4, 5))])
    again = predictions([Request(AFTER, (5, 3))])
    assert model.n_predicted == predictions.n_used == 3
    assert again[0].tolist() == [first[1][1], first[0][0]]


def test_a_budget_is_never_exceeded(planted: Callable) -> None:
    predictions = Predictions(planted(8), 3)
    predictions([Request(NO_CONTEXT, (0, 1))])
    with pytest.raises(BudgetSpentError, match="2 predictions needed, 1 left"):
        predictions([Request(NO_CONTEXT, (0, 2, 3))])
    assert predictions.n_used == 2


def test_what_is_kept_is_not_asked_again_but_counts(planted: Callable) -> None:
    kept: list = []
    first = Predictions(planted(400), 1000, on_new=kept.extend)
    requests = [Request(NO_CONTEXT, tuple(range(300))), Request(AFTER, (3, 4))]
    before = first(requests)
    model = planted(400)
    second = Predictions(model, 1000, from_table(as_table(kept)))
    after = second(requests)
    assert model.n_predicted == second.n_asked == 0
    assert second.n_used == first.n_used == 302
    assert all(np.array_equal(one, two) for one, two in zip(before, after, strict=True))


def test_contexts_are_of_other_events_one_item_each() -> None:
    event = np.repeat(np.arange(12), 3)
    contexts = Contexts.draw(event, 4, 5, seed=1)
    labels = np.full(36, -1, dtype=np.int8)
    labels[:30] = np.arange(30) % 2
    for block in range(4):
        context = contexts.of(block, labels)
        assert 1 <= len(context.items) <= 5
        shown = event[list(context.items)]
        assert len(set(shown.tolist())) == len(shown)
        assert not set(shown) & set(event[contexts.block == block])
        assert context.labels == tuple(labels[list(context.items)])
    assert all(len(set(contexts.block[event == one])) == 1 for one in range(12))


def test_predictions_come_in_the_order_of_the_items(planted: Callable) -> None:
    model = planted(10, noise=0.0)
    contexts = Contexts.draw(np.arange(10), 3, 4, seed=2)
    labels = model.truth.copy()
    items = np.array([7, 0, 3])
    found = contexts.predict(Predictions(model, 100), labels, items)
    assert (found > 0).tolist() == (model.truth[items] == 1).tolist()
