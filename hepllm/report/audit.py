"""The chapter about the audit of a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hepllm.cartography.audit_records import EVENTS, HEAT, SCATTER, TEXT, AuditRecord
from hepllm.errors import InputError
from hepllm.report.cells import count_cell, quantity_cell
from hepllm.report.data_uris import stored
from hepllm.report.page import Cell, Chapter, Group, Listing, Picture, Row, Table

_PICTURES = {
    HEAT: (
        "Numbers of events that pairs of methods flag, and categories by cluster, as tables",
        "Events that the methods of row and column flag both; categories of a map by cluster.",
    ),
    SCATTER: (
        "Margins of two methods against each other, and jet masses, with the review list marked",
        "Events of the review list by why they are on it, among at most 8,000 others.",
    ),
}
"""Alternative text and caption by file of an audit."""


def read_audit(file: Path) -> Chapter:
    """Makes the chapter from the folder of an audit, with its pictures and the review list.

    Args:
        file: ``overlap.json`` in that folder.

    Raises:
        InputError: if a file is missing or damaged.
    """
    folder, again = file.parent, "remove its folder, or make it again with: hepllm audit"
    record = AuditRecord.read(file, again)
    displays = sorted((folder / EVENTS).glob("*.png"))
    try:
        pictures = [
            stored(folder / name, *words)
            for name, words in _PICTURES.items()
            if (folder / name).is_file()
        ]
        panels = [stored(one, f"Jets and particles of {one.stem}", one.stem) for one in displays]
        return audit_chapter(record, pictures, panels, (folder / TEXT).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder}: not readable: {error}; {again}") from None


def audit_chapter(
    record: AuditRecord,
    pictures: Sequence[Picture] = (),
    displays: Sequence[Picture] = (),
    review: str = "",
) -> Chapter:
    """Makes the chapter from the record of an audit.

    Args:
        record: the content of ``overlap.json``.
        pictures: heat map and scatter.
        displays: displays of the first events of the review list.
        review: the review list as text.
    """
    tables = [_methods(record)]
    tables += [_pairs(record)] if record.pairs else []
    tables += [_rules(record)] if record.rules else []
    tables += [_regions(record)] if record.regions else []
    return Chapter(
        f"Audit of {record.dataset}",
        texts=list(_texts(record)),
        tables=tables,
        pictures=pictures,
        panels=displays,
        panels_title="The first events of the review list" if displays else "",
        listings=[Listing("Review list", review)] if review else [],
    )


def _texts(record: AuditRecord) -> Iterator[str]:
    labels = ", ".join(f"{number} {name}" for name, number in record.labels.items())
    yield (
        f"{record.n_events} events ({labels}); {record.n_review} are on the review list, those of "
        f"largest priority. At least two methods flag {record.n_by_several}."
    )
    if record.n_copies or record.n_conflicts:
        yield (
            f"{record.n_copies} events are equal to an earlier one; of {record.n_conflicts} an "
            "equal one has another label."
        )
    common = [name for name, one in record.rules.items() if one.is_systematic]
    if common:
        yield (
            f"More than {record.settings.systematic:.0%} of the events break {', '.join(common)}: "
            "a property of the dataset, or a limit that does not fit it (flags.*). It has no part "
            "in the priority of an event."
        )
    if record.missing:
        yield f"Not known: {'; '.join(record.missing)}."


def _methods(record: AuditRecord) -> Table:
    rows = [
        Row(
            f"{name}: {one.meaning}",
            [
                count_cell(one.covered),
                Cell(f"{one.coverage:.1%}", one.coverage),
                *_by_class(one.flagged, record),
            ],
        )
        for name, one in record.methods.items()
    ]
    heads = ("", "events known", "coverage", *(f"flags, {name}" for name in record.labels))
    return Table("Methods", heads, [Group("", rows)])


def _by_class(flagged: Mapping[str, int], record: AuditRecord) -> list[Cell]:
    return [count_cell(flagged.get(name, 0)) for name in record.labels]


def _pairs(record: AuditRecord) -> Table:
    rows = [
        Row(
            f"{one.first}, {one.second}",
            [
                count_cell(one.n_covered),
                count_cell(one.n_first),
                count_cell(one.n_second),
                count_cell(one.n_shared),
                Cell("", None)
                if one.expected is None
                else Cell(f"{one.expected:.1f}", one.expected),
            ],
        )
        for one in record.pairs
    ]
    heads = ("", "known by both", "first flags", "second flags", "both flag", "if independent")
    return Table("Agreement of methods", heads, [Group("", rows)])


def _rules(record: AuditRecord) -> Table:
    rows = [
        Row(f"{name}: {one.meaning}", [*_by_class(one.flagged, record), Cell(f"{one.share:.2%}")])
        for name, one in record.rules.items()
        if one.share
    ]
    silent = [name for name, one in record.rules.items() if not one.share]
    notes = [f"Broken by no event: {', '.join(silent)}."] if silent else []
    notes += [f"Not asked: {name} ({why})." for name, why in record.skipped.items()]
    heads = ("", *record.labels, "share")
    return Table("Rules that events break", heads, [Group("", rows)], notes)


def _regions(record: AuditRecord) -> Table:
    rows = [
        Row(
            one.cuts,
            [
                count_cell(one.n_events),
                count_cell(one.n_flagged),
                quantity_cell(one.share, one.interval, 3),
                Cell(f"{one.ratio:.1f}", one.ratio),
            ],
        )
        for one in record.regions
    ]
    note = (
        "One half of the events chose the cuts; share, its 95 % interval and the ratio to all "
        "events are of the other."
    )
    heads = ("", "events", "flagged", "share", "ratio")
    return Table("Regions that several methods flag", heads, [Group("", rows)], [note])
