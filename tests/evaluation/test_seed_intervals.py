"""Intervals over trainings: limiting cases by Student's t and by the bootstrap alone, coverage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from hepllm.config import EvaluationConfig
from hepllm.errors import InputError
from hepllm.evaluation.assessment import evaluate_scores
from hepllm.evaluation.scores import ScoreTable
from hepllm.evaluation.seed_intervals import OverRuns, RunScores, compare_seeds, estimate_mean
from hepllm.evaluation.seeds import METRICS, SeedEstimate

CONFIG = EvaluationConfig(bootstrap=100)
LABEL = np.repeat([1, 0], [200, 600])
EVENTS = np.random.default_rng(1).normal(size=(2, 800))
"""Two features of the events; the second does not tell the classes apart."""


def run(seed: int, noise: float, names: tuple[str, ...] = ("llm", "boosting")) -> RunScores:
    """A training whose classifiers look at the useless feature by chance."""
    generator = np.random.default_rng(seed)
    useful, useless = EVENTS[0] + 1.8 * LABEL, EVENTS[1]
    scores = {name: useful + noise * generator.normal() * useless for name in names}
    table = ScoreTable(LABEL, scores, {"permuted": generator.permutation(useful)})
    made = evaluate_scores(table, replace(table, ablations={}), CONFIG, 1)
    return RunScores(made, np.arange(800, dtype=np.uint64))


def estimate(plus: OverRuns, minus: OverRuns | None = None, seed: int = 1) -> SeedEstimate:
    return estimate_mean(plus, minus, 0.95, 0.05, generator=np.random.default_rng(seed))


def test_without_variance_of_events_the_interval_is_that_of_student() -> None:
    values = np.array([0.96, 0.97, 0.975, 0.99, 0.965])
    found = estimate(OverRuns(values, np.tile(values, (4000, 1))))
    half = student.ppf(0.975, 4) * values.std(ddof=1) / np.sqrt(5)
    assert found.estimate == pytest.approx(values.mean())
    assert found.interval == pytest.approx((values.mean() - half, values.mean() + half), rel=2e-3)
    assert found.by_run == tuple(values)
    assert found.event_error == pytest.approx(0, abs=1e-12)


def test_without_variance_of_seeds_the_intervals_are_those_of_one_run() -> None:
    same = [run(seed, 0.0) for seed in range(4)]
    found = compare_seeds(same, [], CONFIG, seed=1)  # draws the same replicas as the evaluation
    record = same[0].results.record
    for name, one in (("llm", record), ("boosting", record.baselines["boosting"])):
        for key in METRICS:
            mean, alone = found.means[name][key], one.metrics[key]
            assert (mean.interval is None) == (alone.interval is None)
            if alone.interval is not None:
                assert mean.estimate == pytest.approx(alone.value)
                low, high = alone.interval  # whose percentiles lie between the few replicas
                assert mean.interval == pytest.approx((low, high), abs=0.1 * (high - low))
                assert mean.seed_error == pytest.approx(0, abs=1e-12)
    assert found.means["llm"]["max_sic"].interval is not None
    assert found.differences["llm - boosting"]["auc"].interval == pytest.approx((0, 0), abs=1e-12)


def test_two_groups_add_their_variances() -> None:
    ours, theirs = np.array([1.0, 1.2, 1.1, 0.9]), np.array([0.5, 0.7, 0.4])
    parts = [OverRuns(values, np.tile(values, (20_000, 1))) for values in (ours, theirs)]
    found = estimate(*parts)
    draws = sum(
        values.std(ddof=1) / np.sqrt(len(values)) * student.rvs(len(values) - 1, size=400_000)
        for values in (ours, theirs)
    )
    assert found.estimate == pytest.approx(ours.mean() - theirs.mean())
    half = np.quantile(np.abs(draws), 0.95)
    expected = (found.estimate - half, found.estimate + half)
    assert found.interval == pytest.approx(expected, abs=0.02 * half)
    assert found.by_run == ()


def test_the_interval_covers_with_few_seeds() -> None:
    generator = np.random.default_rng(5)
    covered = {"ours": 0, "resampled": 0}
    n_trials, n_runs = 600, 4
    for trial in range(n_trials):
        events, runs = generator.normal(), generator.normal(0, 1.5, n_runs)
        values, replicas = events + runs, events + generator.normal(size=(200, 1)) + runs
        low, high = estimate(OverRuns(values, replicas), seed=trial).interval or (1, -1)
        covered["ours"] += low <= 0 <= high
        chosen = generator.integers(n_runs, size=(200, n_runs))
        hierarchical = np.take_along_axis(replicas, chosen, axis=1).mean(axis=1)
        low, high = np.quantile(hierarchical, [0.025, 0.975])
        covered["resampled"] += low <= 0 <= high
    assert 0.93 <= covered["ours"] / n_trials <= 0.985
    assert covered["resampled"] / n_trials < 0.92  # what a plain hierarchical bootstrap gives


def test_seeds_make_the_interval_wider_than_one_training_says() -> None:
    runs = [run(seed, 0.5) for seed in range(5)]
    found = compare_seeds(runs, [run(seed, 0.5) for seed in range(5, 10)], CONFIG, seed=1)
    for mean in (*found.means.values(), *found.other_means.values()):
        assert mean["auc"].low < mean["auc"].estimate < mean["auc"].high
    difference = found.differences["llm - boosting"]["auc"]
    values = [
        one.auc.value - one.baselines["boosting"].auc.value
        for one in (run.results.record for run in runs)
    ]
    assert difference.by_run == pytest.approx(values)
    low, high = difference.interval
    assert low < 0 < high  # both classifiers are trained alike
    assert list(found.against) == ["llm", "boosting", "permuted"]


def test_a_value_that_one_run_lacks_is_no_mean_of_the_others() -> None:
    values = np.array([1.0, np.nan, 2.0])
    found = estimate(OverRuns(values, np.ones((10, 3)), "no value in 1 of 3 runs: too few"))
    assert (found.estimate, found.interval) == (None, None)
    assert found.reason == "no value in 1 of 3 runs: too few"
    assert found.by_run == (1.0, None, 2.0)


def test_undefined_replicas_leave_no_interval() -> None:
    draws = np.ones((10, 2))
    draws[0, 1] = np.nan
    found = estimate(OverRuns(np.array([1.0, 1.0]), draws))
    assert (found.estimate, found.interval) == (1.0, None)
    assert found.reason == "undefined in 1 of 10 bootstrap replicas"


def test_a_single_training_beside_all_runs_is_left_out() -> None:
    def with_retrained(seed: int) -> RunScores:
        found = run(seed, 0.5, ("llm", "text_only"))
        table = ScoreTable(
            LABEL,
            {name: found.results.events[name].score for name in ("llm", "text_only")},
            retrained=("text_only",),
        )
        return replace(found, results=evaluate_scores(table, table, CONFIG, 1))

    found = compare_seeds([with_retrained(1), with_retrained(2)], [], CONFIG, seed=1)
    assert list(found.means) == ["llm"]


def test_a_classifier_of_some_events_is_left_out() -> None:
    runs = [run(seed, 0.5) for seed in range(2)]
    events = runs[1].results.events
    part = {**events, "permuted": events["permuted"].take(np.arange(50))}
    other = replace(runs[1], results=replace(runs[1].results, events=part))
    found = compare_seeds([runs[0], other], [], CONFIG, seed=1)
    assert list(found.means) == ["llm", "boosting"]


def test_other_events_are_refused() -> None:
    runs = [run(seed, 0.5) for seed in range(2)]
    other = replace(runs[1], digests=np.arange(1, 801, dtype=np.uint64))
    with pytest.raises(InputError, match=r"have different events: 799 of 800 are shared"):
        compare_seeds([runs[0], other], [], CONFIG, seed=1)
