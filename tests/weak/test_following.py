from __future__ import annotations

import numpy as np
import pytest

from hepllm.physics.derivation import derive_features
from hepllm.physics.events import TabulatedEvents
from hepllm.schema import EXTENDED_FEATURES, feature_names
from hepllm.weak.following import find_following

SEARCH = feature_names("search")
FOLLOW = {
    *("jet1_tau21", "jet1_tau32", "jet2_tau21", "jet2_tau32"),
    *("jet_mass_light", "jet_mass_delta", "tau21_light", "tau21_heavy"),
}


@pytest.fixture
def table() -> np.ndarray:
    """Features of 500 events as a dataset has them, some third jets absent."""
    generator = np.random.default_rng(1)
    values = {name: generator.uniform(0.1, 0.9, 500) for name in SEARCH if name not in FOLLOW}
    values |= {name: generator.uniform(50, 500, 500) for name in ("jet1_mass", "jet2_mass")}
    values["jet3_mass"][::3] = np.nan
    derived = derive_features(TabulatedEvents(values, np.zeros(500, dtype=np.uint64)))
    return np.column_stack([derived[name] for name in SEARCH])


def test_what_follows_is_computed_and_nothing_else(table: np.ndarray) -> None:
    found = find_following(SEARCH, table)
    learnt = {SEARCH[index] for index in found.learnt}
    assert learnt == set(SEARCH) - FOLLOW
    np.testing.assert_allclose(found.complete(found.coordinates(table)), table)


def test_a_definition_that_does_not_hold_is_not_used(table: np.ndarray) -> None:
    changed = SEARCH.index("jet1_tau21")
    table[:, changed] *= 1.2
    learnt = {SEARCH[index] for index in find_following(SEARCH, table).learnt}
    assert "jet1_tau21" in learnt
    assert "jet2_tau21" not in learnt


def test_the_four_features_of_cathode_are_all_learnt() -> None:
    names = feature_names("cathode")
    found = find_following(names, np.random.default_rng(2).random((100, 4)))
    np.testing.assert_array_equal(found.learnt, np.arange(4))


def test_extended_subjettiness_that_the_jets_have_is_not_learnt_twice(table: np.ndarray) -> None:
    first_is_light = table[:, SEARCH.index("jet1_mass")] <= table[:, SEARCH.index("jet2_mass")]
    of_jets = [table[:, SEARCH.index(f"jet{jet}_tau2")] for jet in (1, 2)]
    light = np.where(first_is_light, *of_jets)
    assert "tau2_b1_light" in EXTENDED_FEATURES
    names = (*SEARCH, "tau2_b1_light", "tau2_b2_light")
    full = np.column_stack([table, light, light**2])
    found = find_following(names, full)
    learnt = {names[index] for index in found.learnt}
    assert "tau2_b1_light" not in learnt
    assert "tau2_b2_light" in learnt
    np.testing.assert_allclose(found.complete(found.coordinates(full)), full)


def test_unknown_names_are_learnt() -> None:
    rows = np.random.default_rng(3).random((50, 2))
    found = find_following(["mine", "yours"], rows)
    np.testing.assert_array_equal(found.complete(found.coordinates(rows)), rows)


def test_subjettiness_is_learnt_as_a_ratio(table: np.ndarray) -> None:
    table[0, [SEARCH.index(f"jet1_tau{n}") for n in (1, 2, 3)]] = 0.0
    table[0, [SEARCH.index(name) for name in ("jet1_tau21", "jet1_tau32")]] = 0.0
    found = find_following(SEARCH, table)
    coordinates = found.coordinates(table)
    place = found.learnt.tolist().index(SEARCH.index("jet1_tau3"))
    np.testing.assert_allclose(coordinates[1:, place], table[1:, SEARCH.index("jet1_tau32")])
    assert np.isfinite(coordinates[0, place])
    back = found.complete(coordinates)
    np.testing.assert_allclose(back[:, found.learnt], table[:, found.learnt])


def test_a_ratio_to_what_is_absent_is_not_learnt(table: np.ndarray) -> None:
    table[:100, SEARCH.index("jet1_tau1")] = np.nan
    found = find_following(SEARCH, table)
    back = found.complete(found.coordinates(table))
    np.testing.assert_allclose(back[:, found.learnt], table[:, found.learnt])


def test_names_need_not_be_known_nor_different() -> None:
    rows = np.random.default_rng(4).random((50, 2))
    np.testing.assert_array_equal(find_following(["", ""], rows).coordinates(rows), rows)
