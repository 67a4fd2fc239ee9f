"""Baselines that are given the hypothesis: their inputs by hand, and what they gain by them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from hepllm.baselines.fitting import BASELINES, fit_baselines, possible_baselines
from hepllm.baselines.hypothesis import hypothesis_columns, jet_masses
from hepllm.baselines.scorer import TrainingSample
from hepllm.evaluation.metrics import auc
from hepllm.evaluation.scores import scored_events
from hepllm.hypotheses.hypothesis import OPEN, Hypothesis, parse_hypothesis
from hepllm.hypotheses.signal import DECAYS

NAMES = ("jet_mass_light", "jet_mass_delta")
GIVEN = ["boosting_hypothesis", "boosting_differences"]


def objects(hypotheses: Sequence[Hypothesis]) -> np.ndarray:
    array = np.empty(len(hypotheses), dtype=object)
    array[:] = hypotheses
    return array


def test_columns_are_logarithms_of_masses_and_of_their_ratios() -> None:
    stated = parse_hypothesis("X of 80 GeV to bb, Y of 0.3 TeV to qqq")
    features = np.array([[50.0, 200.0], [np.nan, 10.0]])
    found = hypothesis_columns(features, NAMES, objects([stated, OPEN]), True)
    assert found.shape == (2, 4 + 2 * len(DECAYS) + 4)
    np.testing.assert_allclose(found[0, :4], [np.log(300), np.log(80), 3, 2])
    assert found[0, 4:14].nonzero()[0].tolist() == [
        DECAYS.index("qqq"),
        len(DECAYS) + DECAYS.index("bb"),
    ]
    np.testing.assert_allclose(
        found[0, 14:], np.log([250 / 300, 250 / 80, 50 / 300, 50 / 80]), rtol=1e-12
    )
    assert np.isnan(found[1, [0, 1, 2, 3, 14, 15, 16, 17]]).all()
    assert not found[1, 4:14].any()


def test_without_a_hypothesis_columns_are_those_of_the_open_one() -> None:
    features = np.array([[50.0, 200.0]])
    open_one = hypothesis_columns(features, NAMES, objects([OPEN]), True)
    np.testing.assert_array_equal(hypothesis_columns(features, NAMES, None, True), open_one)


def test_jet_masses_are_ordered_whatever_features_tell_them() -> None:
    names = ("jet1_mass", "tau21_light", "jet2_mass")
    by_jet = jet_masses(np.array([[50.0, 7.0, 250.0], [9.0, 7.0, 3.0]]), names)
    np.testing.assert_array_equal(by_jet, [[250, 50], [9, 3]])
    np.testing.assert_array_equal(jet_masses(np.array([[50.0, 200.0]]), NAMES), [[250, 50]])


def grid_events(n: int, masses: np.ndarray, seed: int) -> TrainingSample:
    """Signal whose heavier jet has the stated mass up to 5 %, background of any mass."""
    random = np.random.default_rng(seed)
    label = np.arange(n) % 2
    stated = random.choice(masses, size=n)
    measured = np.where(label == 1, stated * random.normal(1, 0.05, n), random.uniform(60, 900, n))
    known = {mass: parse_hypothesis(f"jets of {mass:g} GeV and 40 GeV") for mass in masses}
    hypothesis = objects([known[mass] for mass in stated])
    light = random.uniform(20, 60, n)
    features = np.column_stack([light, np.maximum(measured - light, 0)])
    return TrainingSample(features, NAMES, label, hypothesis=hypothesis)


def test_a_stated_mass_that_was_never_trained_on_helps() -> None:
    training = grid_events(8000, np.arange(100.0, 820.0, 20.0), 1)
    unseen = grid_events(4000, np.array([250.0, 370.0, 510.0, 690.0]), 2)
    fitted = fit_baselines(training, ["boosting", *GIVEN, "mlp_differences"])
    areas = {
        name: auc(scored_events(one.score(unseen.features, unseen.hypothesis), unseen.label)).value
        for name, one in fitted.items()
    }
    assert areas["boosting"] < 0.65  # signal of all masses together looks like the background
    assert areas["boosting_hypothesis"] > 0.85
    # Background is as near by chance as 0.05 of 840 GeV allows: the best AUC is 0.93 to 0.97.
    assert areas["boosting_differences"] > areas["boosting_hypothesis"]
    assert areas["mlp_differences"] > 0.85


def test_classifiers_without_hypotheses_ignore_them() -> None:
    training = grid_events(400, np.array([200.0, 300.0]), 1)
    for name in ("boosting", "logistic"):
        (one,) = fit_baselines(training, [name]).values()
        np.testing.assert_array_equal(
            one.score(training.features, training.hypothesis), one.score(training.features)
        )


def test_hypotheses_change_the_scores_of_those_that_read_them() -> None:
    training = grid_events(2000, np.array([200.0, 700.0]), 1)
    swapped = training.hypothesis[::-1]  # type: ignore[index]
    for one in fit_baselines(training, GIVEN).values():
        score = one.score(training.features, training.hypothesis)
        assert (score != one.score(training.features, swapped)).mean() > 0.3
        assert np.isfinite(one.score(training.features)).all()


@pytest.mark.parametrize(
    ("features", "hypotheses", "left"),
    [
        (NAMES, True, ["boosting", *GIVEN]),
        (("tau21_light",), True, ["boosting", "boosting_hypothesis"]),
        (NAMES, False, ["boosting"]),
    ],
)
def test_baselines_that_lack_something_are_left_out(
    features: tuple[str, ...], hypotheses: bool, left: list[str]
) -> None:
    names = ["boosting", *GIVEN]
    assert possible_baselines(names, features, hypotheses=hypotheses) == left
    assert set(names) <= set(BASELINES)
