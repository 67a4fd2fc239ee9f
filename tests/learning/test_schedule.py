from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepllm.config import Schedule, TrainConfig
from hepllm.data.views import balanced_view, validation_view
from hepllm.learning.schedule import RateSchedule, batch_of_step, count_steps

labels_of = st.lists(st.sampled_from([-1, 0, 1]), min_size=2, max_size=200).map(
    lambda values: np.array([0, 1, *values], dtype=np.int8)
)
ratios = st.tuples(st.integers(1, 12), st.integers(1, 12))


@given(labels_of, ratios, st.integers(0, 99))
def test_a_view_has_the_ratio_and_keeps_all_of_the_rarer_class(
    labels: np.ndarray, ratio: tuple[int, int], seed: int
) -> None:
    view = balanced_view(labels, f"{ratio[0]}:{ratio[1]}", seed)
    assert len(set(view)) == len(view)
    available = [int((labels == c).sum()) for c in (1, 0)]
    kept = [int((labels[view] == c).sum()) for c in (1, 0)]
    assert sum(kept) == len(view)
    rarer = int(np.argmin([a / r for a, r in zip(available, ratio, strict=True)]))
    assert kept[rarer] == available[rarer]
    unit = available[rarer] / ratio[rarer]
    assert abs(kept[1 - rarer] - unit * ratio[1 - rarer]) <= 0.5


@given(labels_of)
def test_the_natural_view_is_every_labelled_event(labels: np.ndarray) -> None:
    assert balanced_view(labels, "natural", 1).tolist() == np.flatnonzero(labels >= 0).tolist()


def test_views_depend_on_the_seed_alone() -> None:
    labels = (np.arange(300) % 10 == 0).astype(np.int8)
    assert np.array_equal(balanced_view(labels, "1:1", 3), balanced_view(labels, "1:1", 3))
    assert not np.array_equal(balanced_view(labels, "1:1", 3), balanced_view(labels, "1:1", 4))


@given(labels_of, st.integers(2, 150))
def test_a_validation_view_favours_the_rarer_class(labels: np.ndarray, limit: int) -> None:
    view = validation_view(labels, limit, 1)
    counts = [int((labels == c).sum()) for c in (0, 1)]
    kept = [int((labels[view] == c).sum()) for c in (0, 1)]
    assert len(view) == min(limit, sum(counts))
    assert min(kept) >= min(limit // 2, *counts)


@given(st.integers(1, 400), st.integers(1, 64), st.integers(0, 50))
def test_an_epoch_visits_no_event_twice(n_events: int, batch_size: int, seed: int) -> None:
    config = TrainConfig(batch_size=batch_size, epochs=1)
    n_steps = count_steps(n_events, config)
    batches = [batch_of_step(step, n_events, config, seed) for step in range(n_steps)]
    seen = np.concatenate(batches)
    assert len(set(seen)) == len(seen)
    size = min(batch_size, n_events)
    assert all(len(batch) == size for batch in batches)
    assert n_events - len(seen) < size


def test_the_next_epoch_has_another_order() -> None:
    config = TrainConfig(batch_size=8)
    first = np.concatenate([batch_of_step(step, 64, config, 1) for step in range(8)])
    second = np.concatenate([batch_of_step(step, 64, config, 1) for step in range(8, 16)])
    assert sorted(first) == sorted(second) == list(range(64))
    assert first.tolist() != second.tolist()


@given(st.integers(1, 2000), st.floats(0, 0.9), st.sampled_from(["one_cycle", "linear"]))
def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing(
    total: int, warmup_fraction: float, kind: Schedule
) -> None:
    schedule = RateSchedule(kind, warmup_fraction)
    rates = [schedule.share(step, total) for step in range(total)]
    peak = int(np.argmax(rates))
    assert all(0 <= rate <= 1 for rate in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] > 0  # no step is wasted
    if total > 1000 and warmup_fraction < 0.5:
        assert rates[-1] == pytest.approx(0, abs=2e-3)


def test_a_constant_rate_stays_after_the_warm_up() -> None:
    schedule = RateSchedule("constant", 0.1)
    assert [schedule.share(step, 40) for step in range(40)] == [0.25, 0.5, 0.75, *[1.0] * 37]


def test_a_schedule_that_begins_later_is_the_same_one_shifted() -> None:
    late, early = RateSchedule("one_cycle", 0.2, first_step=7), RateSchedule("one_cycle", 0.2)
    assert [late.share(step, 50) for step in range(7)] == [0.0] * 7
    assert [late.share(step + 7, 50) for step in range(43)] == [
        early.share(step, 43) for step in range(43)
    ]
