"""The study of hypotheses: what it asks."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from hepllm.hypotheses.signal import Product, Signal

TOOLS = Path(__file__).parents[2] / "tools" / "studies"
SIGNALS = [
    Signal((Product(heavy, "qqq"), Product(light, "bb")))
    for heavy, light in ((500.0, 100.0), (90.0, 80.5), (300.0, 290.0), (700.0, 45.0))
]


@pytest.fixture(scope="module")
def cases() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOLS))
        yield importlib.import_module("hypothesis_cases")


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
