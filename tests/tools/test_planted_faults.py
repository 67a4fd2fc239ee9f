"""What the study of audits plants, and how it measures, against worked examples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def study(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("planted_faults")


def test_labels_and_copies_are_planted(
    study: ModuleType, recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "N_EVENTS", 120)
    monkeypatch.setattr(study, "N_COPIES", 20)
    planted = study.plant(recipes / "rnd", 1, tmp_path / "rows.npy")
    rows = np.load(tmp_path / "rows.npy")
    assert rows.shape == (120, 6)
    assert planted.is_flipped[:100].sum() == 6
    np.testing.assert_array_equal(planted.is_copy, np.arange(120) >= 100)
    assert len(np.unique(rows[:100], axis=0)) == 100
    for row in rows[100:]:
        assert (rows[:100] == row).all(axis=1).sum() == 1
    # Without the wrong labels both classes have equal numbers.
    right = np.where(planted.is_flipped, 1 - rows[:, -1], rows[:, -1])
    assert right[:100].sum() == 50


def test_copies_have_no_part_in_the_measure_of_labels(study: ModuleType) -> None:
    is_flipped = np.zeros(100, dtype=bool)
    is_flipped[[0, 1, 2, 3, 99]] = True
    planted = study.Planted(is_flipped, np.arange(100) >= 98)
    everything = np.ones(100, dtype=bool)
    values = np.zeros(100)
    values[98:] = 9.0
    values[[0, 1, 50, 51]] = (4.0, 3.0, 3.5, 1.0)
    found = study.measure(values, planted, everything)
    # The first 5 of all are 98, 99, 0, 50, 1; without copies 0, 50, 1, 51 and 2.
    assert found["precision_all"] == pytest.approx(4 / 5)
    assert found["precision_labels"] == pytest.approx(3 / 5)
    # Flipped 0 beats all 94 right ones, 1 all but 50, 2 and 3 tie with 92 of them.
    assert found["auroc_labels"] == pytest.approx((94 + 93 + 2 * 92 / 2) / (4 * 94))
