from __future__ import annotations

import numpy as np
import pytest

from hepllm.learning.curriculum import Curriculum


@pytest.fixture
def curriculum() -> Curriculum:
    return Curriculum(np.random.default_rng(1).permutation(1000) / 1000, start=0.2, n_steps=50)


def test_competence_rises_from_its_start_to_all_events(curriculum: Curriculum) -> None:
    found = [curriculum.competence(step) for step in range(60)]
    assert found[0] == pytest.approx(0.2)
    assert (np.diff(found[:51]) > 0).all()
    assert found[50:] == [1.0] * 10
    squares = np.square(found[:51])
    np.testing.assert_allclose(np.diff(squares), (1 - 0.04) / 50)


def test_a_step_chooses_from_the_easiest_and_repeats_itself(curriculum: Curriculum) -> None:
    batch = curriculum.batch(10, 64, seed=3)
    assert batch is not None
    assert len(set(batch.tolist())) == 64
    assert curriculum.rank[batch].max() < curriculum.competence(10)
    again = curriculum.batch(10, 64, seed=3)
    np.testing.assert_array_equal(batch, again)
    other = curriculum.batch(11, 64, seed=3)
    assert other is not None
    assert set(batch.tolist()) != set(other.tolist())
    assert curriculum.batch(50, 64, seed=3) is None


def test_a_batch_that_is_larger_than_the_choice_has_the_easiest(curriculum: Curriculum) -> None:
    batch = curriculum.batch(0, 300, seed=3)
    assert batch is not None
    assert curriculum.rank[batch].max() == pytest.approx(0.299)
