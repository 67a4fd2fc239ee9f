"""The chapter about a cascade: events that it keeps, signal that it loses."""

from __future__ import annotations

from hepllm.evaluation.cascade import CascadeRecord
from hepllm.evaluation.efficiency import Efficiency
from hepllm.report.cells import COLUMNS, difference_cell, quantity_cell
from hepllm.report.page import Cell, Chapter, Group, Row, Table


def cascade_chapter(found: CascadeRecord) -> Chapter:
    """Makes the chapter from the record of a cascade."""
    kept = f"{found.n_kept} of {found.n_events} events"
    cut = f"the boosting's cut for {found.keep:g} of the validation background"
    texts = [f"The language model scored {kept}, those above {cut}."]
    if found.beyond:
        texts.append(
            f"{', '.join(found.beyond)}: these cuts lie below the cascade's, so the boosting "
            "selects part of the events that pass. It also decides part of the AUC."
        )
    if found.speed_up is not None:
        texts.append(
            f"{found.events_per_second:.0f} events/s, {found.speed_up:.1f} times the rate of "
            "the model alone."
        )
    return Chapter("Cascade", texts=texts, tables=[_passing_table(found), _loss_table(found)])


def _passing_table(found: CascadeRecord) -> Table:
    shares = {
        "signal": (found.validation.eps_s, found.eps_s),
        "background": (found.validation.eps_b, found.eps_b),
    }
    return Table(
        caption="Share that passes the cut of the cascade",
        heads=("", "validation", "this set"),
        groups=[Group("", [Row(name, [*map(_share, both)]) for name, both in shares.items()])],
        notes=["Cuts on the score above the cascade's have at most this signal efficiency."],
    )


def _loss_table(found: CascadeRecord) -> Table:
    differences = found.validation.difference
    cells = [difference_cell(one, 3) for one in differences.values()]
    return Table(
        caption="With the cascade minus without, on "
        f"{found.validation.n_compared} validation events",
        heads=("", *(COLUMNS[key].head for key in differences)),
        groups=[Group("", [Row("difference", cells)])],
    )


def _share(found: Efficiency | None) -> Cell:
    if found is None:
        return Cell(reason="no labels, or none of this class")
    count = f"{found.n_passing} of {found.n_events}"
    return quantity_cell(found.value, found.interval, 4, note=count)
