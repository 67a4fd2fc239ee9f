"""The chapter about sculpting: what cuts do to the background's mass spectrum."""

from __future__ import annotations

from hepllm.evaluation.records import Estimate
from hepllm.evaluation.sculpting_records import ClassifierSculpting, SculptingRecord, WindowExcess
from hepllm.report.cells import count_cell, number_cell, quantity_cell
from hepllm.report.page import Cell, Chapter, Group, Row, Table

_HEADS = (
    *("", "N_b", "JS distance", "random", "p", "excess factor"),
    *("window [GeV]", "random", "p", "power of m"),
)


def sculpting_chapter(found: SculptingRecord) -> Chapter:
    """Makes the chapter from the record of a set."""
    low, high = found.range_gev
    text = (
        f"{found.n_background} background events with {found.mass} from {low:.0f} to {high:.0f} "
        "GeV, before and after cuts that keep a share of them. A cut that changes the spectrum may "
        "make a false bump."
    )
    return Chapter(
        "Sculpting",
        texts=[text],
        tables=[_cut_table(found), _correlation_table(found)],
    )


def _cut_table(found: SculptingRecord) -> Table:
    classifiers = found.classifiers
    cuts = dict.fromkeys(cut for one in classifiers.values() for cut in one.cuts)
    groups = [
        Group(f"ε_B = {cut}", [Row(name, _cells(one, cut)) for name, one in classifiers.items()])
        for cut in cuts
    ]
    missing = dict.fromkeys(
        cut for one in classifiers.values() for cut in one.undefined if cut not in cuts
    )
    few = [f"Too few events pass a cut at ε_B = {', '.join(missing)}."] if missing else []
    confidence = f"{found.confidence:.0%}"
    random = (
        f"Random: what {confidence} of {found.n_random} random selections of as many events stay "
        "below. p: share of these with at least the value found; for the excess, in any window. "
        f"[low, high]: {confidence} intervals."
    )
    meaning = (
        "JS distance: Jensen-Shannon, of the spectra after and before. Excess factor: share of the "
        "events in a window after the cut over before, in the window of the most significant "
        f"excess. Power of m: the efficiency goes like {found.mass} to this power; 0 without "
        "sculpting."
    )
    return Table(
        caption=f"{found.mass} of the background after cuts on the score",
        heads=_HEADS,
        groups=groups,
        notes=[random, meaning, *few],
    )


def _cells(classifier: ClassifierSculpting, at: str) -> list[Cell]:
    if at not in classifier.cuts:
        return [Cell(reason=classifier.undefined[at])] * (len(_HEADS) - 1)
    cut = classifier.cuts[at]
    return [
        count_cell(cut.n_passing),
        number_cell(cut.js, 3),
        Cell(f"< {cut.js_random_high:.3f}", cut.js_random_high),
        number_cell(cut.js_p, 3),
        *_excess_cells(cut.excess),
        _estimate_cell(cut.power, 2),
    ]


def _excess_cells(excess: WindowExcess | None) -> list[Cell]:
    if excess is None:
        return [Cell(reason="no window is expected to keep 10 events")] * 4
    low, high = excess.window_gev
    return [
        quantity_cell(excess.factor, excess.interval, 2),
        Cell(f"{low:.0f}-{high:.0f}", note=f"N_b {excess.n_inside}"),
        Cell(f"< {excess.random_high:.2f}", excess.random_high),
        number_cell(excess.p, 3),
    ]


def _estimate_cell(found: Estimate, digits: int) -> Cell:
    if found.value is None:
        return Cell(reason="undefined")
    return quantity_cell(found.value, found.interval, digits)


def _correlation_table(found: SculptingRecord) -> Table:
    rows = [
        Row(name, [_estimate_cell(one.rank_correlation, 3)])
        for name, one in found.classifiers.items()
    ]
    return Table(
        caption=f"Rank correlation of score and {found.mass} of background events",
        heads=("", "Spearman"),
        groups=[Group("", rows)],
    )
