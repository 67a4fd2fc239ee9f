"""Several runs: medians and bands by numpy's percentiles."""

from __future__ import annotations

import numpy as np
import pytest

from hepllm.config import EvaluationConfig
from hepllm.evaluation.assessment import evaluate_scores
from hepllm.evaluation.records import ResultsRecord
from hepllm.evaluation.scores import ScoreTable
from hepllm.evaluation.seeds import spread, spread_over_runs


def results(seed: int, names: tuple[str, ...] = ("llm", "boosting")) -> ResultsRecord:
    generator = np.random.default_rng(seed)
    label = np.repeat([1, 0], [300, 900])

    def table() -> ScoreTable:
        return ScoreTable(label, {n: generator.normal(size=1200) + 1.5 * label for n in names})

    return evaluate_scores(table(), table(), EvaluationConfig(bootstrap=10), 1).record


def test_spread_is_percentiles() -> None:
    found = spread([3.0, 1.0, 2.0, 10.0])
    assert (found.median, found.n_runs, found.lower_bound) == (2.5, 4, None)
    assert [found.low, found.high] == pytest.approx(np.percentile([1, 2, 3, 10], [16, 84]))


def test_a_run_with_a_bound_alone_lies_above_the_others() -> None:
    found = spread([3.0, None, 1.0, 2.0, 10.0], [None, 5.0, None, None, None])
    assert (found.median, found.n_runs) == (3.0, 4)
    assert found.values == (3.0, None, 1.0, 2.0, 10.0)
    assert found.low == pytest.approx(np.percentile([1, 2, 3, 10, 99], 16))
    assert found.high is None
    unknown = spread([None, None, 1.0], [5.0, 4.0, None])
    assert (unknown.median, unknown.lower_bound) == (None, 4.0)
    assert spread([None, None]).median is None


def test_a_run_without_value_or_bound_leaves_the_median_open() -> None:
    assert spread([3.0, None, 1.0]).median is None


def test_runs_are_put_together_by_classifier() -> None:
    made = [results(seed) for seed in range(5)] + [results(9, ("llm", "boosting", "cut"))]
    found = spread_over_runs(made)
    assert list(found) == ["llm", "boosting"]
    values = [one.baselines["boosting"].auc.value for one in made]
    assert found["boosting"]["auc"].median == pytest.approx(np.median(np.array(values, float)))
