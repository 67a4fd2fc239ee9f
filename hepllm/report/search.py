"""The part of a report about the search for a resonance in a black box."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hepllm.report.page import Cell, Group, Listing, Picture, Row, Section, Table
from hepllm.report.tables import Tree, count_cell
from hepllm.search.hunt import EXCESS_P
from hepllm.search.resonance import Measurement

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
        tables=[_selection_table(tree), *_limit_tables(tree.get("upper_limits"))],
        pictures=pictures,
        listings=[Listing("The submission, as JSON", json.dumps(tree, indent=1))],
    )


def _verdict(tree: Tree) -> str:
    low, high = tree["m_jj_range_gev"]
    extreme = f"{tree['n_toys_exceeding']} of {tree['n_toys']} pseudo-experiments are as extreme"
    sigma = tree["significance_global"]
    in_sigma = "" if sigma is None else f" ({sigma:.1f} sigma)"
    if tree["n_toys_exceeding"] == 0 and sigma is not None:
        in_sigma = f" (at least {sigma:.1f} sigma)"
    relation = "<=" if tree["n_toys_exceeding"] == 0 else "="
    return (
        f"p {relation} {tree['p_value']:.3g}{in_sigma} for any window of any selection: {extreme}. "
        f"{tree['n_in_range']} of {tree['n_events']} events have "
        f"{low:.0f} < m_jj < {high:.0f} GeV."
    )


def _findings(tree: Tree) -> list[tuple[str, str]]:
    jets, efficiency = tree["jet_masses_gev"], tree["signal_efficiency"]
    peak = "resonance" if tree["p_value"] < EXCESS_P else "largest fluctuation, no excess:"
    facts = [
        (f"{peak} mass [GeV]", _measured(tree["resonance_mass_gev"])),
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
    measured = Measurement(**found)
    return f"{measured} ({measured.method})"


def _limit_tables(limits: Tree | None) -> list[Table]:
    """Upper limits where nothing was found."""
    if limits is None:
        return []
    note = (
        f"{limits['method']}; a Gaussian peak of relative width {limits['relative_width']:g}. "
        "Expected: median and 68 % of spectra without signal. In the box: if the efficiency is "
        "that of the simulated signal, at the lower end of its interval."
    )
    return [
        Table(
            caption=f"Upper limits on signal events, {limits['confidence']:.0%} CL",
            heads=("mass [GeV]", "kept", "after the cut", "expected", "16 %", "84 %", "in the box"),
            groups=[Group("", [_limit_row(one) for one in limits["by_mass"]])],
            notes=[note],
        )
    ]


def _limit_row(one: Tree) -> Row:
    mark = " (largest fluctuation)" if one["is_largest_fluctuation"] else ""
    numbers = ("n_signal_selected", "expected", "expected_16", "expected_84", "n_signal_box")
    return Row(
        f"{one['mass_gev']:.0f}{mark}",
        [_number(one["efficiency"], "g"), *(_number(one[name], ".3g") for name in numbers)],
    )
