"""Filters of training events by a map and by side tables, as ``train.filter`` has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hepllm.arrays import Bools, Digests, Floats, Ints, Labels
from hepllm.cartography.event_map import CATEGORIES, EventMap
from hepllm.cartography.records import FilterRecord, RuleRecord
from hepllm.config import FilterRule, TableRule
from hepllm.data.dataset import LABEL_NAMES
from hepllm.data.notes import find_events, read_notes
from hepllm.errors import InputError
from hepllm.schema import BACKGROUND, SIGNAL


@dataclass(frozen=True, eq=False)
class FilteredEvents:
    """The result of a filter of N events.

    Attributes:
        kept: shape (N,), events that pass all rules.
        record: how many events of which class each rule drops.
    """

    kept: Bools
    record: FilterRecord


@dataclass(frozen=True, eq=False)
class _Events:
    """N events, the row of each in the map (-1 for none), and which are kept so far."""

    event_digest: Digests
    label: Labels
    event_map: EventMap | None
    rows: Ints
    kept: Bools

    @property
    def is_mapped(self) -> Bools:
        return np.asarray(self.rows >= 0)

    def measure(self, name: str) -> Floats:
        """A measure of each event, shape (N,); NaN for those that are not on the map."""
        return self.of_map(getattr(self.map.measures, name).astype(np.float64), np.nan)

    def of_map(self, values: Floats, missing: float) -> Floats:
        return np.where(self.is_mapped, values[np.maximum(self.rows, 0)], missing)

    @property
    def map(self) -> EventMap:
        if self.event_map is None:
            raise InputError("train.filter: a rule by the map needs train.map, a mapped run")
        return self.event_map


def filter_events(
    event_digest: Digests,
    label: Labels,
    rules: Sequence[FilterRule],
    event_map: EventMap | None = None,
) -> FilteredEvents:
    """Applies rules one after another, each to the events that those before have kept.

    Events that a rule knows nothing about, because they are not on the map or in the side table,
    are kept by it.

    Args:
        event_digest: N events.
        label: their labels.
        rules: the rules, in order.
        event_map: the map that rules are about; None where none is.

    Raises:
        InputError: if a rule needs a map and there is none, or a side table cannot be read.
    """
    rows = np.full(len(label), -1)
    if event_map is not None:
        rows = find_events(event_digest, event_map.event_digest)
    kept = np.ones(len(label), dtype=np.bool_)
    told = []
    for rule in rules:
        (name,) = rule.given
        events = _Events(event_digest, label, event_map, rows, kept)
        dropped = kept & _RULES[name](events, rule)
        told.append(
            RuleRecord(
                rule=json.dumps(rule.model_dump(mode="json", exclude_none=True)),
                dropped=_counts(label[dropped]),
            )
        )
        kept = kept & ~dropped
    record = FilterRecord(
        before=_counts(label),
        not_on_map=_counts(label[rows < 0]),
        rules=tuple(told),
        kept=_counts(label[kept]),
    )
    return FilteredEvents(kept, record)


def _counts(label: Labels) -> dict[str, int]:
    return {LABEL_NAMES[one]: int((label == one).sum()) for one in (SIGNAL, BACKGROUND)}


def _is_of(events: _Events, names: Sequence[str]) -> Bools:
    places = [place for place, name in enumerate(CATEGORIES) if name in names]
    category = events.of_map(events.map.category.astype(np.float64), -1)
    return np.asarray(np.isin(category, places))


def _of_categories(events: _Events, rule: FilterRule) -> Bools:
    if rule.drop is not None:
        return _is_of(events, rule.drop)
    return events.is_mapped & ~_is_of(events, rule.keep or ())


def _less_ambiguous(events: _Events, rule: FilterRule) -> Bools:
    variability = events.measure("variability")
    dropped = np.zeros_like(events.kept)
    for label in (SIGNAL, BACKGROUND):
        mine = np.flatnonzero(events.kept & events.is_mapped & (events.label == label))
        n_kept = round((rule.most_ambiguous or 0.0) * len(mine))
        dropped[mine[np.argsort(-variability[mine], kind="stable")[n_kept:]]] = True
    return dropped


def _outside_confidence(events: _Events, rule: FilterRule) -> Bools:
    low, high = rule.confidence or (0.0, 1.0)
    confidence = events.measure("confidence")
    return np.asarray(events.is_mapped & ((confidence < low) | (confidence > high)))


def _of_least_margin(events: _Events, rule: FilterRule) -> Bools:
    margin = events.measure("area_under_margin")
    mine = np.flatnonzero(events.kept & events.is_mapped)
    n_dropped = round((rule.least_margin or 0.0) * len(mine))
    dropped = np.zeros_like(events.kept)
    dropped[mine[np.argsort(margin[mine], kind="stable")[:n_dropped]]] = True
    return dropped


def _marked(events: _Events, rule: FilterRule) -> Bools:
    table: TableRule = rule.marked  # type: ignore[assignment]
    notes = read_notes(
        Path(table.table), "name a side table in train.filter, or leave the rule out"
    )
    rows = find_events(events.event_digest, notes.event_digest)
    column = notes.column(table.column)
    if column.dtype.kind not in "biuf":
        raise InputError(
            f"{table.table}: '{table.column}' holds {column.dtype}, expected numbers; name another "
            "column in train.filter"
        )
    values = np.where(rows >= 0, column[np.maximum(rows, 0)].astype(np.float64), np.nan)
    dropped = np.zeros_like(events.kept)
    if table.above is not None:
        dropped |= values > table.above
    if table.below is not None:
        dropped |= values < table.below
    return dropped


_Rule = Callable[[_Events, FilterRule], Bools]
_RULES: dict[str, _Rule] = {
    "drop": _of_categories,
    "keep": _of_categories,
    "most_ambiguous": _less_ambiguous,
    "confidence": _outside_confidence,
    "least_margin": _of_least_margin,
    "marked": _marked,
}
