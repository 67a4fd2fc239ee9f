from __future__ import annotations

import numpy as np
import pytest

from hepllm.cartography.priority import find_copies, mean_of_known, prioritise


def test_copies_are_all_but_the_first_and_conflicts_are_all() -> None:
    digests = np.array([7, 5, 7, 9, 5, 7], dtype=np.uint64)
    found = find_copies(digests, np.array([0, 1, 0, 1, 0, 0], dtype=np.int8))
    np.testing.assert_array_equal(found.first, [0, 1, 0, 3, 1, 0])
    np.testing.assert_array_equal(found.is_copy, [0, 0, 1, 0, 1, 1])
    np.testing.assert_array_equal(found.has_conflict, [0, 1, 0, 0, 1, 0])


def test_an_unknown_label_contradicts_none() -> None:
    digests = np.array([7, 7, 5, 5, 5, 9, 9], dtype=np.uint64)
    found = find_copies(digests, np.array([1, -1, 1, -1, 0, -1, -1], dtype=np.int8))
    np.testing.assert_array_equal(found.has_conflict, [0, 0, 1, 1, 1, 0, 0])


def test_the_mean_is_of_the_known_values() -> None:
    nan = np.nan
    found = mean_of_known([np.array([1.0, nan, nan]), np.array([3.0, 2.0, nan])])
    np.testing.assert_array_equal(found, [2.0, 2.0, nan])


def test_what_cannot_be_comes_before_all_doubts() -> None:
    copies = find_copies(np.array([1, 1, 2, 3, 4, 5], dtype=np.uint64), np.ones(6, dtype=np.int8))
    broken = {
        "same_event": np.array([1, 1, 0, 0, 0, 0], dtype=bool),
        "one_particle": np.array([0, 0, 0, 0, 0, 1], dtype=bool),
        # Its doubts are those of the margins.
        "unlike_neighbours": np.array([0, 0, 1, 1, 0, 0], dtype=bool),
    }
    margins = [np.array([9.0, 9, -3, 4, np.nan, 0]), np.array([9.0, 9, -5, np.nan, np.nan, 0])]
    found = prioritise(broken, copies, margins, systematic=0.5)
    np.testing.assert_array_equal(found.faults, [0, 1, 0, 0, 0, 0.5])
    assert found.doubt[2] == pytest.approx(1 / (1 + np.exp(-4)))
    assert found.doubt[3] == pytest.approx(1 / (1 + np.exp(4)))
    assert found.doubt[4] == 0
    np.testing.assert_array_equal(found.review(1.0), [1, 5, 2, 3, 0])
    np.testing.assert_array_equal(found.review(0.3), [1, 5])
    assert np.isnan(found.margin[4])


def test_a_rule_that_many_break_is_systematic() -> None:
    copies = find_copies(np.arange(4, dtype=np.uint64), np.ones(4, dtype=np.int8))
    broken = {"below_trigger": np.array([1, 1, 0, 0], dtype=bool)}
    found = prioritise(broken, copies, [], systematic=0.4)
    assert found.systematic == ("below_trigger",)
    assert not found.faults.any()
    assert not len(found.review(1.0))
    assert prioritise(broken, copies, [], systematic=0.5).faults.sum() == 2


def test_equal_events_of_other_labels_are_faults_without_any_rule() -> None:
    copies = find_copies(np.array([1, 1], dtype=np.uint64), np.array([0, 1], dtype=np.int8))
    np.testing.assert_array_equal(prioritise({}, copies, [], 0.1).faults, [1, 1])
