"""The mean and the spread of members."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from hepllm.errors import InputError
from hepllm.evaluation.averaging import combine
from hepllm.evaluation.calibration import expit


def test_score_and_spread_are_mean_and_deviation_of_each_event() -> None:
    logits = np.random.default_rng(1).normal(size=(3, 5))
    found = combine(logits)
    for event, members in enumerate(logits.T.tolist()):
        assert found.score[event] == pytest.approx(statistics.mean(members))
        assert found.spread[event] == pytest.approx(statistics.stdev(members))


def test_the_mean_is_the_normalised_geometric_mean_of_the_odds() -> None:
    probabilities = np.array([[0.9], [0.2], [0.4]])
    for_signal, against = np.prod(probabilities) ** (1 / 3), np.prod(1 - probabilities) ** (1 / 3)
    found = combine(np.log(probabilities / (1 - probabilities)))
    assert expit(found.score)[0] == pytest.approx(for_signal / (for_signal + against))


def test_one_member_is_no_ensemble() -> None:
    with pytest.raises(InputError, match="at least two members"):
        combine(np.zeros((1, 4)))
