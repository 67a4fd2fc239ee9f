"""The counting experiment of folds that train one another."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

SIZE = {"cells": 50, "expected": 20.0, "boxes": 8000, "seed": 1}


@pytest.fixture(scope="module")
def tool(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("fold_dependence")


def test_the_mean_is_right_and_the_variance_is_not(tool: ModuleType) -> None:
    """Unbiased for any number of folds; the variance is between that of a Poisson number and 2."""
    for folds in (2, 5):
        found = tool.excesses(folds, selected=5, **SIZE)
        assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found))
        assert 1.2 < found.var() < 2.1


def test_without_a_choice_the_count_is_a_poisson_number(tool: ModuleType) -> None:
    """All cells but one pass, so that next to nothing is learnt."""
    assert tool.excesses(2, selected=49, **SIZE).var() == pytest.approx(1, abs=0.08)
