from __future__ import annotations

import numpy as np
import pytest

from hepllm.cartography.guidance import difficulty_ranks, smoothed_targets, variability_weights
from hepllm.config import ByMapConfig

LABEL = (np.arange(100) % 2).astype(np.int8)


def test_labels_are_smoothed_in_proportion_to_variability() -> None:
    label = np.array([1, 1, 0, 1], dtype=np.int8)
    found = smoothed_targets(label, np.array([0.5, 0.25, 0.5, np.nan]), 0.8)
    np.testing.assert_allclose(found, [0.6, 0.8, 0.4, 1.0])


@pytest.mark.parametrize("power", [1.0, -1.0, 0.5])
def test_weights_rise_with_the_power_and_leave_each_class_its_total(power: float) -> None:
    variability = np.random.default_rng(1).random(100) / 2
    variability[:4] = [0.0, 0.0, np.nan, np.nan]
    found = variability_weights(LABEL, variability, ByMapConfig(weight_power=power))
    for label in (0, 1):
        assert found[label == LABEL].mean() == pytest.approx(1.0)
    assert found[2] == found[3] == 1.0
    inner = np.flatnonzero((LABEL == 1) & ~np.isnan(variability) & (variability > 0.05))
    order = inner[np.argsort(variability[inner])]
    assert (np.diff(found[order]) * np.sign(power) >= 0).all()
    most, least = found[np.isfinite(variability)].max(), found[np.isfinite(variability)].min()
    assert most / least <= 100 * (1 + 1e-9) * 2  # limits of 0.1 and 10, and two means


def test_a_curriculum_ranks_each_class_by_itself() -> None:
    difficulty = np.random.default_rng(2).random(100) + 5 * LABEL
    found = difficulty_ranks(LABEL, difficulty)
    for label in (0, 1):
        mine = found[label == LABEL]
        np.testing.assert_allclose(np.sort(mine), np.arange(50) / 50)
        order = np.argsort(difficulty[label == LABEL])
        assert (np.diff(mine[order]) > 0).all()
    difficulty[0] = np.nan
    assert 0.4 < difficulty_ranks(LABEL, difficulty)[0] < 0.6
