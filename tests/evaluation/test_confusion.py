"""Confusion table and threshold choice against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
)

from hepllm.evaluation.confusion import choose_balanced_accuracy, choose_eps_s, confusion
from hepllm.evaluation.metrics import roc
from hepllm.evaluation.scores import scored_events


@given(st.integers(0, 10_000), st.sampled_from([-0.5, 0.0, 0.4]))
def test_table_agrees_with_scikit_learn(seed: int, threshold: float) -> None:
    generator = np.random.default_rng(seed)
    label = np.arange(60) % 3 // 2
    score = np.round(generator.normal(size=60) + label, 1)
    weight = generator.uniform(0.5, 2, 60)
    table = confusion(scored_events(score, label, weight), threshold)
    called = (score >= threshold).astype(int)
    (tn, fp), (fn, tp) = confusion_matrix(label, called, sample_weight=weight)
    assert list(table.tree().values()) == pytest.approx([tp, fn, fp, tn])
    given_weight = {"sample_weight": weight}
    assert table.accuracy == pytest.approx(accuracy_score(label, called, **given_weight))
    assert table.recall == pytest.approx(recall_score(label, called, **given_weight))
    assert table.balanced_accuracy == pytest.approx(
        balanced_accuracy_score(label, called, **given_weight)
    )
    if called.any():
        assert table.precision == pytest.approx(precision_score(label, called, **given_weight))
        assert table.f1 == pytest.approx(f1_score(label, called, **given_weight))


def test_nothing_selected_has_no_precision() -> None:
    table = confusion(scored_events([0.0, 1.0], [0, 1]), 2.0)
    assert table.precision is None
    assert table.f1 == 0.0
    assert table.accuracy == 0.5


def test_no_signal_has_no_recall_but_an_accuracy() -> None:
    table = confusion(scored_events([0.0, 1.0], [0, 0]), 0.5)
    assert table.recall is None
    assert table.balanced_accuracy is None
    assert table.accuracy == 0.5


@given(st.integers(0, 10_000))
def test_chosen_cut_has_the_largest_balanced_accuracy(seed: int) -> None:
    generator = np.random.default_rng(seed)
    label = np.arange(80) % 4 // 3
    events = scored_events(np.round(generator.normal(size=80) + label, 1), label)
    cut = choose_balanced_accuracy(roc(events)).value
    assert cut is not None
    best = confusion(events, cut).balanced_accuracy
    every = [confusion(events, value).balanced_accuracy for value in np.unique(events.score)]
    assert best == pytest.approx(max(value for value in every if value is not None))


def test_stated_efficiency_is_reached_by_the_tightest_cut() -> None:
    label = np.repeat([1, 0], 10)
    events = scored_events(np.concatenate([np.arange(10), np.arange(10) - 5]), label)
    assert choose_eps_s(roc(events), 0.3).value == 7
    assert choose_eps_s(roc(events), 0.31).value == 6
    assert choose_eps_s(roc(events), 1.0).value == 0


def test_missing_class_gives_the_reason() -> None:
    curve = roc(scored_events([0.0, 1.0], [1, 1]))
    for cut in (choose_balanced_accuracy(curve), choose_eps_s(curve, 0.3)):
        assert cut.value is None
        assert cut.reason == "validation data: no background events"
