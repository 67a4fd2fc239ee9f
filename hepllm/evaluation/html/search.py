"""The part of a report about the search for a resonance in a black box."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hepllm.evaluation.html.page import Cell, Group, Listing, Picture, Row, Section, Table
from hepllm.evaluation.html.tables import Tree, count_cell

PICTURES: Mapping[str, tuple[str, str]] = {
    "search.png": (
        "Spectrum of the dijet mass after the cut on the score, with the background fit and pulls",
        "Dijet mass after the cut, with the background fit.",
    ),
    "search_jets.png": (
        "Masses of the lighter and the heavier jet in the window of the largest excess",
        "Jet masses in the window, with the side-bands scaled to it.",
    ),
}
"""What is seen in a picture of a search, and what stands below it."""

_HEADS = (
    "kept",
    "events",
    "window [GeV]",
    "seen",
    "expected",
    "local p",
    "global p",
    "fit p",
    "KS p without peak",
)


def search_section(tree: Tree, pictures: Sequence[Picture]) -> Section:
    """What was searched and found.

    Args:
        tree: the content of ``submission.json``; only ``problem`` where no search was possible.
        pictures: of the search.

    Raises:
        KeyError: if something is missing in the tree.
    """
    title = "Search for a resonance"
    if "problem" in tree:
        return Section(title, texts=[f"No search: {tree['problem']}."])
    warnings = [f"Warning: {text}." for text in tree["warnings"]]
    return Section(
        title,
        texts=[_verdict(tree), *warnings],
        facts=[*_findings(tree), *_key(tree.get("truth"))],
        tables=[_selection_table(tree)],
        pictures=pictures,
        listings=[Listing("The submission, as JSON", json.dumps(tree, indent=1))],
    )


def _verdict(tree: Tree) -> str:
    low, high = tree["m_jj_range_gev"]
    extreme = f"{tree['n_toys_exceeding']} of {tree['n_toys']} pseudo-experiments are as extreme"
    sigma = tree["significance_global"]
    in_sigma = "" if sigma is None else f" ({sigma:.1f} sigma)"
    return (
        f"p = {tree['p_value']:.3g}{in_sigma} for any window of any selection: {extreme}. "
        f"{tree['n_in_range']} of {tree['n_events']} events have "
        f"{low:.0f} < m_jj < {high:.0f} GeV."
    )


def _findings(tree: Tree) -> list[tuple[str, str]]:
    jets, efficiency = tree["jet_masses_gev"], tree["signal_efficiency"]
    facts = [
        ("resonance mass [GeV]", _measured(tree["resonance_mass_gev"])),
        *((f"{jet} jet mass [GeV]", _measured(found)) for jet, found in jets.items()),
        ("signal events after the cut", _measured(tree["n_signal_selected"])),
        ("signal events in the box", _measured(tree["n_signal_box"])),
    ]
    if efficiency is not None:
        between = f"[{efficiency['low']:.3f}, {efficiency['high']:.3f}]"
        shown = f"{efficiency['value']:.3f} {between}, that of {efficiency['of']}"
        facts.append(("if the efficiency is", shown))
    if tree["signal_over_background"] is not None:
        facts.append(("S/B in the box", f"{tree['signal_over_background']:.3g}"))
    return facts


def _key(truth: Tree | None) -> list[tuple[str, str]]:
    """What a key says."""
    if truth is None:
        return []
    number, ratio = truth["n_signal_box"], truth["signal_over_background"]
    kept = [f"{one['n_signal']} at {one['efficiency']:g}" for one in truth["selections"]]
    median = truth["median_m_jj_of_signal_gev"]
    return [
        ("key: signal events", f"{number} (S/B {ratio:.3g}), after the cuts {', '.join(kept)}"),
        ("key: median m_jj [GeV]", "none" if median is None else f"{median:.0f}"),
    ]


def _selection_table(tree: Tree) -> Table:
    return Table(
        caption="Selections, fixed beforehand by the share of the events that they keep",
        heads=_HEADS,
        groups=[Group("", [_selection_row(one) for one in tree["selections"]])],
        notes=["Intervals of 68 %. Global p: for any window, with the background refitted."],
    )


def _selection_row(one: Tree) -> Row:
    bump, shape = one["bump"], one["shape_without_resonance"]
    low, high = bump["m_jj_gev"]
    return Row(
        f"{one['efficiency']:g}",
        [
            count_cell(one["n_selected"]),
            Cell(f"{low:.0f}-{high:.0f}"),
            count_cell(bump["n_observed"]),
            _number(bump["n_expected"], ".1f"),
            _number(bump["local_p"], ".2g"),
            _number(one["p_value"], ".2g"),
            _number(one["fit"]["goodness_p"], ".2g"),
            _number(None if shape is None else shape["ks_p"], ".2g"),
        ],
    )


def _number(value: float | None, form: str) -> Cell:
    return Cell(reason="not known") if value is None else Cell(format(value, form), value)


def _measured(found: Mapping[str, Any] | None) -> str:
    """A number with its 68 % interval."""
    if found is None:
        return "not known"
    return f"{found['value']:.4g} -{found['below']:.2g} +{found['above']:.2g} ({found['method']})"
