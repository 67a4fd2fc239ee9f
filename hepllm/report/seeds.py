"""The chapter about several trainings of one recipe, or of two, on the same events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hepllm.evaluation.records import ResultsRecord
from hepllm.evaluation.seeds import METRICS, SeedEstimate, SpreadRecord
from hepllm.report.cells import COLUMNS, quantity_cell
from hepllm.report.page import Cell, Chapter, Group, Row, Table
from hepllm.report.tables import spread_table


def seed_chapter(record: SpreadRecord) -> Chapter:
    """Makes the chapter of medians and differences from its record."""
    sample, other = record.sample, record.other
    if other is None:
        tables = [spread_table(sample, record.spread, len(record.runs))]
    else:
        tables = [
            spread_table(sample, group.spread, len(group.runs), group.name)
            for group in (record, other)
        ]
    return Chapter(
        f"Trainings compared on {record.sample}", tables=[*tables, seed_difference_table(record)]
    )


def seed_difference_table(record: SpreadRecord) -> Table:
    """Tabulates differences of means over runs, with the interval of seeds and events."""
    drawn, other = record.bootstrap, record.other
    groups, counts = [Group("", _rows(record.differences))], f"{len(record.runs)} runs"
    if other is not None:
        named = {f"{name}: {record.name} - {other.name}": of for name, of in record.against.items()}
        groups.append(Group(f"{record.name} minus {other.name}", _rows(named)))
        counts += f" and {len(other.runs)} runs"
    note = (
        f"[low, high]: {drawn.confidence:.0%} interval of the difference, for other seeds on the "
        "same training events and for other test events; from "
        f"{drawn.n_replicas} replicas of the events, which all runs share. Differences within a "
        "run are paired. Another choice of training events is not part of it."
    )
    return Table(
        caption=f"Differences of means over {counts} on {record.sample}",
        heads=("", *(COLUMNS[key].head for key in METRICS)),
        groups=groups,
        notes=[note],
    )


def is_about(record: SpreadRecord, seeds: Sequence[int], results: Sequence[ResultsRecord]) -> bool:
    """Whether a comparison is about these runs, all of them and with their present results."""
    groups = [record] if record.other is None else [record, record.other]
    compared = [
        (seed, tuple(group.spread[record.classifier][key].values[place] for key in METRICS))
        for group in groups
        for place, seed in enumerate(group.seeds)
    ]
    found = [
        (seed, tuple(one.classifiers[record.classifier].metrics[key].value for key in METRICS))
        for seed, one in zip(seeds, results, strict=True)
        if record.classifier in one.classifiers
    ]
    return len(compared) == len(found) and set(compared) == set(found)


def _rows(differences: Mapping[str, Mapping[str, SeedEstimate]]) -> list[Row]:
    return [
        Row(name, [_cell(found[key], key) for key in METRICS])
        for name, found in differences.items()
    ]


def _cell(found: SeedEstimate, key: str) -> Cell:
    if found.estimate is None:
        return Cell(reason=found.reason or "undefined")
    digits, reason = 4 if key == "auc" else COLUMNS[key].digits, found.reason or ""
    return quantity_cell(found.estimate, found.interval, digits, sign="+", reason=reason)
