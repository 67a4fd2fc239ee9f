"""Measures of the study of particles, against independent arithmetic."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score


@pytest.fixture(scope="module")
def study() -> ModuleType:
    file = Path(__file__).parents[2] / "tools" / "studies" / "particles.py"
    spec = importlib.util.spec_from_file_location("particles_study", file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules["particles_study"] = made
    spec.loader.exec_module(made)
    return made


def test_measures_of_weighted_events_are_those_of_repeated_ones(study: ModuleType) -> None:
    random = np.random.default_rng(1)
    label = (np.arange(3000) < 400).astype(np.int8)
    score, m_jj = random.normal(2.0 * label), random.uniform(3000, 4000, 3000)
    times = random.poisson(1.0, 3000)
    found = study.Scored.of(score, label, m_jj).measure(times.astype(float))
    score, label, m_jj = (np.repeat(values, times) for values in (score, label, m_jj))
    assert found["auc"] == pytest.approx(roc_auc_score(label, score), abs=1e-3)
    background, signal = score[label == 0], np.sort(score[label == 1])[::-1]
    cut = signal[int(np.ceil(0.5 * len(signal))) - 1]
    passing = (background >= cut).sum()
    assert found["passing0.5"] == pytest.approx(passing, abs=2)
    assert found["sic0.5"] == pytest.approx(0.5 / (passing / len(background)) ** 0.5, rel=0.02)
    hardest = background >= np.sort(background)[::-1][int(0.02 * len(background))]
    window = (m_jj > 3300) & (m_jj < 3600)
    expected = window[label == 0][hardest].mean() / window[label == 0].mean()
    assert found["sculpting"] == pytest.approx(expected, rel=0.1)
