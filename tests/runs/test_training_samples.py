"""Events under hypotheses for the baselines: who is shown what, and how often."""

from __future__ import annotations

import numpy as np
import pytest

from hepllm.baselines.scorer import TrainingSample
from hepllm.data.event_table import EventTable
from hepllm.data.signal_truth import SignalTruth
from hepllm.hypotheses.hypothesis import OPEN
from hepllm.hypotheses.signal import Product, Signal
from hepllm.runs.training_samples import under_hypotheses
from hepllm.schema import SIGNAL

TWO = tuple(
    Signal((Product(heavy, "qq"), Product(light, "qq"))) for heavy, light in ((500, 100), (90, 80))
)


def shown(n: int, open_share: float, weight: np.ndarray | None = None) -> TrainingSample:
    """N events whose only feature is their number; signal is every second, of two masses."""
    label = np.arange(n) % 2
    number = np.arange(n, dtype=np.float64)
    text = np.full(n, "", dtype=object)
    table = EventTable(
        features=number[:, np.newaxis],
        names=("jet1_mass",),
        label=label.astype(np.int8),
        label_raw=label.astype(np.int16),
        weight=np.ones(n) if weight is None else weight,
        event_id=np.arange(n),
        source=text,
        event_digest=np.arange(n, dtype=np.uint64),
        split=text,
    )
    truth = SignalTruth(TWO, np.where(label == SIGNAL, np.arange(n) % 4 // 2, -1))
    sample = TrainingSample(table.features, table.names, table.label, weight, seed=3)
    return under_hypotheses(sample, table, truth, open_share)


def test_signal_is_shown_once_under_its_own_and_background_thrice_under_others() -> None:
    sample = shown(400, 0.0)
    assert sample.hypothesis is not None
    number = sample.features[:, 0].astype(int)
    is_signal = sample.label == SIGNAL
    assert sorted(number[is_signal]) == list(range(1, 400, 2))
    assert np.bincount(number[~is_signal])[::2].tolist() == [3] * 200
    masses = np.array([one.masses[0] for one in sample.hypothesis])
    np.testing.assert_array_equal(masses[is_signal], np.where(number[is_signal] % 4 == 1, 500, 90))
    # Each half of the signal is 100 events, and so is its share of the background.
    assert (masses[~is_signal] == 500).sum() == pytest.approx(300, abs=3)


def test_the_balance_of_the_classes_remains() -> None:
    weight = np.where(np.arange(400) % 2 == 1, 0.5, 2.0)
    sample = shown(400, 0.1, weight)
    assert sample.weight is not None
    total = [sample.weight[sample.label == label].sum() for label in (0, 1)]
    assert total[1] / total[0] == pytest.approx(0.5 / 2.0)


def test_a_share_is_shown_under_the_open_hypothesis() -> None:
    sample = shown(2000, 0.25)
    assert sample.hypothesis is not None
    is_open = np.array([one is OPEN for one in sample.hypothesis])
    for label in (0, 1):
        assert is_open[sample.label == label].mean() == pytest.approx(0.25, abs=0.04)


def test_the_seed_decides() -> None:
    first, second = (shown(200, 0.2).hypothesis for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.tolist() == second.tolist()
