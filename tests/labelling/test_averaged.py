"""Averages over hypotheses, against sums written out and against a planted signal."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from hepllm.arrays import Floats
from hepllm.hypotheses.hypothesis import OPEN, parse_hypothesis
from hepllm.labelling.averaged import (
    HEAVIER,
    LIGHTER,
    SHARE,
    STEP,
    HypothesisAverage,
    with_likeliest,
)
from hepllm.labelling.methods import EventLabels
from hepllm.labelling.predictions import NO_CONTEXT, Context, Request
from hepllm.schema import UNKNOWN

PAIRS = ((200, 100), (200, 150), (400, 100))


def made(scores: Floats, wrong_share: float = 0.1) -> HypothesisAverage:
    return HypothesisAverage(lambda: scores, wrong_share, [OPEN] * len(scores))


@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_predictions_are_bayes_theorem_written_out(wrong: float) -> None:
    scores = np.random.default_rng(1).normal(0, 2, (3, 5))
    context = Context((1, 4, 2), (1, 0, 1))
    expected = []
    for target in (0, 3):
        over = under = 0.0
        for row in np.exp(scores):
            weight = 1.0
            for item, label in zip(*context, strict=True):
                ratio = {1: row[item], 0: 1.0}
                weight *= (1 - wrong) * ratio[label] + wrong * ratio[1 - label]
            over, under = over + weight * row[target], under + weight
        expected.append(np.log(over / under))
    (found,) = made(scores, wrong).log_odds([Request(context, (0, 3))])
    assert_allclose(found, expected)


def test_without_labelled_events_all_hypotheses_count_alike_and_nothing_overflows() -> None:
    scores = np.array([[0.0, 800.0], [2.0, -800.0]])
    (found,) = made(scores).log_odds([Request(NO_CONTEXT, (0, 1))])
    assert_allclose(found, [np.log((1 + np.exp(2)) / 2), 800 - np.log(2)])
    (after,) = made(scores).log_odds([Request(Context((1, 1), (0, 1)), (0,))])
    assert np.isfinite(after).all()


def test_right_labels_find_the_hypothesis_and_some_wrong_ones_do_not_mislead() -> None:
    random = np.random.default_rng(2)
    truth = np.arange(400) % 2
    place = np.where(truth == 1, random.normal(3, 0.5, 400), random.uniform(0, 10, 400))
    centres = np.linspace(0, 10, 21)[:, np.newaxis]
    density = np.exp(-0.5 * ((place - centres) / 0.5) ** 2) / (0.5 * np.sqrt(2 * np.pi))
    scores = np.log(density + 1e-12) - np.log(0.1)
    labels = truth[:16].copy()
    labels[[0, 1]] = 1 - labels[[0, 1]]
    targets = tuple(range(16, 400))
    for shown in (truth[:16], labels):
        context = Context(tuple(range(16)), tuple(shown.tolist()))
        model = made(scores)
        assert abs(centres[model.log_weights(context).argmax(), 0] - 3) <= 0.5
        assert model.likeliest(context)[1] == pytest.approx(
            np.exp(model.log_weights(context).max())
        )
        after, alone = model.log_odds([Request(context, targets), Request(NO_CONTEXT, targets)])
        assert ((after > 0) == truth[16:]).mean() > 0.85
        assert ((alone > 0) == truth[16:]).mean() < 0.7


def test_the_likeliest_masses_are_told_with_the_step_between_masses() -> None:
    points = [parse_hypothesis(f"{heavy} GeV and {light} GeV") for heavy, light in PAIRS]
    scores = np.array([[2.0, 3.0, -4.0], [0.0, 1.0, -4.0], [-3.0, -3.0, 0.0]])
    model = HypothesisAverage(lambda: scores, 0.1, points)
    labels = np.array([1, UNKNOWN, 0], dtype=np.int8)
    found = with_likeliest(EventLabels(labels, np.zeros(3)), model, np.arange(3)).details
    assert (found[HEAVIER], found[LIGHTER]) == (200, 100)
    assert found[STEP] == 2
    # Written out, of the first and the third event.
    likelihood = (0.9 * np.exp(scores[:, 0]) + 0.1) * (0.1 * np.exp(scores[:, 2]) + 0.9)
    assert found[SHARE] == pytest.approx(likelihood[0] / likelihood.sum())
