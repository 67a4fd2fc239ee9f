from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hepllm.config import HypothesisConfig, TrainConfig
from hepllm.data.event_table import EventTable
from hepllm.data.signal_truth import SignalTruth
from hepllm.evaluation.metrics import auc
from hepllm.evaluation.scores import scored_events
from hepllm.hypotheses.hypothesis import OPEN, Hypothesis
from hepllm.hypotheses.phrases import Vagueness
from hepllm.hypotheses.signal import Product, Signal
from hepllm.learning import presentation
from hepllm.learning.presentation import Presentation, Shown, assign_own
from hepllm.learning.schedule import batch_of_step

Tables = Callable[..., EventTable]
Events = tuple[EventTable, SignalTruth]


@pytest.fixture
def exact_words() -> Iterator[None]:
    """Hypotheses state all that is known of a signal, in the same words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presentation, "_worded", _exact)
        yield


def _exact(signal: Signal, vagueness: Vagueness, seed: object) -> Hypothesis:
    return Hypothesis("exact", signal, ())


def _signal(number: int) -> Signal:
    return Signal((Product(300.0 + 10 * number, "qq"), Product(100.0, "bb")))


def _events(tables: Tables, counts: list[int], n_background: int, n_unknown: int = 0) -> Events:
    """Signal of several points, signal of unknown truth, and background, in a random order."""
    place = np.repeat([*range(len(counts)), -1, -1], [*counts, n_unknown, n_background])
    label = np.repeat([1, 0], [sum(counts) + n_unknown, n_background]).astype(np.int8)
    mixed = np.random.default_rng(5).permutation(len(label))
    rows = {**vars(tables(len(label), ("jet1_mass",))), "label": label[mixed]}
    return EventTable(**rows), SignalTruth(tuple(map(_signal, range(len(counts)))), place[mixed])


def _presentation(
    events: Events, batch_size: int | None = None, seed: int = 3, **settings: Any
) -> Presentation:
    hypothesis = HypothesisConfig(**settings)
    config = TrainConfig(batch_size=batch_size or len(events[0]), hypothesis=hypothesis)
    return Presentation(events[0], config, seed, events[1])


def _stated(hypotheses: NDArray[np.object_] | None) -> NDArray[np.int64]:
    """The number of the signal that each hypothesis states; -1 for the open one."""
    assert hypotheses is not None
    return np.array(
        [-1 if one is OPEN else round((one.signal.masses[0] - 300) / 10) for one in hypotheses]
    )


def _texts(shown: Shown) -> list[str]:
    assert shown.hypothesis is not None
    return [one.text for one in shown.hypothesis]


counts_of = st.lists(st.integers(1, 30), min_size=1, max_size=8)
shares_of = st.fixed_dictionaries(
    {
        "open_share": st.floats(0, 1),
        "wrong_share": st.floats(0, 0.9),
        "per_batch": st.integers(1, 9),
    }
)


@pytest.mark.usefixtures("exact_words")
@given(counts_of, st.integers(0, 60), st.integers(0, 9), shares_of)
def test_an_epoch_shows_each_event_once_and_signal_under_its_own_hypothesis(
    event_table: Tables,
    counts: list[int],
    n_background: int,
    n_unknown: int,
    shares: dict[str, Any],
) -> None:
    table, truth = events = _events(event_table, counts, n_background, n_unknown)
    made = _presentation(events, **shares)
    shown = made.step(1)
    assert sorted(shown.events) == list(range(len(table)))
    assert shown.is_wrong is not None
    assert shown.groups is not None
    own, stated = truth.place[shown.events], _stated(shown.hypothesis)
    is_signal = table.label[shown.events] == 1
    assert not (shown.is_wrong & ~is_signal).any()
    right, wrong = stated[is_signal & ~shown.is_wrong], stated[shown.is_wrong]
    assert np.isin(right, [-1]).sum() >= n_unknown
    assert (right == np.where(right == -1, -1, own[is_signal & ~shown.is_wrong])).all()
    assert not np.isin(wrong, [-1]).any()
    assert (wrong != own[shown.is_wrong]).all()
    for group in np.unique(shown.groups):
        (places,) = np.nonzero(shown.groups == group)
        assert np.ptp(places) == len(places) - 1
        assert len(set(stated[places])) == 1


@pytest.mark.usefixtures("exact_words")
@given(counts_of, st.integers(1, 5), st.floats(0, 1))
def test_each_hypothesis_has_its_share_of_the_background(
    event_table: Tables, counts: list[int], ratio: int, open_share: float
) -> None:
    table, _ = events = _events(event_table, counts, ratio * sum(counts))
    shown = _presentation(events, open_share=open_share).step(0)
    stated, label = _stated(shown.hypothesis), table.label[shown.events]
    for place in np.unique(stated):
        n_signal, n_background = (((label == c) & (stated == place)).sum() for c in (1, 0))
        assert abs(n_background - ratio * n_signal) <= 1


def test_the_hypothesis_alone_does_not_tell_signal_from_background(event_table: Tables) -> None:
    """The best classifier that reads only the text scores the share of signal under each text."""
    counts = np.random.default_rng(1).integers(1, 60, 40).tolist()
    table, truth = events = _events(event_table, counts, 3 * sum(counts))
    texts, labels = [], []
    made = _presentation(events, batch_size=50, open_share=0.2)
    for step in range(3 * (len(table) // 50)):
        shown = made.step(step)
        assert shown.hypothesis is not None
        texts += [one.signal.masses[0] for one in shown.hypothesis]
        labels += table.label[shown.events].tolist()
    seen = np.arange(len(texts)) < len(texts) * 2 // 3  # the first two epochs
    values, label = np.round(np.nan_to_num(np.array(texts), nan=-1.0), -1), np.array(labels)
    share = {v: label[seen & (values == v)].mean() for v in np.unique(values[seen])}
    score = np.array([share.get(v, 0.25) for v in values[~seen]])
    found = auc(scored_events(score, label[~seen].astype(np.int8), np.ones(len(score)))).value
    assert found == pytest.approx(0.5, abs=0.03)
    own = assign_own(table, truth)
    by_text: dict[float, list[int]] = {}
    for one, label_of in zip(own, table.label, strict=True):
        by_text.setdefault(one.signal.masses[0], []).append(int(label_of))
    assert all(abs(len(v) - 4 * sum(v)) <= 1 for v in by_text.values())


@pytest.mark.usefixtures("exact_words")
def test_weights_share_out_the_background(event_table: Tables) -> None:
    table, truth = _events(event_table, [10, 10], 400)
    weight = np.where(truth.place == 1, 3.0, 1.0)
    table = EventTable(**{**vars(table), "weight": weight})
    stated = _stated(assign_own(table, truth))
    assert [((stated == place) & (table.label == 0)).sum() for place in (0, 1)] == [100, 300]


def test_a_step_is_a_function_of_seed_and_step(event_table: Tables) -> None:
    events = _events(event_table, [12, 20, 7], 50)
    first = _presentation(events, batch_size=16)
    steps = [first.step(step) for step in (7, 0, 3, 7)]
    again = _presentation(events, batch_size=16).step(7)
    for one in (steps[0], steps[3]):
        assert one.events.tolist() == again.events.tolist()
        assert _texts(one) == _texts(again)
    other = _presentation(events, batch_size=16, seed=4).step(7)
    assert other.events.tolist() != again.events.tolist()


def test_a_batch_has_few_hypotheses(event_table: Tables) -> None:
    events = _events(event_table, [40] * 20, 800)
    made = _presentation(events, batch_size=64, per_batch=4, open_share=0.2)
    for step in range(25):
        shown = made.step(step)
        assert shown.groups is not None
        assert 4 <= len(np.unique(shown.groups)) <= 6
        share = events[0].label[shown.events].mean()
        assert 0.35 < share < 0.65


def test_without_truth_the_order_is_that_of_former_runs(event_table: Tables) -> None:
    table, config = event_table(64, ("jet1_mass",)), TrainConfig(batch_size=8)
    shown = Presentation(table, config, 3).step(9)
    assert shown.events.tolist() == batch_of_step(9, 64, config, 3).tolist()
    assert shown.hypothesis is None


@given(st.lists(st.integers(1, 12), min_size=1, max_size=9), st.integers(1, 20), st.integers(1, 4))
def test_shares_and_micro_batches_hold_all_events_and_divide_few_hypotheses(
    sizes: list[int], micro_batch: int, n_processes: int
) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    shown = Shown(np.arange(len(groups)), groups)
    shares = [shown.take(shown.share(rank, n_processes)) for rank in range(n_processes)]
    assert np.concatenate([one.events for one in shares]).tolist() == shown.events.tolist()
    for one in shares:
        parts = [one.take(part) for part in one.micro_batches(micro_batch)]
        assert [len(p) for p in parts] == [len(p) for p in parts if 0 < len(p) <= micro_batch]
        if parts:
            assert np.concatenate([p.events for p in parts]).tolist() == one.events.tolist()
        for before, after in pairwise(groups[p.events] for p in parts):
            if before[-1] == after[0]:
                assert (groups[one.events] == after[0]).sum() > micro_batch
