"""Bootstrap replicas against direct computation, coverage and pairing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from hepllm.evaluation.bootstrap import bootstrap, interval
from hepllm.evaluation.confusion import confusion
from hepllm.evaluation.metrics import Threshold, auc, read_at, roc, sic_at
from hepllm.evaluation.scores import ScoredEvents, scored_events

EFFICIENCIES = (0.1, 0.3, 0.5, 1.0)


def toy(seed: int, n: int = 60, distance: float = 1.0, digits: int = 1) -> ScoredEvents:
    generator = np.random.default_rng(seed)
    label = (np.arange(n) % 3 == 0).astype(int)
    score = np.round(generator.normal(size=n) + distance * label, digits)
    weight = generator.choice([-0.5, 0.5, 1.0, 2.0], size=n, p=[0.1, 0.3, 0.3, 0.3])
    return scored_events(score, label, weight)


@given(st.integers(0, 10_000))
def test_each_replica_is_the_metric_of_the_drawn_events(seed: int) -> None:
    """The fast path by ranks against the plain one, with ties and negative weights."""
    events, cut = toy(seed), 0.4
    replicas = bootstrap({"a": events}, {"a": [cut]}, EFFICIENCIES, 3, seed)["a"]
    generator = np.random.default_rng(seed)
    signal, background = np.flatnonzero(events.is_signal), np.flatnonzero(~events.is_signal)
    for row in range(3):
        drawn = np.concatenate(
            [part[generator.integers(len(part), size=len(part))] for part in (signal, background)]
        )
        sample = scored_events(events.score[drawn], events.label[drawn], events.weight[drawn])
        if sample.problem is not None:
            assert np.isnan(replicas.auc[row])
            continue
        assert replicas.auc[row] == pytest.approx(auc(sample).value)
        curve, point = roc(sample), read_at(roc(sample), Threshold(cut, ""), 1)
        assert replicas.eps_s[row, 0] == pytest.approx(point.eps_s)
        assert replicas.eps_b[row, 0] == pytest.approx(point.eps_b)
        assert replicas.accuracy[row, 0] == pytest.approx(confusion(sample, cut).accuracy)
        for column, eps_s in enumerate(EFFICIENCIES):
            point = sic_at(curve, eps_s, 1)
            assert replicas.eps_s_at[row, column] == pytest.approx(point.eps_s)
            assert replicas.eps_b_at[row, column] == pytest.approx(point.eps_b)


def test_equal_scores_differ_by_exactly_nothing_in_every_replica() -> None:
    events = toy(3, 500)
    same = scored_events(events.score * 2 + 1, events.label, events.weight)
    replicas = bootstrap({"a": events, "b": same}, {"a": [0.0], "b": [1.0]}, EFFICIENCIES, 50, 1)
    assert (replicas["a"].auc == replicas["b"].auc).all()
    assert (replicas["a"].sic(0) == replicas["b"].sic(0)).all()
    np.testing.assert_array_equal(replicas["a"].sic_at(), replicas["b"].sic_at())


def test_seed_decides_and_other_scores_do_not() -> None:
    events, other = toy(1, 200), toy(1, 200)
    alone = bootstrap({"a": events}, {"a": [0.0]}, (0.5,), 20, 7)["a"]
    beside = bootstrap({"a": events, "b": other}, {"a": [0.0], "b": [1.0]}, (0.5,), 20, 7)["a"]
    again = bootstrap({"a": events}, {"a": [0.0]}, (0.5,), 20, 8)["a"]
    assert (alone.auc == beside.auc).all()
    assert (alone.auc != again.auc).any()


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """90 % intervals of 200 toys; the binomial standard deviation of the coverage is 0.02."""
    distance, cut, n_toys = 1.0, 0.5, 200
    truth_auc = norm.cdf(distance / np.sqrt(2))
    truth_sic = norm.sf(cut - distance) / np.sqrt(norm.sf(cut))
    label = np.repeat([1, 0], [150, 250])
    covered = np.zeros(2)
    for index in range(n_toys):
        generator = np.random.default_rng(index)
        events = scored_events(generator.normal(size=400) + distance * label, label)
        replicas = bootstrap({"a": events}, {"a": [cut]}, (0.5,), 200, index)["a"]
        for metric, (values, truth) in enumerate(
            ((replicas.auc, truth_auc), (replicas.sic(0), truth_sic))
        ):
            low, high = interval(values, 0.9, 0.05).pair or (np.inf, -np.inf)
            covered[metric] += low <= truth <= high
    assert (covered / n_toys > 0.83).all()
    assert (covered / n_toys < 0.96).all()


def test_paired_interval_is_narrower_than_the_unpaired_one() -> None:
    generator = np.random.default_rng(5)
    label = np.repeat([1, 0], 400)
    common = generator.normal(size=800) + label
    both = {name: scored_events(common + 0.2 * generator.normal(size=800), label) for name in "ab"}
    replicas = bootstrap(both, {"a": [0.0], "b": [0.0]}, (0.5,), 300, 1)
    paired = np.std(replicas["a"].auc - replicas["b"].auc)
    unpaired = np.hypot(np.std(replicas["a"].auc), np.std(replicas["b"].auc))
    assert paired < unpaired / 2


def test_interval_is_null_when_too_many_replicas_are_undefined() -> None:
    values = np.array([np.nan] * 6 + list(range(94)))
    refused = interval(values, 0.9, 0.05)
    assert refused.pair is None
    assert refused.n_undefined == 6
    assert refused.reason == "undefined in 6 of 100 bootstrap replicas"
    accepted = interval(values, 0.9, 0.06)
    assert accepted.pair == pytest.approx(list(np.quantile(range(94), [0.05, 0.95])))


def test_missing_class_leaves_every_replica_undefined() -> None:
    events = scored_events(np.arange(5.0), np.ones(5, dtype=int))
    replicas = bootstrap({"a": events}, {"a": [0.0]}, (0.5,), 4, 1)["a"]
    assert np.isnan(replicas.auc).all()
    assert interval(replicas.auc, 0.9, 0.5).pair is None
