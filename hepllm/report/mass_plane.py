"""The part of a report about a scan over the masses of X and Y."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from hepllm.report.page import Cell, Chapter, Group, Listing, Picture, Row, Table
from hepllm.search.plane_records import ExtrapolatedPlane, PlaneFindings, PointFindings

PLANE_PICTURES: Mapping[str, tuple[str, str]] = {
    "scan.png": (
        "Local significance of the largest excess under each hypothesis, by the masses of X and Y",
        "Local significance of the largest excess under each hypothesis; the best one is framed.",
    ),
    "scan_limits.png": (
        "Observed and expected upper limits on the signal under each hypothesis, by its masses",
        "Upper limits under each hypothesis, for one mass of the resonance.",
    ),
}
"""Alternative text and caption of each picture of a scan."""

_HEADS = (
    "m_X, m_Y [GeV]",
    "kept",
    "events",
    "window [GeV]",
    "seen",
    "expected",
    "local sigma",
    "p",
    "limit after the cut",
    "expected limit",
    "limit in the box",
    "expected limit",
)

_MOST_ROWS = 20


def plane_chapter(found: PlaneFindings, name: str, pictures: Sequence[Picture] = ()) -> Chapter:
    """Presents the findings of a scan in the box ``name``."""
    return Chapter(
        f"Scan of hypotheses in {name}",
        texts=[_verdict(found), *(f"Warning: {text}." for text in found.warnings)],
        facts=_facts(found),
        tables=[_table(found)],
        pictures=pictures,
        listings=[Listing("The scan, as JSON", json.dumps(found.tree(), indent=1))],
    )


def _verdict(found: PlaneFindings) -> str:
    low, high = found.m_jj_range_gev
    relation, bound = ("<=", "at least ") if found.n_toys_exceeding == 0 else ("=", "")
    sigma = found.significance_global
    in_sigma = "" if sigma is None else f" ({bound}{sigma:.1f} sigma)"
    return (
        f"p {relation} {found.p_value:.3g}{in_sigma} for any window under any of "
        f"{found.n_points} hypotheses: {found.n_toys_exceeding} of {found.n_toys} "
        f"pseudo-experiments are as extreme. {_extrapolated(found.extrapolated)}"
        f"{found.n_in_range} of {found.n_events} events have "
        f"{low:.0f} < {found.mass} < {high:.0f} GeV."
    )


def _extrapolated(found: ExtrapolatedPlane | None) -> str:
    if found is None:
        return ""
    return (
        f"Extrapolated: {found.significance:.2f} sigma, p = {found.p_value:.2g}, "
        f"at most {found.upper:.2g}. "
    )


def _facts(found: PlaneFindings) -> list[tuple[str, str]]:
    best = found.best_point
    low, high = best.bump.m_jj_gev
    seen, local = best.bump.n_observed, best.significance_local
    kind = "excess" if found.is_excess else "largest fluctuation, no excess"
    return [
        (kind, f"{best.hypothesis}, {low:.0f} < {found.mass} < {high:.0f} GeV"),
        (
            "its events",
            f"{seen}, expected {best.bump.n_expected:.1f}, {local:.1f} sigma local",
        ),
        ("independent points", f"{found.n_trials:.1f} of {found.n_points}"),
        ("limits at [GeV]", f"{found.limits_at_gev:.0f}"),
    ]


def _table(found: PlaneFindings) -> Table:
    order = sorted(found.points, key=lambda one: -one.significance_local)
    note = (
        "p: for any window of this point, with a new fit of the background; the trials of the "
        "other points do not count. Limits: 95 % CL, for a resonance of "
        f"{found.limits_at_gev:.0f} GeV."
    )
    notes = [note]
    if len(order) > _MOST_ROWS:
        notes.append(f"The most significant {_MOST_ROWS} of {len(order)} points.")
    return Table(
        caption="Hypotheses, the most significant first",
        heads=_HEADS,
        groups=[Group("", [_row(one) for one in order[:_MOST_ROWS]])],
        notes=notes,
    )


def _row(one: PointFindings) -> Row:
    low, high = one.bump.m_jj_gev
    heavy, light = one.m_jets_gev
    limit = one.limit
    limits = [None if limit is None else limit.selected, None if limit is None else limit.box]
    reasons = ("no limit was found", "the efficiency is not known")
    shown = [
        value
        for found, reason in zip(limits, reasons, strict=True)
        for value in (
            _number(None if found is None else found.observed, ".3g", reason),
            _number(None if found is None else found.expected, ".3g", reason),
        )
    ]
    return Row(
        f"{heavy:.0f}, {light:.0f}",
        [
            _number(one.selection, "g"),
            _number(one.n_selected, "d"),
            Cell(f"{low:.0f}-{high:.0f}"),
            _number(one.bump.n_observed, "d"),
            _number(one.bump.n_expected, ".1f"),
            _number(one.significance_local, ".1f"),
            _number(one.p_value, ".2g"),
            *shown,
        ],
    )


def _number(value: float | None, form: str, reason: str = "") -> Cell:
    return Cell(reason=reason) if value is None else Cell(format(value, form), value)
