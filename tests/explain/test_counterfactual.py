"""Counterfactual changes: they flip, they are the smallest, and they stay where events are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepllm.explain.counterfactual import FeatureSpace, feature_space, find_counterfactuals

NAMES = ("tau21_light", "tau21_heavy", "jet_mass_light", "jet1_n_particles")
TRAINING = np.column_stack(
    [
        np.random.default_rng(1).uniform(0, 1, 500),
        np.random.default_rng(2).uniform(0, 1, 500),
        np.random.default_rng(3).gamma(3.0, 40.0, 500),
        np.random.default_rng(4).integers(20, 200, 500).astype(float),
    ]
)
ROW = np.array([0.5, 0.4, 90.0, 80.0])


@pytest.fixture(scope="module")
def space() -> FeatureSpace:
    return feature_space(NAMES, TRAINING)


class Linear:
    """A score that is linear in standardised space."""

    def __init__(self, space: FeatureSpace, weights: list[float], offset: float = 0.0) -> None:
        self.space, self.weights, self.offset = space, np.array(weights), offset

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        moved = self.space.standardise(rows) - self.space.standardise(ROW)
        return np.nan_to_num(moved) @ self.weights + self.offset


def test_the_space_is_that_of_the_training_events(space: FeatureSpace) -> None:
    standard = space.standardise(TRAINING)
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(standard.std(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(space.restore(standard), TRAINING, rtol=1e-5)
    np.testing.assert_array_equal(space.low, TRAINING.min(axis=0))
    np.testing.assert_array_equal(space.high, TRAINING.max(axis=0))


@pytest.mark.parametrize("offset", [-0.4, 0.4])
def test_a_linear_score_has_the_known_smallest_changes(offset: float, space: FeatureSpace) -> None:
    weights = [1.0, -0.8, 0.6, 0.0]
    score = Linear(space, weights, offset)
    found = find_counterfactuals(score, ROW, 0.0, space)
    assert found.single is not None
    assert found.several is not None
    (change,) = found.single.changes
    assert change.name == "tau21_light"
    assert found.single.distance == pytest.approx(0.4, abs=0.01)
    assert np.sign(change.standardised) == -np.sign(offset)
    assert {one.name for one in found.several.changes} == set(NAMES[:3])
    assert found.several.distance == pytest.approx(0.4 / np.sqrt(2.0), abs=0.01)


@settings(max_examples=40)
@given(
    st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    st.floats(-1.5, 1.5),
)
def test_what_is_found_crosses_and_stays_among_the_training_values(
    weights: list[float], threshold: float
) -> None:
    space = feature_space(NAMES, TRAINING)

    def score(rows: np.ndarray) -> np.ndarray:
        linear = Linear(space, weights)(rows)
        return linear + np.sin(3 * linear) * 0.4

    found = find_counterfactuals(score, ROW, threshold, space)
    is_above = score(ROW[np.newaxis])[0] >= threshold
    for one in (found.single, found.several):
        if one is None:
            continue
        changed = ROW.copy()
        for change in one.changes:
            place = NAMES.index(change.name)
            assert change.before == ROW[place]
            assert space.low[place] <= change.after <= space.high[place]
            changed[place] = change.after
        assert (score(changed[np.newaxis])[0] >= threshold) != is_above
        assert score(changed[np.newaxis])[0] == pytest.approx(one.score)
        moved = space.standardise(changed) - space.standardise(ROW)
        assert one.distance == pytest.approx(np.linalg.norm(moved))
        assert changed[3] == round(changed[3])
    if found.single is not None and found.several is not None:
        assert found.several.distance < found.single.distance
        assert len(found.several.changes) <= 3


def test_out_of_reach_is_said(space: FeatureSpace) -> None:
    found = find_counterfactuals(Linear(space, [1.0, 1.0, 0.0, 0.0]), ROW, 100.0, space)
    assert (found.single, found.several) == (None, None)
    ignored = find_counterfactuals(Linear(space, [0.0] * 4), ROW, 0.1, space)
    assert (ignored.single, ignored.several) == (None, None)


def test_several_reach_what_one_cannot(space: FeatureSpace) -> None:
    # The largest change of one alone is worth less than 1.8 in this range of width sqrt(12).
    found = find_counterfactuals(Linear(space, [1.0, 1.0, 0.0, 0.0]), ROW, 2.5, space)
    assert found.single is None
    assert found.several is not None
    assert {change.name for change in found.several.changes} == set(NAMES[:2])


def test_a_missing_value_is_not_changed(space: FeatureSpace) -> None:
    row = ROW.copy()
    row[0] = np.nan
    found = find_counterfactuals(Linear(space, [5.0, 1.0, 0.0, 0.0]), row, 0.5, space)
    assert found.single is not None
    assert [change.name for change in found.single.changes] == ["tau21_heavy"]
    if found.several is not None:
        assert "tau21_light" not in [change.name for change in found.several.changes]
