from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from hepllm.cartography.event_map import CATEGORIES, EventMap
from hepllm.cartography.filters import FilteredEvents, filter_events
from hepllm.cartography.measures import Measures
from hepllm.config import FilterRule
from hepllm.data.notes import NotesRecord, write_notes
from hepllm.errors import InputError

N = 200
DIGEST = np.arange(N, dtype=np.uint64) + 5
LABEL = (np.arange(N) % 2).astype(np.int8)


@pytest.fixture(scope="module")
def event_map() -> EventMap:
    """A map of all events but the first ten, in another order."""
    random = np.random.default_rng(1)
    order = random.permutation(np.arange(10, N))
    values = {name: random.random(len(order)) for name in ("confidence", "variability")}
    measures = Measures(
        n_epochs=np.full(len(order), 3),
        correctness=random.random(len(order)),
        forgetting=np.zeros(len(order), dtype=np.int64),
        area_under_margin=random.normal(size=len(order)),
        **values,
    )
    category = random.integers(0, 3, len(order)).astype(np.int8)
    return EventMap(DIGEST[order], LABEL[order], measures, category, "model")


def apply(event_map: EventMap | None, *rules: dict[str, object]) -> FilteredEvents:
    found = [FilterRule.model_validate(rule) for rule in rules]
    result = filter_events(DIGEST, LABEL, found, event_map)
    for name, label in (("signal", 1), ("background", 0)):
        dropped = sum(rule.dropped[name] for rule in result.record.rules)
        assert result.record.before[name] - dropped == result.record.kept[name]
        assert result.record.kept[name] == (LABEL[result.kept] == label).sum()
    return result


def in_order(event_map: EventMap, values: np.ndarray) -> np.ndarray:
    """Values of the map in the order of the events, from the tenth on."""
    return values[np.argsort(event_map.event_digest)]


def test_categories_are_dropped_or_kept(event_map: EventMap) -> None:
    category = in_order(event_map, event_map.category)
    hard = category == CATEGORIES.index("hard")
    dropped = apply(event_map, {"drop": ["hard"]})
    np.testing.assert_array_equal(dropped.kept, np.append(np.ones(10, dtype=bool), ~hard))
    same = apply(event_map, {"keep": ["easy", "ambiguous"]})
    np.testing.assert_array_equal(same.kept, dropped.kept)
    assert dropped.record.not_on_map == {"signal": 5, "background": 5}


def test_a_share_of_each_class_is_kept_by_ambiguity(event_map: EventMap) -> None:
    kept = apply(event_map, {"most_ambiguous": 0.2}).kept[10:]
    variability, label = in_order(event_map, event_map.measures.variability), LABEL[10:]
    for one in (0, 1):
        mine = label == one
        assert kept[mine].sum() == 19
        assert variability[mine & kept].min() > variability[mine & ~kept].max()


def test_a_range_of_confidence_and_the_least_margins(event_map: EventMap) -> None:
    confidence = in_order(event_map, event_map.measures.confidence)
    kept = apply(event_map, {"confidence": [0.2, 0.9]}).kept[10:]
    np.testing.assert_array_equal(kept, (confidence >= 0.2) & (confidence <= 0.9))
    margin = in_order(event_map, event_map.measures.area_under_margin)
    kept = apply(event_map, {"least_margin": 0.1}).kept[10:]
    assert (~kept).sum() == 19
    assert margin[~kept].max() < margin[kept].min()


def test_rules_apply_to_what_those_before_have_kept(event_map: EventMap) -> None:
    both = apply(event_map, {"drop": ["hard"]}, {"least_margin": 0.1}, {"drop": ["hard"]})
    n_left = (event_map.category != CATEGORIES.index("hard")).sum()
    assert sum(both.record.rules[1].dropped.values()) == round(0.1 * n_left)
    assert sum(both.record.rules[2].dropped.values()) == 0
    assert json.loads(both.record.rules[0].rule) == {"drop": ["hard"]}


def test_a_side_table_marks_events(tmp_path: Path) -> None:
    file = tmp_path / "flags.parquet"
    columns = {"is_odd": DIGEST[:50] % 2 == 1, "score": np.linspace(0, 1, 50)}
    columns["name"] = np.full(50, "x", dtype=object)
    write_notes(file, DIGEST[:50], columns, NotesRecord(holds="flags", made_by="test"))
    rule = {"table": str(file), "column": "is_odd", "above": 0}
    kept = apply(None, {"marked": rule}).kept
    np.testing.assert_array_equal(kept, np.append(DIGEST[:50] % 2 == 0, np.ones(150, dtype=bool)))
    rule = {"table": str(file), "column": "score", "below": 0.5}
    assert (~apply(None, {"marked": rule}).kept).sum() == 25
    with pytest.raises(InputError, match="'name' holds object, expected numbers"):
        apply(None, {"marked": rule | {"column": "name"}})
    with pytest.raises(InputError, match="no values 'nothing'"):
        apply(None, {"marked": rule | {"column": "nothing"}})


def test_a_rule_by_the_map_needs_one() -> None:
    with pytest.raises(InputError, match=r"needs train\.map"):
        apply(None, {"drop": ["hard"]})


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({}, "exactly one of .* found none"),
        ({"drop": ["hard"], "least_margin": 0.1}, "found drop, least_margin"),
        ({"confidence": [0.9, 0.2]}, "is no range"),
        ({"marked": {"table": "x", "column": "y"}}, "give above or below"),
        ({"drop": ["odd"]}, "'easy', 'ambiguous' or 'hard'"),
    ],
)
def test_a_rule_that_is_none_is_refused(rule: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        FilterRule.model_validate(rule)
