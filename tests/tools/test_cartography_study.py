"""The study of maps, against worked examples."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest


class Events(SimpleNamespace):
    """Events with a label and one feature each."""

    def __len__(self) -> int:
        return len(self.label)


@pytest.fixture(scope="module")
def study(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("cartography")


def test_a_ranking_that_knows_the_wrong_labels_is_perfect(study: ModuleType) -> None:
    is_flipped = np.random.default_rng(1).random(2000) < 0.05
    bench = SimpleNamespace(is_flipped=is_flipped, train=np.zeros(2000))
    found = study.find_wrong(bench, {"knows": is_flipped.astype(float), "not": np.arange(2000.0)})
    assert found["knows"]["auroc"] == 1
    n_wrong, n_top = is_flipped.sum(), 100
    assert found["knows"]["precision"] == pytest.approx(min(n_wrong, n_top) / n_top)
    assert found["not"]["auroc"] == pytest.approx(0.5, abs=0.1)


def test_members_are_calibrated_before_they_are_averaged(study: ModuleType) -> None:
    random = np.random.default_rng(2)

    def events() -> Events:
        label = random.integers(0, 2, 4000)
        return Events(label=label, features=random.normal(np.where(label == 1, 1.0, -1.0), 1.0))

    bench = SimpleNamespace(validation=events(), test=events())
    members = {
        "sure": lambda known: 20 * known.features,  # its true logit is twice the feature
        "unsure": lambda known: 0.1 * known.features,
    }
    logits = study.average(bench, members)
    assert np.polyfit(bench.test.features, logits, 1) == pytest.approx([2, 0], abs=0.15)
