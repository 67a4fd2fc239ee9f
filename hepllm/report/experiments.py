"""A suite of experiments as a page and as CSV."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from hepllm.evaluation.experiment_records import (
    PER_CLASS,
    MetricPower,
    MetricSummary,
    SetSummary,
    SuiteRecord,
)
from hepllm.report.cells import COLUMNS, quantity_cell
from hepllm.report.page import Cell, Chapter, Group, Page, Picture, Row, Table

_CSV_HEAD = (
    *("dataset", "set", "experiment", "seeds_done", "seeds_failed", "seeds_to_run", "metric"),
    *("mean", "low", "high", "difference", "difference_low", "difference_high", "p", "p_holm"),
    *("n_pairs", "values", "reason"),
)


def suite_page(record: SuiteRecord, pictures: Mapping[int, Sequence[Picture]]) -> Page:
    """The page of a suite; it has no date, so that equal results give equal bytes.

    Args:
        record: what the experiments say.
        pictures: by place of the set.
    """
    states = Counter(state for by_place in record.states.values() for state in by_place.values())
    facts = [
        ("experiments", str(len(record.states))),
        ("trainings", ", ".join(f"{number} {state}" for state, number in states.items())),
        ("reference", record.reference),
    ]
    chapters = [state_chapter(record)]
    for place, one in enumerate(record.sets):
        chapters.append(set_chapter(record, one, pictures.get(place, ())))
    return Page(f"Experiments: {record.name}", facts, chapters)


def state_chapter(record: SuiteRecord) -> Chapter:
    """Which experiments are done, failed and missing."""
    rows = []
    for name, by_place in record.states.items():
        counts = Counter(by_place.values())
        numbers = [counts["done"], counts["failed"], counts["to run"]]
        rows.append(Row(name, [Cell(str(number), number) for number in numbers]))
    heads = ("experiment", "done", "failed", "to run")
    table = Table("Trainings by experiment", heads, [Group("", rows)])
    texts = [f"Failed: {place}: {problem}" for place, problem in record.problems.items()]
    return Chapter("What was run", texts=texts, tables=[table])


def set_chapter(
    record: SuiteRecord, found: SetSummary, pictures: Sequence[Picture] = ()
) -> Chapter:
    """Means, differences, metrics of each class, and the seeds that it takes."""
    tables = [mean_table(record, found)]
    if len(record.states) > 1:
        tables.append(difference_table(record, found))
    tables.append(class_table(record, found))
    if found.power:
        tables.append(power_table(record, found))
    counts = f"N_s = {found.n_signal}, N_b = {found.n_background}"
    title = f"{found.sample}, trained on {found.dataset}"
    return Chapter(title, texts=[f"Test events: {counts}."], tables=tables, pictures=pictures)


def mean_table(record: SuiteRecord, found: SetSummary) -> Table:
    """Means over seeds, with their intervals."""
    rows = [
        Row(
            name,
            [_seeds_cell(record, found, name), *(_mean(metrics[k], k) for k in record.metrics)],
        )
        for name, metrics in found.experiments.items()
    ]
    note = (
        f"[low, high]: {record.confidence:.0%} interval of the mean by Student's t, for other "
        "seeds on the same training and test events. Where a seed has no value there is no mean."
    )
    return Table(
        f"Means over seeds on {found.sample}",
        ("experiment", "seeds", *_heads(record.metrics)),
        [Group("", rows)],
        [note],
    )


def difference_table(record: SuiteRecord, found: SetSummary) -> Table:
    """Differences to the reference, with p-values."""
    rows = [
        Row(name, [_difference(metrics[key], key) for key in record.metrics])
        for name, metrics in found.experiments.items()
        if name != record.reference
    ]
    note = (
        f"Paired by seed; [low, high]: {record.confidence:.0%} interval over seeds. p: two-sided "
        f"paired t test, corrected for all {record.n_tests} tests of the suite (Holm)."
    )
    return Table(
        f"Differences to {record.reference} on {found.sample}",
        ("experiment", *_heads(record.metrics)),
        [Group("", rows)],
        [note],
    )


def class_table(record: SuiteRecord, found: SetSummary) -> Table:
    """Precision, recall and F1 of each class."""
    rows = [
        Row(name, [_mean(metrics[key], key) for key in PER_CLASS])
        for name, metrics in found.experiments.items()
    ]
    heads = ("experiment", *(key.replace("_", " ") for key in PER_CLASS))
    note = (
        "At the cut of the largest balanced accuracy on validation data, in this sample's ratio of "
        f"signal to background; intervals of {record.confidence:.0%} as above."
    )
    return Table(f"Each class on {found.sample}", heads, [Group("", rows)], [note])


def power_table(record: SuiteRecord, found: SetSummary) -> Table:
    """Seeds of each recipe that show a difference of a given size."""
    relative = [one.relative for one in next(iter(found.power.values())).needed]
    rows = [
        Row(
            COLUMNS[key].head,
            [
                quantity_cell(one.mean, None, _digits(key), reason=""),
                quantity_cell(one.spread, one.spread_interval, _digits(key) + 1),
                *_needed(one),
            ],
        )
        for key, one in found.power.items()
    ]
    heads = (
        "metric",
        "mean",
        "spread over seeds",
        *(f"seeds for {100 * one:g} %" for one in relative),
    )
    number = next(iter(found.power.values())).n_seeds
    note = (
        f"Seeds of each of two recipes that show a relative difference of their means with a "
        f"probability of {record.wanted_power:.0%}, by Student's t at p < "
        f"{1 - record.confidence:.2g}, if both vary as {record.reference} does over its {number} "
        f"seeds. Intervals of {record.confidence:.0%} by chi-squared: few seeds tell little of "
        "the spread. The test events are the same for all seeds."
    )
    return Table(f"Seeds that differences take on {found.sample}", heads, [Group("", rows)], [note])


def as_csv(record: SuiteRecord) -> str:
    """One line for each set, experiment and metric, exact."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_CSV_HEAD)
    writer.writerows(_csv_rows(record))
    return stream.getvalue()


def _csv_rows(record: SuiteRecord) -> Iterator[list[object]]:
    sets = record.sets
    for name, by_place in record.states.items():
        counts = Counter(by_place.values())
        numbers = [counts["done"], counts["failed"], counts["to run"]]
        if not any(one.experiments[name][record.metrics[0]].values for one in sets):
            yield ["", "", name, *numbers, *[""] * (len(_CSV_HEAD) - 7), "no seed is done"]
            continue
        for one in sets:
            for key, metric in one.experiments[name].items():
                yield [one.dataset, one.sample, name, *numbers, key, *_csv_numbers(metric)]


def _csv_numbers(metric: MetricSummary) -> list[object]:
    low, high = metric.interval or (None, None)
    beside = metric.comparison
    compared: list[object] = [None] * 6
    if beside is not None:
        ends = beside.interval or (None, None)
        compared = [beside.difference, *ends, beside.p, beside.p_holm, beside.n_seeds]
    values = " ".join(f"{seed}:{value}" for seed, value in metric.values.items())
    return [metric.mean, low, high, *compared, values, metric.reason]


def _seeds_cell(record: SuiteRecord, found: SetSummary, name: str) -> Cell:
    begin = f"{found.dataset}/"
    states = [one for place, one in record.states[name].items() if place.startswith(begin)]
    done, failed = states.count("done"), states.count("failed")
    note = f"{failed} failed" if failed else ""
    return Cell(f"{done} of {len(states)}", done, note=note)


def _mean(metric: MetricSummary, key: str) -> Cell:
    if metric.mean is None:
        return Cell(reason=metric.reason or "undefined")
    reason = "" if metric.interval else "one seed has no interval"
    return quantity_cell(metric.mean, metric.interval, _digits(key), reason=reason)


def _difference(metric: MetricSummary, key: str) -> Cell:
    beside = metric.comparison
    if beside is None:
        why = "no value in a seed of the reference, or no seed that both have"
        return Cell(reason=metric.reason or why)
    p_value = beside.p if beside.p_holm is None else beside.p_holm
    reason = "" if beside.interval else "one seed has no interval"
    note = "" if p_value is None else f"p {p_value:.2g}"
    return quantity_cell(
        beside.difference, beside.interval, _digits(key), sign="+", note=note, reason=reason
    )


def _needed(found: MetricPower) -> list[Cell]:
    return [
        Cell(
            _count(one.number),
            one.number,
            f"[{_count(one.low)}, {_count(one.high)}]",
            reason="" if one.number is not None else "more than 10,000 seeds",
        )
        for one in found.needed
    ]


def _count(number: int | None) -> str:
    return "> 10,000" if number is None else str(number)


def _digits(key: str) -> int:
    if key in PER_CLASS:
        return 3
    return 4 if key == "auc" else COLUMNS[key].digits


def _heads(keys: Sequence[str]) -> list[str]:
    return [COLUMNS[key].head for key in keys]
