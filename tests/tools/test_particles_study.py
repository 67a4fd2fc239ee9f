"""Measures of the study of particles, against independent arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score


@pytest.fixture(scope="module")
def study(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("particles")


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


def test_means_of_logits_are_those_of_shared_seeds(study: ModuleType, tmp_path: Path) -> None:
    for name, seed, value in (("a", 1, 2.0), ("a", 2, 6.0), ("b", 2, 0.0), ("b", 3, 9.0)):
        np.savez(tmp_path / f"{name}-{seed}.npz", test=np.full(4, value))
    assert [one[0] for one in study.kept_scores(tmp_path, "a", "test")] == [2.0, 6.0]
    np.testing.assert_array_equal(study.kept_scores(tmp_path, "a + b", "test"), [[3.0] * 4])


def test_ratios_are_taken_within_a_seed(study: ModuleType) -> None:
    random = np.random.default_rng(1)
    values, draws = np.array([10.0, 30.0, 20.0]), random.normal(20, 1, (400, 3))
    one, twice = (
        study.OverSeeds({"sic0.5": k * values}, {"sic0.5": k * draws}, np.zeros(2)) for k in (1, 2)
    )
    ratio, of_ratio = twice.over(one, "sic0.5")
    assert np.exp(ratio) == pytest.approx(2)
    np.testing.assert_allclose(np.exp(of_ratio), 2)
    # Trainings that share nothing scatter twice.
    other = study.OverSeeds({"sic0.5": values[::-1]}, {"sic0.5": draws[:, ::-1]}, np.zeros(2))
    _, apart = other.over(one, "sic0.5")
    assert apart.std() > 0.3
