"""Statistics of the study of maps, against worked examples."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from scipy.stats import ttest_1samp


@pytest.fixture(scope="module")
def study() -> ModuleType:
    file = Path(__file__).parents[2] / "tools" / "studies" / "cartography.py"
    spec = importlib.util.spec_from_file_location("cartography_study", file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules["cartography_study"] = made
    spec.loader.exec_module(made)
    return made


def test_p_values_are_corrected_step_by_step(study: ModuleType) -> None:
    found = study.holm([0.01, 0.04, 0.03, 0.005])  # the example of R's p.adjust
    np.testing.assert_allclose(found, [0.03, 0.06, 0.06, 0.02])
    assert study.holm([0.5, 0.9]).max() == 1


def test_the_interval_is_that_of_a_t_test(study: ModuleType) -> None:
    values = np.array([0.1, 0.3, 0.2, 0.25, 0.4])
    expected = ttest_1samp(values, 0.0).confidence_interval(0.95)
    mean, low, high = study.interval(values)
    assert mean == pytest.approx(0.25)
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_a_ranking_that_knows_the_wrong_labels_is_perfect(study: ModuleType) -> None:
    is_flipped = np.random.default_rng(1).random(2000) < 0.05
    bench = SimpleNamespace(is_flipped=is_flipped, train=np.zeros(2000))
    found = study.find_wrong(bench, {"knows": is_flipped.astype(float), "not": np.arange(2000.0)})
    assert found["knows"]["auroc"] == 1
    n_wrong, n_top = is_flipped.sum(), 100
    assert found["knows"]["precision"] == pytest.approx(min(n_wrong, n_top) / n_top)
    assert found["not"]["auroc"] == pytest.approx(0.5, abs=0.1)
