"""Curves of a training show the records of its history."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from hepllm.evaluation.metrics import RocCurve, roc
from hepllm.evaluation.scores import scored_events
from hepllm.pictures.training import (
    group_figure,
    groups,
    history_curve,
    loss_figure,
    validation_figure,
)
from hepllm.pictures.validation import roc_figure, sic_figure

HISTORY = [
    {"step": 1, "train/loss": 0.7, "lora/lr": 1e-4, "nfa/lr": 1e-3},
    {"step": 2, "train/loss": 0.6, "lora/lr": 2e-4, "nfa/lr": 2e-3},
    {"step": 2, "validation/loss": 0.5, "validation/auc": 0.9, "validation/accuracy": 0.8},
    {"step": 3, "train/loss": 0.4, "lora/lr": 1e-4, "nfa/lr": 1e-3},
]


def test_a_scalar_is_read_with_its_steps() -> None:
    assert history_curve(HISTORY, "train/loss") == ([1, 2, 3], [0.7, 0.6, 0.4])
    assert history_curve(HISTORY, "nothing") == ([], [])
    assert groups(HISTORY, "lr") == ["lora", "nfa"]


def test_pictures_show_the_records() -> None:
    training, validation = loss_figure({"a": HISTORY}).axes[0].get_lines()
    assert list(training.get_ydata()) == [0.7, 0.6, 0.4]
    assert list(validation.get_xdata()) == [2]
    rates = group_figure({"a": HISTORY}, "lr", "learning rate").axes[0]
    assert [list(line.get_ydata()) for line in rates.get_lines()] == [
        [1e-4, 2e-4, 1e-4],
        [1e-3, 2e-3, 1e-3],
    ]
    assert rates.get_yscale() == "log"


def test_several_runs_are_named() -> None:
    figure = validation_figure({"a": HISTORY, "b$": HISTORY})
    figure.savefig(io.BytesIO(), format="svg")
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["a: AUC", "a: accuracy", r"b\$: AUC", r"b\$: accuracy"]


def test_a_history_without_validation_is_drawn() -> None:
    for figure in (loss_figure({"a": HISTORY[:1]}), validation_figure({"a": HISTORY[:1]})):
        figure.savefig(io.BytesIO(), format="svg")


@pytest.mark.parametrize("draw", [roc_figure, sic_figure])
def test_few_background_events_leave_a_bound_and_no_gap(
    draw: Callable[[RocCurve, int], Figure],
) -> None:
    label = np.repeat([1, 0], [200, 300])
    score = np.random.default_rng(1).normal(size=500) + 3 * label
    (axes,) = draw(roc(scored_events(score, label)), 10).axes
    bound = axes.get_lines()[1]
    assert np.isfinite(np.array(bound.get_ydata(), dtype=float)).sum() > 10
