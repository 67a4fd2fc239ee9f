from __future__ import annotations

import numpy as np
import pytest

from hepllm.cartography.dynamics import PartDynamics
from hepllm.cartography.event_map import divide
from hepllm.cartography.measures import Measures, measure
from hepllm.config import CartographyConfig

NAN = float("nan")


def part(*rows: tuple[float, ...]) -> PartDynamics:
    """Probabilities by event and epoch; margins follow from them."""
    probability = np.array(rows, dtype=np.float16)
    exact = probability.astype(np.float64)
    return PartDynamics(probability, np.log(exact / (1 - exact)).astype(np.float16))


def test_measures_are_those_of_the_papers() -> None:
    found = measure(part((0.25, 0.75, 0.875, 0.25, 0.75)))
    values = np.array([0.25, 0.75, 0.875, 0.25, 0.75])
    assert found.confidence[0] == pytest.approx(values.mean())
    assert found.variability[0] == pytest.approx(values.std())
    assert found.correctness[0] == pytest.approx(3 / 5)
    assert found.forgetting[0] == 1
    assert found.area_under_margin[0] == pytest.approx(
        np.log(values / (1 - values)).mean(), rel=1e-3
    )


def test_epochs_that_did_not_show_an_event_do_not_count() -> None:
    found = measure(part((NAN, 0.75, NAN, 0.25), (NAN, NAN, NAN, NAN)))
    assert found.n_epochs.tolist() == [2, 0]
    assert found.confidence[0] == 0.5
    assert found.variability[0] == 0.25
    assert found.forgetting.tolist() == [1, 0]
    assert found.is_seen.tolist() == [True, False]
    assert np.isnan(found.confidence[1])


def test_the_first_epochs_can_be_measured_alone() -> None:
    record = part((0.25, 0.75, 0.875))
    assert measure(record, 2).confidence[0] == 0.5
    assert measure(record, 3).forgetting[0] == 0
    assert measure(record, skip=1).confidence[0] == pytest.approx(0.8125)
    assert measure(record, 2, skip=1).n_epochs.tolist() == [1]


def test_a_sure_event_that_is_never_shown_right_was_never_learnt() -> None:
    found = measure(part((0.125, 0.125)))
    assert found.correctness[0] == 0
    assert found.forgetting[0] == 0


def measures(variability: list[float], confidence: list[float]) -> Measures:
    number = len(confidence)
    zeros = np.zeros(number)
    return Measures(
        n_epochs=np.ones(number, dtype=np.int64),
        confidence=np.array(confidence),
        variability=np.array(variability),
        correctness=zeros,
        forgetting=zeros.astype(np.int64),
        area_under_margin=zeros,
    )


def test_thresholds_divide_events_once() -> None:
    some = measures([0.2, 0.2, 0.05, 0.05], [0.9, 0.1, 0.9, 0.1])
    config = CartographyConfig(ambiguous_variability=0.15, hard_confidence=0.5)
    assert divide(some, config).tolist() == [1, 1, 0, 2]


def test_quantiles_have_the_shares_that_are_asked_for() -> None:
    random = np.random.default_rng(3)
    some = measures(random.random(100).tolist(), random.random(100).tolist())
    config = CartographyConfig(categories="quantiles", ambiguous_share=0.3, hard_share=0.2)
    found = divide(some, config)
    assert np.bincount(found).tolist() == [50, 30, 20]
    assert some.variability[found == 1].min() > some.variability[found != 1].max()
    assert some.confidence[found == 2].max() < some.confidence[found == 0].min()
