"""The part of a report about a fit of masses and fraction of a signal."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hepllm.report.page import Cell, Chapter, Group, Listing, Picture, Row, Table
from hepllm.weak.mixture_records import FittedRange, MixtureScan

MIXTURE_TEXT = "Local significance of a signal by the masses of X and Y, with the fitted masses"
MIXTURE_CAPTION = (
    "Local significance at each point; the star is the fit, lines hold 68 and 95 % for a strong "
    "signal. Right: fraction and significance of all points."
)

_MOST_ROWS = 15


def mixture_chapter(found: MixtureScan, name: str, pictures: Sequence[Picture] = ()) -> Chapter:
    """Presents the fit in the dataset ``name``."""
    return Chapter(
        f"Masses and fraction of a signal in {name}",
        texts=[_verdict(found), *(f"Warning: {text}." for text in found.warnings)],
        facts=_facts(found),
        tables=[_fitted(found), _points(found)],
        pictures=pictures,
        listings=[Listing("The fit, as JSON", json.dumps(found.tree(), indent=1))],
    )


def _verdict(found: MixtureScan) -> str:
    relation = "<=" if found.n_toys_exceeding == 0 else "="
    kind = "An excess" if found.is_excess else "No excess"
    n_points = sum(one.p_value is not None for one in found.points)
    return (
        f"{kind}: p {relation} {found.p_value:.3g} for any of {n_points} hypotheses; "
        f"{found.n_toys_exceeding} of {found.n_toys} divisions of the events into data and "
        "template are as extreme."
    )


def _facts(found: MixtureScan) -> list[tuple[str, str]]:
    low, high = found.region_gev
    return [
        ("most likely point", found.best),
        ("data", f"{found.n_data} events, {low:.0f}-{high:.0f} GeV"),
        ("template", f"{found.n_template} events, {found.template}"),
        ("ratios", f"{found.classifier} of the run {found.run}"),
    ]


def _fitted(found: MixtureScan) -> Table:
    rows = [
        _fitted_row("heavier mass [GeV]", found.m_heavy_gev, ".0f"),
        _fitted_row("lighter mass [GeV]", found.m_light_gev, ".0f"),
        _fitted_row("fraction of signal", found.fraction, ".2g"),
        _fitted_row("signal events", found.n_signal, ".0f"),
    ]
    note = (
        "Intervals hold for the excess that was found. Without an excess they say little about the "
        "masses."
    )
    heads = ("", "value", "68 %", "95 %")
    return Table("The most likely signal", heads, [Group("", rows)], [note])


def _fitted_row(name: str, one: FittedRange, form: str) -> Row:
    intervals = [
        Cell(f"{low:{form}} to {high:{form}}") for low, high in (one.interval_68, one.interval_95)
    ]
    return Row(name, [Cell(format(one.value, form), one.value), *intervals])


def _points(found: MixtureScan) -> Table:
    order = sorted(found.points, key=lambda one: -one.statistic)[:_MOST_ROWS]
    rows = [
        Row(
            f"{one.m_jets_gev[0]:.0f}, {one.m_jets_gev[1]:.0f}",
            [
                Cell(f"{one.significance_local:.1f}", one.significance_local),
                Cell(f"{one.fraction:.2g}", one.fraction),
                Cell(reason="a refined point")
                if one.p_value is None
                else Cell(f"{one.p_value:.2g}", one.p_value),
            ],
        )
        for one in order
    ]
    notes = ["p: of this point alone; the trials of the others do not count."]
    if len(found.points) > _MOST_ROWS:
        notes.append(f"The most likely {_MOST_ROWS} of {len(found.points)} points.")
    heads = ("m_X, m_Y [GeV]", "local sigma", "fraction", "p")
    return Table("Points, the most likely first", heads, [Group("", rows)], notes)
