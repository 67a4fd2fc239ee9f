"""The combination helps where its parts know different things, and says no where they do not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from hepllm.baselines.stacking import describe_gain, fit_stack
from hepllm.config import EvaluationConfig
from hepllm.evaluation.assessment import evaluate_scores
from hepllm.evaluation.metrics import auc
from hepllm.evaluation.scores import ScoreTable, scored_events

Floats = NDArray[np.float64]


def scores(n_events: int, seed: int, shared: bool) -> tuple[Floats, NDArray[np.int64]]:
    """Two scores with independent noise, or the second a copy of the first with more noise."""
    generator = np.random.default_rng(seed)
    label = np.arange(n_events) % 2
    first = generator.normal(size=n_events) + label
    noise = generator.normal(size=n_events)
    second = first + noise if shared else noise + label
    return np.column_stack([first, second]), label


def gain(shared: bool) -> tuple[str, float]:
    columns, label = scores(3000, 1, shared)
    stack = fit_stack(columns, label, None, 1)
    unseen, truth = scores(6000, 2, shared)
    combined = stack.score(unseen)
    test = ScoreTable(truth, {"llm": unseen[:, 0], "boosting": unseen[:, 1], "stack": combined})
    cuts = ScoreTable(
        label, {"llm": columns[:, 0], "boosting": columns[:, 1], "stack": stack.validation}
    )
    pairs = (("stack", "llm"), ("stack", "boosting"))
    results = evaluate_scores(test, cuts, EvaluationConfig(bootstrap=100), 1, pairs=pairs)
    text = describe_gain({pair: found.auc for pair, found in results.record.contrasts.items()})
    return text, auc(scored_events(combined, truth)).value or 0.0


def test_independent_parts_reach_the_optimum_of_both() -> None:
    text, area = gain(shared=False)
    assert "In this training the combination is better than each part" in text
    assert area == pytest.approx(norm.cdf(1.0), abs=0.012)


def test_a_noisy_copy_adds_nothing() -> None:
    text, area = gain(shared=True)
    assert "shows no gain" in text
    assert area == pytest.approx(norm.cdf(np.sqrt(0.5)), abs=0.015)


def test_validation_scores_come_from_fits_without_the_event() -> None:
    """Noise alone: a fit that had seen the events would separate them a little."""
    generator = np.random.default_rng(1)
    areas = []
    for seed in range(20):
        label = np.arange(40) % 2
        stack = fit_stack(generator.normal(size=(40, 2)), label, np.ones(40), seed)
        areas.append(auc(scored_events(stack.validation, label)).value or 0.0)
    assert np.mean(areas) < 0.54
