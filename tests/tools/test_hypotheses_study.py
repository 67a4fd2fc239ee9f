"""The study of hypotheses: what it asks."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

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
    assert len(lines) == 3
    assert lines[-1].startswith("| llm wrong | 0.500 [0.500, 0.500] | 0.500 [0.500, 0.500] | -5.2")
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
