from __future__ import annotations

import numpy as np
import pytest

from hepllm.config import SelfTrainingConfig
from hepllm.errors import ConfigError, InputError
from hepllm.learning.pseudo_labels import choose_pseudo_labels, with_noise

SCORES = np.random.default_rng(1).permutation(np.arange(1000.0))
TARGETS = SCORES / 1000


def test_the_confident_band_is_that_far_from_the_border() -> None:
    config = SelfTrainingConfig(band="confident", share=0.2)
    chosen = choose_pseudo_labels(SCORES, TARGETS, (50.0, 50.0), 0.1, config)
    assert sorted(SCORES[chosen.events[chosen.is_signal]]) == list(range(980, 1000))
    assert sorted(SCORES[chosen.events[~chosen.is_signal]]) == list(range(180))
    np.testing.assert_array_equal(chosen.target, TARGETS[chosen.events])
    assert (np.diff(chosen.events) > 0).all()


def test_the_middle_band_is_around_the_median_of_each_class() -> None:
    config = SelfTrainingConfig(band="middle", share=0.2)
    chosen = choose_pseudo_labels(SCORES, TARGETS, (50.0, 50.0), 0.1, config)
    assert sorted(SCORES[chosen.events[chosen.is_signal]]) == list(range(940, 960))
    assert sorted(SCORES[chosen.events[~chosen.is_signal]]) == list(range(360, 540))


def test_weights_keep_the_balance_of_the_labelled_events() -> None:
    for labelled, weight, repeats in (((40.0, 10.0), 4.0, 1), ((4.0, 1.0), 2.0, 20)):
        config = SelfTrainingConfig(share=0.2, weight=weight)
        chosen = choose_pseudo_labels(SCORES, TARGETS, labelled, 0.1, config)
        assert chosen.repeats == repeats
        factor = weight * repeats
        assert chosen.weight[~chosen.is_signal].sum() == pytest.approx(factor * labelled[0])
        assert chosen.weight[chosen.is_signal].sum() == pytest.approx(factor * labelled[1])
        assert chosen.weight.mean() == pytest.approx(1)


def test_too_few_events_are_refused() -> None:
    with pytest.raises(InputError, match=r"5 pseudo-labelled .* raise train\.self_training\.share"):
        choose_pseudo_labels(SCORES, TARGETS, (1.0, 1.0), 0.01, SelfTrainingConfig(share=0.5))


def test_noise_has_its_strength_and_stays_with_the_rarer_class() -> None:
    random = np.random.default_rng(2)
    features = random.normal(size=(4000, 2)) * (1, 50)
    features[7, 0] = np.nan
    rarer = np.arange(4000) % 4 == 0
    noisy = with_noise(features, rarer, 0.5, 1, 1)
    np.testing.assert_array_equal(noisy[~rarer], features[~rarer])
    moved = (noisy - features)[rarer].std(axis=0)
    np.testing.assert_allclose(moved, [0.5, 25], rtol=0.1)
    assert np.isnan(noisy[7, 0]) == np.isnan(features[7, 0])
    np.testing.assert_array_equal(with_noise(features, rarer, 0.5, 1, 1), noisy)
    assert not np.array_equal(with_noise(features, rarer, 0.5, 1, 2), noisy, equal_nan=True)


def test_rounds_need_a_prior_and_no_decorrelation(tiny_config) -> None:  # type: ignore[no-untyped-def]
    rounds = "train.self_training.rounds=1"
    with pytest.raises(ConfigError, match=r"self_training\.rounds needs unsupervised\.prior"):
        tiny_config(rounds)
    with pytest.raises(ConfigError, match="goes with no decorrelation"):
        tiny_config(rounds, "train.unsupervised.prior=0.1", "train.loss.disco=1")
