"""The part of a report about classifiers that were trained on the searched box itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from hepllm.report.cells import count_cell
from hepllm.report.page import Cell, Chapter, Group, Listing, Picture, Row, Table
from hepllm.weak.records import RegionFindings, WeakScan

WEAK_PICTURES: Mapping[str, tuple[str, str]] = {
    "weak.png": (
        "p-value of the largest excess in each signal region, by the masses of the region",
        "p-value of the largest excess in each signal region, and with all regions as trials.",
    ),
}
"""Alternative text and caption of each picture of weak supervision."""

_HEADS = (
    "region [GeV]",
    "sidebands [GeV]",
    "events",
    "below",
    "above",
    "kept",
    "window [GeV]",
    "seen",
    "expected",
    "p",
)

_TEMPLATES: Mapping[str, str] = {
    "sidebands": "both sidebands, each with half of the weight (CWoLa)",
    "density": "drawn from the density that is interpolated from the sidebands (CATHODE)",
    "simulation": "simulation as it is",
    "reweighted": "simulation, reweighted to the data of the sidebands",
    "ideal": "true background: a reference, which no search has",
}


def weak_chapter(found: WeakScan, pictures: Sequence[Picture] = ()) -> Chapter:
    """Presents the signal regions of a search by weak supervision."""
    best = found.regions[found.best_region]
    low, high = best.region_gev
    n_regions = len(found.regions)
    relation, at_most = ("<=", "at most ") if best.is_bound else ("=", "")
    with_all = f", p {relation} {found.p_value:.3g} with {n_regions} as trials"
    text = f"The smallest p-value is {at_most}{best.p_value:.3g}, at {low:.0f}-{high:.0f} GeV"
    return Chapter(
        "Classifiers without labels",
        texts=[f"{text}{with_all if n_regions > 1 else ''}."],
        facts=[
            ("data of each region against", _TEMPLATES[found.template]),
            ("features", ", ".join(found.features)),
            ("classifiers", _classifiers(found)),
        ],
        tables=[
            Table(
                caption="Signal regions",
                heads=_HEADS,
                groups=[Group("", [_row(one) for one in found.regions])],
                notes=["p: for any window and selection in this region, without other regions."],
            )
        ],
        pictures=pictures,
        listings=[Listing("The regions, as JSON", json.dumps(found.tree(), indent=1))],
    )


def _classifiers(found: WeakScan) -> str:
    settings = found.config
    members = 1 if settings.classifier == "model" else settings.members
    return (
        f"{found.n_trainings}: {members} ({settings.classifier}) for each of "
        f"{settings.folds} folds and each region; no event is scored by one that saw it"
    )


def _row(one: RegionFindings) -> Row:
    low, high = one.region_gev
    below, above = one.sidebands_gev
    start, end = one.bump_gev
    return Row(
        f"{low:.0f}-{high:.0f}",
        [
            Cell(f"{below:.0f}-{above:.0f}"),
            count_cell(one.n_region),
            count_cell(one.n_below),
            count_cell(one.n_above),
            Cell(f"{one.best_selection:g}", one.best_selection),
            Cell(f"{start:.0f}-{end:.0f}"),
            count_cell(one.n_observed),
            Cell(f"{one.n_expected:.1f}", one.n_expected),
            Cell(f"{'<= ' if one.is_bound else ''}{one.p_value:.3g}", one.p_value),
        ],
    )
