"""The study of hypotheses: what it asks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hepllm.evaluation.seed_intervals import OverRuns
from hepllm.hypotheses.signal import Product, Signal

SIGNALS = [
    Signal((Product(heavy, "qqq"), Product(light, "bb")))
    for heavy, light in ((500.0, 100.0), (90.0, 80.5), (300.0, 290.0), (700.0, 45.0))
]


@pytest.fixture(scope="module")
def cases(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("hypothesis_cases")


@pytest.fixture(scope="module")
def study(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("hypotheses")


def test_a_table_compares_what_is_asked_with_the_truth(study: ModuleType) -> None:
    random = np.random.default_rng(1)
    own = {
        metric: OverRuns(np.array([10.0, 11.0]), random.normal(10, 0.1, (50, 2)))
        for metric in study.METRICS
    }
    half = {metric: OverRuns(one.values / 2, one.draws / 2) for metric, one in own.items()}
    found = study._asked_table({"llm": own, "llm wrong": half, "dedicated": own}, 1)
    lines = found.strip().splitlines()
    halved = "0.500 [0.500, 0.500] | 0.500 [0.500, 0.500] | -5.2"
    assert len(lines) == 3
    assert lines[-1].startswith(f"| llm wrong | llm | {halved}")
    pairs = {"llm": half, "against": own, "llm masses": own, "against masses": own}
    found = study._asked_table(pairs, 1)
    starts = [line.rpartition(" | 1.000 [")[0] or line for line in found.strip().splitlines()[2:]]
    assert [line.split(" | ")[:2] for line in starts] == [
        ["| llm masses", "llm"],
        ["| against masses", "against"],
        ["| llm", "against"],
        ["| llm masses", "against masses"],
    ]
    assert f"| llm | against | {halved}" in found
    assert study._asked_table({"llm": own}, 1) == ""


@pytest.mark.parametrize("number", range(len(SIGNALS)))
def test_what_is_asked_states_the_truth_or_something_else(cases: ModuleType, number: int) -> None:
    signal = SIGNALS[number]
    assert cases.canonical(signal).signal == signal
    assert cases.rephrased(signal, number).signal == signal
    assert cases.rephrased(signal, number).text != cases.canonical(signal).text
    masses = cases.canonical(signal, decays=False).signal
    assert masses.masses == signal.masses
    assert masses.decays == (None, None)
    assert cases.wrong_place(number, len(SIGNALS)) == (number + 2) % 4


def test_the_best_events_under_the_true_hypothesis_are_scored_in_another_phrasing(
    study: ModuleType, cases: ModuleType
) -> None:
    asked = []

    def model(events: list[float], hypothesis: Any) -> Any:
        asked.append((hypothesis.text, len(events)))
        return np.asarray(events)

    class Events(list[float]):
        def take(self, places: Any) -> Events:
            return Events(self[place] for place in places)

    events = Events(range(100))
    phrased = cases.rephrased(SIGNALS[0], 1)
    quick = partial(study._in_plain_words, model)
    found = cases.Cascade(quick, model, 0.1, events)(events, phrased)
    assert asked[-1] == (phrased.text, 10)
    assert {text for text, _ in asked[:-1]} == {cases.canonical(SIGNALS[0]).text}
    np.testing.assert_array_equal(found[90:], range(90, 100))
    assert np.isneginf(found[:90]).all()
