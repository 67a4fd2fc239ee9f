"""Metrics against closed forms, scikit-learn and plain counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from hepllm.errors import InputError
from hepllm.evaluation.metrics import (
    Threshold,
    auc,
    max_sic_in_sample,
    read_at,
    roc,
    sic_at,
    sic_ceiling,
)
from hepllm.evaluation.scores import ScoredEvents, scored_events


def gaussians(n_signal: int, n_background: int, distance: float, seed: int = 1) -> ScoredEvents:
    generator = np.random.default_rng(seed)
    label = np.repeat([1, 0], [n_signal, n_background])
    return scored_events(generator.normal(size=len(label)) + distance * label, label)


@st.composite
def weighted_events(draw: st.DrawFn) -> ScoredEvents:
    """Few distinct scores, so that ties are common; both classes present; positive weights."""
    label = draw(arrays(np.int64, st.integers(2, 40), elements=st.integers(0, 1)))
    label[:2] = [0, 1]
    score = draw(arrays(np.float64, len(label), elements=st.integers(-4, 4)))
    weight = draw(arrays(np.float64, len(label), elements=st.integers(1, 5)))
    return scored_events(score, label, weight)


@given(weighted_events())
def test_auc_and_roc_agree_with_scikit_learn(events: ScoredEvents) -> None:
    expected = roc_auc_score(events.label, events.score, sample_weight=events.weight)
    assert auc(events).value == pytest.approx(expected, abs=1e-12)
    eps_b, eps_s, thresholds = roc_curve(
        events.label, events.score, sample_weight=events.weight, drop_intermediate=False
    )
    curve = roc(events)
    np.testing.assert_allclose(curve.threshold, thresholds[1:])
    np.testing.assert_allclose(curve.eps_s, eps_s[1:])
    np.testing.assert_allclose(curve.eps_b, eps_b[1:])


@given(weighted_events())
def test_integer_weights_equal_repeated_events(events: ScoredEvents) -> None:
    times = events.weight.astype(int)
    repeated = scored_events(np.repeat(events.score, times), np.repeat(events.label, times))
    assert auc(events).value == pytest.approx(auc(repeated).value, abs=1e-12)
    ours, theirs = roc(events), roc(repeated)
    np.testing.assert_allclose(ours.eps_s, theirs.eps_s)
    np.testing.assert_allclose(ours.eps_b, theirs.eps_b)
    for eps_s in (0.1, 0.3, 0.5, 1.0):
        assert sic_at(ours, eps_s, 0).threshold == sic_at(theirs, eps_s, 0).threshold


@given(weighted_events())
def test_monotone_transforms_change_nothing(events: ScoredEvents) -> None:
    bent = scored_events(np.exp(events.score / 3) - 7, events.label, events.weight)
    assert auc(bent).value == auc(events).value
    first, second = max_sic_in_sample(roc(events), 1), max_sic_in_sample(roc(bent), 1)
    assert (first.sic, first.eps_s, first.n_background_passing) == (
        second.sic,
        second.eps_s,
        second.n_background_passing,
    )


@given(weighted_events())
def test_counts_and_efficiencies_by_plain_counting(events: ScoredEvents) -> None:
    curve = roc(events)
    for index, threshold in enumerate(curve.threshold):
        signal = events.is_signal & (events.score >= threshold)
        background = ~events.is_signal & (events.score >= threshold)
        assert curve.n_signal_passing[index] == signal.sum()
        assert curve.n_background_passing[index] == background.sum()
        share = events.weight[background].sum() / events.weight[~events.is_signal].sum()
        assert curve.eps_b[index] == pytest.approx(share)


@given(weighted_events(), st.integers(-10, 10))
def test_reading_a_foreign_cut_is_counting_what_reaches_it(
    events: ScoredEvents, twice: int
) -> None:
    threshold = twice / 2  # between and at the scores
    point = read_at(roc(events), Threshold(threshold, "test"), 1)
    passes = events.score >= threshold
    assert point.n_signal_passing == (passes & events.is_signal).sum()
    assert point.n_background_passing == (passes & ~events.is_signal).sum()


def test_two_gaussians_have_the_closed_form_auc_and_sic() -> None:
    distance = 1.5
    events = gaussians(200_000, 200_000, distance)
    assert auc(events).value == pytest.approx(norm.cdf(distance / np.sqrt(2)), abs=0.003)
    curve = roc(events)
    for eps_s in (0.1, 0.3, 0.5):
        eps_b = norm.sf(norm.isf(eps_s) + distance)
        point = sic_at(curve, eps_s, 10)
        assert point.sic == pytest.approx(eps_s / np.sqrt(eps_b), rel=0.05)
        assert point.inverse_eps_b == pytest.approx(1 / eps_b, rel=0.1)
        assert point.eps_s == pytest.approx(eps_s, abs=1e-5)


def test_random_scores_gain_nothing() -> None:
    events = gaussians(20_000, 20_000, 0.0)
    assert auc(events).value == pytest.approx(0.5, abs=0.01)
    assert sic_at(roc(events), 0.5, 10).sic == pytest.approx(np.sqrt(0.5), abs=0.02)
    assert max_sic_in_sample(roc(events), 100).sic == pytest.approx(1.0, abs=0.05)


def test_perfect_separation_reaches_the_ceiling_and_not_more() -> None:
    label = np.repeat([1, 0], [50, 400])
    events = scored_events(np.where(label == 1, 5.0, -np.arange(450)), label)
    assert auc(events).value == 1.0
    best = max_sic_in_sample(roc(events), 10)
    assert best.sic == pytest.approx(sic_ceiling(400, 10)) == pytest.approx(np.sqrt(40))
    assert best.n_background_passing == 10
    assert sic_at(roc(events), 0.5, 10).sic is None
    assert "background passing: 0" in (sic_at(roc(events), 0.5, 10).reason or "")


def test_all_ties_are_one_threshold() -> None:
    events = scored_events(np.zeros(100), np.arange(100) % 2)
    curve = roc(events)
    assert len(curve.threshold) == 1
    assert auc(events).value == 0.5
    point = sic_at(curve, 0.1, 10)
    assert (point.eps_s, point.eps_b, point.sic) == (1.0, 1.0, 1.0)


def test_sic_is_null_below_the_minimum_and_a_number_at_it() -> None:
    label = np.repeat([1, 0], 20)
    score = np.concatenate([np.full(20, 3.0), np.linspace(5, 1, 20)])
    curve = roc(scored_events(score, label))
    n_passing = int((score[label == 0] >= 3.0).sum())
    assert sic_at(curve, 0.5, n_passing).sic == pytest.approx(1 / np.sqrt(n_passing / 20))
    below = sic_at(curve, 0.5, n_passing + 1)
    assert below.sic is None
    assert below.inverse_eps_b is None
    assert below.n_background_passing == n_passing


def test_minimum_counts_effective_events_when_weights_vary() -> None:
    label = np.repeat([1, 0], [10, 20])
    weight = np.concatenate([np.ones(10), [100.0], np.ones(19)])
    curve = roc(scored_events(np.zeros(30), label, weight))
    assert curve.n_background_passing[0] == 20
    assert curve.n_background_effective[0] == pytest.approx(119**2 / (100**2 + 19))
    assert sic_at(curve, 0.5, 10).sic is None
    assert "1.4 effective" in (sic_at(curve, 0.5, 10).reason or "")


def test_negative_weights_cancel() -> None:
    events = gaussians(500, 500, 1.0)
    extra = np.linspace(-2, 3, 40)
    score = np.concatenate([events.score, extra, extra])
    label = np.concatenate([events.label, np.zeros(80, dtype=int)])
    weight = np.concatenate([events.weight, np.ones(40), -np.ones(40)])
    cancelled = scored_events(score, label, weight)
    assert auc(cancelled).value == pytest.approx(auc(events).value, abs=1e-12)
    ours, theirs = sic_at(roc(cancelled), 0.5, 10), sic_at(roc(events), 0.5, 10)
    assert ours.sic == pytest.approx(theirs.sic)


@pytest.mark.parametrize(
    ("label", "weight", "reason"),
    [
        ([1, 1, 1], None, "no background events"),
        ([0, 0, 0], None, "no signal events"),
        ([1, 0, 0], [1.0, 1.0, -1.0], "background weights do not sum"),
        ([], None, "no signal events"),
    ],
)
def test_an_absent_class_is_a_reason_and_no_number(
    label: list[int], weight: list[float] | None, reason: str
) -> None:
    events = scored_events(np.arange(len(label)), np.array(label, dtype=int), weight)
    curve = roc(events)
    found = [
        (auc(events).value, auc(events).reason),
        (sic_at(curve, 0.3, 1).sic, sic_at(curve, 0.3, 1).reason),
        (max_sic_in_sample(curve, 1).sic, max_sic_in_sample(curve, 1).reason),
        (read_at(curve, Threshold(0.0, ""), 1).sic, read_at(curve, Threshold(0.0, ""), 1).reason),
    ]
    for value, why in found:
        assert value is None
        assert reason in (why or "")


@pytest.mark.parametrize(
    ("score", "label", "weight", "message"),
    [
        (
            [0.1, np.nan],
            [0, 1],
            None,
            "llm: 1 of 2 values are not finite, the first is nan in row 1",
        ),
        ([np.inf, 0.0], [0, 1], None, "inf in row 0"),
        ([0.1, 0.2], [0, -1], None, "the first is -1 in row 1"),
        ([0.1, 0.2], [0, 1], [1.0, np.nan], "llm: weight"),
        ([0.1], [0, 1], None, "shape"),
        ([0.1, 0.2], [0, 1], [1.0], "shape"),
    ],
)
def test_bad_scores_are_named(
    score: list[float], label: list[int], weight: list[float] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        scored_events(score, label, weight, "llm")
