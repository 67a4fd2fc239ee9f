"""The members of an ensemble, as a table and as the chapter in place of a training."""

from __future__ import annotations

from hepllm.report.page import Cell, Chapter, Group, Row, Table
from hepllm.report.records import RunRecord


def members_table(name: str, record: RunRecord) -> Table:
    """Tabulates the members of an ensemble."""
    rows = [
        Row(
            one.name,
            (
                Cell("run" if one.baseline is None else "baseline"),
                Cell(one.logits.method),
                Cell(str(len(one.features)), len(one.features)),
                Cell(str(one.constituents or ""), one.constituents or None),
                Cell("" if one.validation_auc is None else f"{one.validation_auc:.4f}"),
            ),
        )
        for one in record.members
    ]
    prior = record.members[0].logits.prior
    total = sum(record.n_validation.values())
    return Table(
        f"Members of {name}",
        ("member", "kind", "calibration", "features", "constituents", "validation AUC"),
        [Group("", rows)],
        [
            f"The score is the mean of their logits, for a signal fraction of {prior:.3g}.",
            f"AUC on {total} validation events that no member was trained on.",
        ],
    )


def members_chapter(name: str, record: RunRecord) -> Chapter:
    """Makes the chapter of an ensemble in a report."""
    facts = [(one.name, one.run) for one in record.members]
    return Chapter("Members", facts=facts, tables=[members_table(name, record)])
