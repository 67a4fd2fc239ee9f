"""The boosting against the optimum of Gaussian classes, and its limits."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.stats import norm, spearmanr

from hepllm.baselines.boosting import Boosting, fit_boosting
from hepllm.baselines.cut import CUT_FEATURES, fit_cut
from hepllm.baselines.fitting import BASELINES, fit_baselines
from hepllm.baselines.logistic import fit_logistic
from hepllm.baselines.mlp import fit_network
from hepllm.baselines.particles import PARTICLES
from hepllm.baselines.scorer import Fit, TrainingSample
from hepllm.config import FusionConfig
from hepllm.config.evaluation import Baseline
from hepllm.errors import InputError
from hepllm.evaluation.metrics import auc
from hepllm.evaluation.scores import scored_events
from hepllm.hypotheses.hypothesis import parse_hypothesis


def sample(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two Gaussian features one standard deviation apart each, and one of noise."""
    generator = np.random.default_rng(seed)
    label = np.arange(n) % 2
    features = generator.normal(size=(n, 3))
    features[:, :2] += label[:, None]
    return features, label


def boost(features: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None) -> Boosting:
    return fit_boosting(TrainingSample(features, (), label, weight))


@pytest.mark.parametrize("n", [1000, 20_000])
def test_boosting_comes_near_the_best_possible_auc(n: int) -> None:
    features, label = sample(n, 1)
    unseen, truth = sample(10_000, 2)
    score = boost(features, label).score(unseen)
    best = norm.cdf(1.0)  # distance sqrt(2) over sqrt(2)
    assert auc(scored_events(score, truth)).value == pytest.approx(best, abs=0.025)


def test_score_is_a_logit_in_the_training_balance() -> None:
    features, label = sample(20_000, 1)
    score = boost(features, label).score(sample(20_000, 2)[0])
    assert np.mean(1 / (1 + np.exp(-score))) == pytest.approx(0.5, abs=0.02)


def test_missing_values_are_information() -> None:
    features, label = sample(600, 1)
    hidden = np.where((label == 1)[:, None], features, np.nan)
    score = boost(hidden, label).score(hidden)
    assert auc(scored_events(score, label)).value == 1.0


def test_weights_move_the_score_and_may_be_negative() -> None:
    features, label = sample(4000, 1)
    weight = np.where(label == 1, 3.0, 1.0)
    plain = boost(features, label).score(features)
    heavy = boost(features, label, weight).score(features)
    assert np.mean(heavy - plain) == pytest.approx(np.log(3), abs=0.2)
    negative = np.where(np.arange(4000) % 10 == 0, -0.5, 1.0)
    signed = boost(features, label, negative).score(sample(4000, 2)[0])
    assert auc(scored_events(signed, label)).value == pytest.approx(norm.cdf(1.0), abs=0.03)


def events(n: int, seed: int) -> TrainingSample:
    """Jets whose masses and tau21 tell the classes apart, with some numbers missing."""
    generator = np.random.default_rng(seed)
    label = np.arange(n) % 2
    mass = np.where(label == 1, 100, 60) * generator.gamma(4, 0.25, n)
    delta = np.where(label == 1, 400, 150) * generator.gamma(4, 0.25, n)
    tau = generator.beta(4, 4, (n, 2)) * np.where(label == 1, 0.7, 1.0)[:, None]
    features = np.column_stack([mass, delta, tau])
    features[generator.random(features.shape) < 0.02] = np.nan
    return TrainingSample(features, CUT_FEATURES, label, seed=4)


def shown(n: int, seed: int) -> TrainingSample:
    """The same, shown under one of two hypotheses."""
    two = [parse_hypothesis(text) for text in ("jets of 300 and 100 GeV", "jets of 90 and 80 GeV")]
    hypothesis = np.empty(n, dtype=object)
    hypothesis[:] = [two[number % 3 % 2] for number in range(n)]
    return replace(events(n, seed), hypothesis=hypothesis)


def test_seed_reproduces_every_registered_baseline() -> None:
    training = shown(600, 1)
    state = torch.random.get_rng_state()
    first, second = (fit_baselines(training, list(BASELINES)) for _ in range(2))
    of_particles = {PARTICLES}  # reads no features
    assert set(first) == set(get_args(Baseline)) - of_particles
    for name, fitted in first.items():
        scores = fitted.score(training.features, training.hypothesis)
        assert (scores == second[name].score(training.features, training.hypothesis)).all()
        assert scores.shape == (600,)
        assert np.isfinite(scores).all()
    assert (torch.random.get_rng_state() == state).all()


def test_every_baseline_learns_and_the_cut_is_no_better_than_what_is_trained() -> None:
    unseen = events(6000, 2)
    area = {
        name: auc(scored_events(fitted.score(unseen.features), unseen.label)).value or 0.0
        for name, fitted in fit_baselines(events(6000, 1), list(BASELINES)).items()
    }
    assert area["mlp"] == pytest.approx(area["boosting"], abs=0.02)
    assert min(area.values()) > 0.65
    assert area["cut"] < max(area.values())


@pytest.mark.parametrize("fit", [fit_network, fit_logistic])
def test_network_and_regression_come_near_the_best_possible_auc(fit: Fit) -> None:
    features, label = sample(20_000, 1)
    names = ("tau21_light", "tau21_heavy", "jet1_tau32")
    unseen, truth = sample(10_000, 2)
    score = fit(TrainingSample(features, names, label)).score(unseen)
    assert auc(scored_events(score, truth)).value == pytest.approx(norm.cdf(1.0), abs=0.012)
    assert np.mean(1 / (1 + np.exp(-score))) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("fit", [fit_network, fit_logistic])
def test_network_and_regression_take_weights_and_missing_values(fit: Fit) -> None:
    features, label = sample(4000, 1)
    names = ("tau21_light", "tau21_heavy", "jet1_tau32")
    small = FusionConfig(hidden_size=32, embedding_size=4, n_frequencies=4)
    weight = np.where(label == 1, 3.0, 1.0)
    plain, heavy = (
        fit(TrainingSample(features, names, label, w, fusion=small)).score(features)
        for w in (None, weight)
    )
    assert np.mean(heavy - plain) == pytest.approx(np.log(3), abs=0.25)
    hidden = np.where((label == 1)[:, None], features, np.nan)
    score = fit(TrainingSample(hidden, names, label, fusion=small)).score(hidden)
    assert auc(scored_events(score, label)).value == pytest.approx(1.0)
    signed = np.where(np.arange(4000) % 10 == 0, -0.5, 1.0)
    score = fit(TrainingSample(features, names, label, signed, fusion=small)).score(features)
    assert auc(scored_events(score, label)).value == pytest.approx(norm.cdf(1.0), abs=0.03)


def test_cut_is_what_it_says() -> None:
    training = events(4000, 1)
    cut = fit_cut(training)
    unseen = events(4000, 2).features
    mass, delta, light, heavy = unseen.T
    for t in (0.3, 0.5):
        passes = (mass >= cut.mass_min) & (delta >= cut.delta_min) & (light <= t) & (heavy <= t)
        np.testing.assert_array_equal(cut.score(unseen) >= -t, passes)
    assert cut.delta_min > 0


def test_cut_is_left_out_without_its_features(caplog: pytest.LogCaptureFixture) -> None:
    whole = events(200, 1)
    part = TrainingSample(whole.features[:, :3], CUT_FEATURES[:3], whole.label)
    with caplog.at_level("INFO", "hepllm"):
        assert list(fit_baselines(part, ["cut", "logistic"])) == ["logistic"]
    assert "no baseline 'cut'" in caplog.text


def test_unfit_training_events_are_refused() -> None:
    features, label = sample(200, 1)
    few = np.zeros(200, dtype=int)
    few[:19] = 1
    with pytest.raises(InputError, match="found 19 signal events"):
        boost(features, few)
    with pytest.raises(InputError, match="must be 1 or 0"):
        boost(features, label - 1)
    with pytest.raises(InputError, match="do not fit"):
        boost(features[:5], label)
    with pytest.raises(InputError, match="background weights"):
        boost(features, label, np.where(label == 0, -1.0, 1.0))
    features[7, 0] = np.inf
    with pytest.raises(InputError, match="infinite in 1 rows, the first is 7"):
        boost(features, label)


def test_a_feature_that_is_always_missing_changes_nothing() -> None:
    random = np.random.default_rng(1)
    label = np.arange(200) % 2
    features = random.normal(size=(200, 2)) + label[:, np.newaxis]
    with_gap = np.column_stack([features[:, 0], np.full(200, np.nan), features[:, 1]])
    plain = boost(features, label).score(features)
    np.testing.assert_array_equal(boost(with_gap, label).score(with_gap), plain)


def test_a_network_with_disco_follows_m_jj_less() -> None:
    sample = events(3000, 1)
    background = sample.label == 0
    m_jj = 2600 + 10 * np.nan_to_num(sample.features[:, 1], nan=100.0)  # of the mass difference
    correlations = []
    for strength in (0.0, 30.0):
        scorer = fit_network(replace(sample, disco=strength, m_jj=m_jj))
        score = scorer.score(sample.features)
        correlations.append(abs(spearmanr(score[background], m_jj[background]).statistic))
    assert correlations[1] < correlations[0] / 2
