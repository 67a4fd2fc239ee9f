"""Means over signals and trainings: the metrics against those of the package, and intervals."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from hepllm.evaluation.metrics import auc, roc, sic_at
from hepllm.evaluation.scores import ScoredEvents, scored_events
from hepllm.evaluation.seed_intervals import OverRuns


@pytest.fixture(scope="module")
def study(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("case_means")


def scores(n_signal: int, n_background: int, digits: int | None) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    found = random.normal(2, 1, n_signal), random.normal(0, 1, n_background)
    return found if digits is None else (found[0].round(digits), found[1].round(digits))


def together(signal: np.ndarray, background: np.ndarray) -> ScoredEvents:
    label = np.repeat([1, 0], [len(signal), len(background)])
    return scored_events(np.concatenate([signal, background]), label)


@pytest.mark.parametrize("digits", [None, 1])  # with 1, many scores are equal
def test_its_numbers_are_those_of_the_package(study: ModuleType, digits: int | None) -> None:
    signal, background = scores(500, 20_000, digits)
    found, _ = study.measure({"a": [[study.Scored(signal, background)]]}, 1, 1)
    tight, half, area = found["a"][0, 0]
    events = together(signal, background)
    curve = roc(events)
    assert area == pytest.approx(auc(events).value)
    assert half == pytest.approx(sic_at(curve, study.EPS_S, 1).sic)
    # Loosest cut of the curve that keeps at most 20 of the 20,000 background events.
    last = np.flatnonzero(curve.n_background_passing <= study.EPS_B * 20_000)[-1]
    expected = curve.eps_s[last] / np.sqrt(curve.eps_b[last])
    assert tight == pytest.approx(expected, rel=0.03 if digits is None else 0.3)


def test_replicas_scatter_as_the_numbers_of_events_say(study: ModuleType) -> None:
    signal, background = scores(500, 20_000, None)
    scored = study.Scored(signal, background)
    _, means = study.measure({"a": [[scored]], "b": [[scored]]}, 200, 1)
    one = means["a"]["sic_at_eps_b"]
    # About 70 signal events pass, at a cut that 20 background events define.
    assert 0.1 < one.draws.std() / one.values[0] < 0.3
    ratio = study.Mean.of(one, 1).over(study.Mean.of(means["b"]["sic_at_eps_b"], 2))
    assert ratio.interval == pytest.approx((1.0, 1.0))  # paired: the same scores


def test_the_scatter_of_trainings_widens_an_interval(study: ModuleType) -> None:
    draws = np.random.default_rng(1).normal(10, 0.1, (300, 1))
    narrow = study.Mean.of(OverRuns(np.array([10.0]), draws), 1).interval
    spread = OverRuns(np.array([9.0, 10.0, 11.0]), np.repeat(draws, 3, axis=1))
    wide = study.Mean.of(spread, 1).interval
    assert narrow == pytest.approx((9.8, 10.2), abs=0.05)
    # Student's t with two degrees of freedom: 4.30 standard errors of 1 / sqrt(3).
    assert wide == pytest.approx((10 - 4.3 / 3**0.5, 10 + 4.3 / 3**0.5), abs=0.25)


def test_metrics_are_those_of_plain_counting(study: ModuleType) -> None:
    random = np.random.default_rng(4)
    signal, background = random.normal(2, 1, 300), random.normal(0, 1, 9000)
    scored = study.Scored(signal, background)
    found, means = study.measure({"one": [[scored]] * 2}, 20, seed=1)
    tight, half, area = found["one"][0, 0]
    assert area == pytest.approx((signal[:, None] > background).mean())
    cut = np.sort(signal)[-150]
    assert half == pytest.approx(0.5 / np.sqrt((background >= cut).mean()))
    tenth = np.sort(background)[-10]  # nine are a share of 1e-3
    assert tight == pytest.approx((signal > tenth).mean() / np.sqrt(1e-3))
    mean = study.Mean.of(means["one"]["auc"], 1)
    assert mean.value == pytest.approx(area)
    assert mean.interval[0] < area < mean.interval[1]


def test_a_training_that_is_asked_otherwise_is_compared_with_itself(study: ModuleType) -> None:
    random = np.random.default_rng(5)
    own = OverRuns(np.array([10.0, 14.0, 9.0]), random.normal(11, 1, (200, 3)))
    less = OverRuns(0.9 * own.values, 0.9 * own.draws)
    ratio, difference = study.Mean.ratio(less, own, 1), study.Mean.difference(less, own, 1)
    # The trainings differ by 50 %, each from itself by 10 %.
    assert (ratio.value, *ratio.interval) == pytest.approx((0.9, 0.9, 0.9))
    assert difference.value == pytest.approx(-1.1)
    assert difference.interval[0] < -1.1 < difference.interval[1]
