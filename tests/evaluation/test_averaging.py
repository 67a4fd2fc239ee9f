"""The mean and the spread of members, and the record of their maps to logits."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from hepllm.errors import InputError
from hepllm.evaluation.averaging import LogitMap, combine
from hepllm.evaluation.calibration import expit, fit_calibration
from hepllm.evaluation.scores import ScoredEvents


def test_score_and_spread_are_mean_and_deviation_of_each_event() -> None:
    logits = np.random.default_rng(1).normal(size=(3, 5))
    score, spread = combine(dict(zip("abc", logits, strict=True)))
    for event, members in enumerate(logits.T.tolist()):
        assert score[event] == pytest.approx(statistics.mean(members))
        assert spread[event] == pytest.approx(statistics.stdev(members))


def test_the_mean_is_the_normalised_geometric_mean_of_the_odds() -> None:
    probabilities = np.array([[0.9], [0.2], [0.4]])
    for_signal, against = np.prod(probabilities) ** (1 / 3), np.prod(1 - probabilities) ** (1 / 3)
    logits = np.log(probabilities / (1 - probabilities))
    score, _ = combine(dict(zip("abc", logits, strict=True)))
    assert expit(score)[0] == pytest.approx(for_signal / (for_signal + against))


def test_one_member_is_no_ensemble() -> None:
    with pytest.raises(InputError, match="at least two members"):
        combine({"a": np.zeros(4)})


@pytest.mark.parametrize("method", ["none", "temperature", "platt", "beta", "isotonic"])
def test_a_map_from_a_file_is_the_map(method: str) -> None:
    random = np.random.default_rng(2)
    label = np.arange(400) % 2
    scores = random.normal(0.7 * label, 1)
    fitted = fit_calibration(ScoredEvents(scores, label, np.ones(400)), method, 0.3)  # type: ignore[arg-type]
    record = LogitMap.model_validate_json(LogitMap.of(fitted).model_dump_json())
    where = np.linspace(-5, 5, 101)
    np.testing.assert_array_equal(
        record.calibration().logits(where, 0.01), fitted.logits(where, 0.01)
    )
