"""What experiments say together: pairs, corrections, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from scipy.stats import ttest_rel

from hepllm.config.suites import SuiteConfig, suite_from_tree
from hepllm.evaluation.confusion import Confusion
from hepllm.evaluation.experiment_records import (
    PER_CLASS,
    ExperimentResult,
    MeasuredSet,
    SuiteRecord,
    _per_class,
)
from hepllm.evaluation.suite_summary import summarise

VALUES = {
    "plain": (0.90, 0.91, 0.92, 0.90),
    "better": (0.93, 0.93, 0.95, 0.94),
    "alike": (0.90, 0.92, 0.91, 0.90),
}


def suite() -> SuiteConfig:
    tree = {"name": "any", "experiments": dict.fromkeys(VALUES), "metrics": ["auc"], "seeds": 4}
    return suite_from_tree(tree, "suite")


def result(name: str, seed: int, auc: float | None) -> ExperimentResult:
    measured = MeasuredSet(
        n_signal=5,
        n_background=6,
        metrics={"auc": auc, **dict.fromkeys(PER_CLASS, 0.5)},
        undefined={} if auc is not None else {"auc": "one class"},
    )
    return ExperimentResult(
        name=name, dataset="rnd", seed=seed, seconds=1, made_for="", sets={"test": measured}
    )


def summary(values: Mapping[str, tuple[float | None, ...]]) -> SuiteRecord:
    results = [
        result(name, seed, value)
        for name, of_seeds in values.items()
        for seed, value in enumerate(of_seeds, start=1)
    ]
    return summarise(suite(), {name: {} for name in VALUES}, results, {})


def test_differences_are_paired_by_seed_and_corrected() -> None:
    record = summary(VALUES)
    found = record.sets[0].experiments
    assert record.n_tests == 2
    assert found["plain"]["auc"].comparison is None
    raw = [ttest_rel(VALUES[name], VALUES["plain"]).pvalue for name in ("better", "alike")]
    for name, p_value, factor in zip(("better", "alike"), raw, (2, 1), strict=True):
        compared = found[name]["auc"].comparison
        assert compared is not None
        assert compared.difference == pytest.approx(
            np.mean(VALUES[name]) - np.mean(VALUES["plain"])
        )
        assert compared.p == pytest.approx(p_value)
        assert compared.p_holm == pytest.approx(min(1, factor * p_value))


def test_only_seeds_that_both_have_are_compared() -> None:
    record = summary({**VALUES, "better": VALUES["better"][:3]})
    compared = record.sets[0].experiments["better"]["auc"].comparison
    assert compared is not None
    assert compared.n_seeds == 3
    assert compared.p == pytest.approx(ttest_rel(VALUES["better"][:3], VALUES["plain"][:3]).pvalue)


def test_a_seed_without_a_value_leaves_no_mean() -> None:
    record = summary({**VALUES, "alike": (0.9, None, 0.9, 0.9)})
    metric = record.sets[0].experiments["alike"]["auc"]
    assert metric.mean is None
    assert metric.reason == "no value in 1 of 4 seeds: one class"
    assert metric.comparison is None
    assert record.n_tests == 1


def test_intervals_have_no_impossible_value() -> None:
    found = summary({"plain": (0.5, 0.99), "better": (0.9, 0.91), "alike": (0.9, 0.9)})
    assert found.sets[0].experiments["plain"]["auc"].interval == (0.0, 1.0)
    low, high = found.sets[0].experiments["better"]["auc"].interval or (0, 0)
    assert 0.8 < low < 0.905 < high < 1


def test_an_experiment_without_results_keeps_its_place() -> None:
    found = summary({"plain": VALUES["plain"]}).sets[0].experiments
    assert list(found) == list(VALUES)
    assert found["better"]["auc"].reason == "no seed is done"


def test_metrics_of_a_class_follow_from_the_confusion() -> None:
    confusion = Confusion(
        signal_as_signal=8,
        signal_as_background=2,
        background_as_signal=4,
        background_as_background=16,
    )
    found = _per_class(confusion)
    assert found["signal_precision"] == pytest.approx(8 / 12)
    assert found["signal_recall"] == pytest.approx(0.8)
    assert found["background_precision"] == pytest.approx(16 / 18)
    assert found["background_recall"] == pytest.approx(0.8)
    assert found["background_f1"] == pytest.approx(2 * 16 / (2 * 16 + 2 + 4))


def test_the_power_is_that_of_the_reference() -> None:
    found = summary(VALUES).sets[0].power["auc"]
    assert found.spread == pytest.approx(np.std(VALUES["plain"], ddof=1))
    assert found.n_seeds == 4
    assert [one.relative for one in found.needed] == [0.03, 0.01]
    assert found.needed[0].number is not None
    assert found.needed[1].number is not None
    assert found.needed[0].number < found.needed[1].number
