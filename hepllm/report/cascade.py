"""The part of a report about a cascade: what it kept, and what it can lose."""

from __future__ import annotations

from hepllm.report.page import Cell, Group, Row, Section, Table
from hepllm.report.tables import Tree, difference_cell, heading

_CLASSES = {"eps_s": "signal", "eps_b": "background"}


def cascade_section(tree: Tree) -> Section:
    """What the entry ``cascade`` of ``metrics.json`` tells.

    Raises:
        KeyError: if something is missing in it.
    """
    scored = f"The language model scored {tree['n_kept']} of {tree['n_events']} events"
    texts = [f"{scored}, those above the boosting's cut for {tree['keep']:g} of the background."]
    if tree["beyond"]:
        texts.append(
            f"{', '.join(tree['beyond'])}: these cuts lie below the cascade's, so part of what "
            "passes is the boosting's choice. So is part of the AUC."
        )
    return Section("Cascade", texts=texts, tables=[_passing_table(tree), _loss_table(tree)])


def _passing_table(tree: Tree) -> Table:
    rows = [
        Row(name, [_share(tree["validation"][key]), _share(tree[key])])
        for key, name in _CLASSES.items()
    ]
    return Table(
        caption="Share that passes the cut of the cascade",
        heads=("", "validation", "this set"),
        groups=[Group("", rows)],
        notes=["No selection can have a larger signal efficiency."],
    )


def _loss_table(tree: Tree) -> Table:
    found = tree["validation"]
    differences = found["difference"]
    cells = []
    for key, one in differences.items():
        low, high = one["interval"] or (None, None)
        cells.append(difference_cell({**one, "low": low, "high": high}, key))
    return Table(
        caption=f"With the cascade minus without, on {found['n_compared']} validation events",
        heads=("", *(heading(key) for key in differences)),
        groups=[Group("", [Row("difference", cells)])],
    )


def _share(found: Tree | None) -> Cell:
    if found is None:
        return Cell(reason="no labels, or none of this class")
    low, high = found["interval"]
    count = f"{found['n_passing']} of {found['n_events']}"
    return Cell(f"{found['value']:.4f}", found["value"], f"[{low:.4f}, {high:.4f}]", count)
