from __future__ import annotations

import numpy as np
import pytest

from hepllm.errors import InputError
from hepllm.weak.flow_features import fit_features, fit_marks


@pytest.fixture
def events() -> np.ndarray:
    """Six features: bounded, integer, with gaps, with a spike, constant, and never present."""
    generator = np.random.default_rng(1)
    table = np.empty((3000, 6))
    table[:, 0] = generator.random(3000)
    table[:, 1] = generator.poisson(40, 3000)
    table[:, 2] = np.where(generator.random(3000) < 0.2, np.nan, generator.normal(5, 2, 3000))
    table[:, 3] = np.where(generator.random(3000) < 0.1, 0.0, generator.exponential(1, 3000))
    table[:, 4] = 7.0
    table[:, 5] = np.nan
    return table


def test_there_and_back(events: np.ndarray) -> None:
    transformation = fit_features(events)
    marks = transformation.marks(events)
    values = transformation.forward(events, np.random.default_rng(2))
    np.testing.assert_allclose(transformation.inverse(values, marks), events, rtol=1e-6, atol=1e-9)


def test_what_the_flow_sees_is_finite_and_standard(events: np.ndarray) -> None:
    transformation = fit_features(events)
    values = transformation.forward(events, np.random.default_rng(2))
    assert values.shape == (3000, 4)
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=0.1)
    np.testing.assert_allclose(values.std(axis=0), 1, atol=0.1)


def test_marks_are_the_absent_values_and_the_spike(events: np.ndarray) -> None:
    marks = fit_features(events).marks(events)
    np.testing.assert_array_equal(marks[:, 0], np.isnan(events[:, 2]))
    np.testing.assert_array_equal(marks[:, 1], events[:, 3] == 0)


def test_samples_stay_in_the_range_of_the_features(events: np.ndarray) -> None:
    transformation = fit_features(events)
    wild = 5 * np.random.default_rng(3).standard_normal((10_000, 4))
    drawn = transformation.inverse(wild, np.zeros((10_000, 2), dtype=bool))
    assert (drawn[:, 0] > -0.01).all()
    assert (drawn[:, 0] < 1.01).all()
    assert set(np.unique(drawn[:, 1])) <= set(range(int(events[:, 1].max()) + 1))
    assert (drawn[:, 4] == 7).all()
    assert np.isnan(drawn[:, 5]).all()


def test_absences_are_interpolated_in_m_jj() -> None:
    generator = np.random.default_rng(4)
    condition = np.concatenate([generator.uniform(-2, -1, 20_000), generator.uniform(1, 2, 20_000)])
    absent = generator.random(40_000) < 1 / (1 + np.exp(1 - condition))
    model = fit_marks(absent[:, None], condition)
    drawn = model.draw(np.zeros(50_000), generator)
    assert drawn.mean() == pytest.approx(1 / (1 + np.e), abs=0.015)


def test_rare_patterns_keep_their_share() -> None:
    generator = np.random.default_rng(5)
    marks = np.zeros((10_000, 2), dtype=bool)
    marks[:4000, 0] = True
    marks[4000:4030, 1] = True
    marks[4030:4040] = True
    drawn = fit_marks(marks, generator.standard_normal(10_000)).draw(np.zeros(200_000), generator)
    assert (drawn[:, 0] & ~drawn[:, 1]).mean() == pytest.approx(0.4, abs=0.02)
    assert (~drawn[:, 0] & drawn[:, 1]).mean() == pytest.approx(0.003, abs=0.001)
    assert drawn.all(axis=1).mean() == pytest.approx(0.001, abs=0.0005)


def test_refusals() -> None:
    infinite = np.array([[1.0], [np.inf], [2.0]])
    with pytest.raises(InputError, match="infinite in 1 rows, the first is 1"):
        fit_features(infinite)
    with pytest.raises(InputError, match="no feature varies"):
        fit_features(np.full((10, 2), 3.0))
