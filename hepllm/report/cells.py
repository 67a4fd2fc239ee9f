"""Cells of tables: numbers with their digits, intervals and numbers of passing events."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hepllm.evaluation.cascade import LossDifference
from hepllm.evaluation.records import Bounded, DifferenceRecord, ScoreRecord, Sic, SicInSample
from hepllm.evaluation.seeds import Spread
from hepllm.report.page import Cell


@dataclass(frozen=True)
class Column:
    """Heading of a number in tables, and its digits after the decimal point."""

    head: str
    digits: int


COLUMNS = {
    "auc": Column("AUC", 3),
    "sic_at_0.1": Column("SIC(0.1)", 2),
    "sic_at_0.3": Column("SIC(0.3)", 2),
    "sic_at_0.5": Column("SIC(0.5)", 2),
    "max_sic": Column("SIC at the validation cut", 2),
    "inverse_eps_b_at_0.3": Column("1/ε_B(0.3)", 0),
    "accuracy": Column("accuracy", 3),
}
"""Columns by key in the records."""

IN_SAMPLE_HEADS = ("max, OmniLearn", "max, CATHODE")
"""Headings of the largest SIC by the rules of papers."""

_TOO_FEW = "fewer background events than N_min pass the cut"


def score_cell(score: ScoreRecord, key: str) -> Cell:
    """Shows a number with its interval and the background events that pass its cut."""
    found, digits = score.metrics[key], COLUMNS[key].digits
    at_cut = score.metrics[key.replace("inverse_eps_b", "sic")]  # both are read at the same cut
    passing = at_cut.n_background_passing if isinstance(at_cut, Sic) else None
    note = "" if passing is None or found is not at_cut else f"N_b {passing}"
    if found.value is None and isinstance(found, Bounded) and found.lower_bound is not None:
        return bound_cell(found.lower_bound, digits, note=note)
    if found.value is None:
        reason = score.undefined.get(key, "undefined") if passing is None else _TOO_FEW
        return Cell(note=note, reason=reason)
    reason = score.undefined.get(f"{key}_interval", "") if found.interval is None else ""
    return quantity_cell(found.value, found.interval, digits, note=note, reason=reason)


def in_sample_cells(score: ScoreRecord) -> list[Cell]:
    """Shows the largest SIC by the rules of papers, in the columns of ``IN_SAMPLE_HEADS``."""
    return [_in_sample_cell(one) for one in (score.max_sic_omnilearn, score.max_sic_cathode)]


def _in_sample_cell(found: SicInSample) -> Cell:
    """Shows a SIC at a cut chosen on the sample itself, with the background that passes."""
    if found.value is None:
        return Cell(reason="undefined, or evaluated by an earlier version")
    digits = 1 if found.value >= 10 else 2
    return Cell(f"{found.value:.{digits}f}", found.value, note=f"N_b {found.n_background_passing}")


def difference_cell(found: DifferenceRecord | LossDifference, digits: int) -> Cell:
    """Shows the difference of a number between two classifiers, or else their ratio."""
    if found.estimate is None and (found.ratio_low is not None or found.ratio_high is not None):
        return _ratio_cell(found.ratio_low, found.ratio_high)
    reason = found.reason or "undefined"
    if found.estimate is None:
        return Cell(reason=reason)
    reason = reason if found.interval is None else ""
    return quantity_cell(found.estimate, found.interval, digits, sign="+", reason=reason)


def _ratio_cell(low: float | None, high: float | None) -> Cell:
    """Rounds the ends outwards, for an interval must not claim more than it knows."""
    down, up = (None if end is None else _two_digits(end) for end in (low, high))
    if down is None:
        return Cell(f"ratio < {up and up[1]}", high)
    if up is None:
        return Cell(f"ratio > {down[0]}", low)
    return Cell(f"ratio {down[0]} to {up[1]}", low)


def _two_digits(value: float) -> tuple[str, str]:
    """The nearest numbers of two digits below and above a positive number."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.floor(value / unit) * unit:.2g}", f"{math.ceil(value / unit) * unit:.2g}"


def spread_cell(found: Spread, key: str, n_runs: int) -> Cell:
    """Shows a number over several runs."""
    few = "" if found.n_runs == n_runs else f"values {found.n_runs} of {n_runs}"
    digits = 4 if key == "auc" else COLUMNS[key].digits
    if found.median is None and found.lower_bound is not None:
        return bound_cell(found.lower_bound, digits, note=few)
    if found.median is None or found.low is None:
        return Cell(note=few, reason="too little background in some runs, without a lower bound")
    if found.high is None:
        shown = quantity_cell(found.median, (found.low, found.median), digits, note=few)
        return replace(shown, interval=f"{shown.interval.partition(',')[0]}, open]")
    return quantity_cell(found.median, (found.low, found.high), digits, note=few)


def quantity_cell(
    value: float,
    between: tuple[float, float] | None,
    digits: int,
    *,
    sign: str = "",
    note: str = "",
    reason: str = "",
) -> Cell:
    """Shows a number and its interval, with one digit less if one of them is 10 or larger.

    Args:
        value: the number.
        between: its interval; None where it is undefined.
        digits: digits after the decimal point.
        sign: ``+`` shows the sign of positive numbers.
        note: note beside the number.
        reason: why there is no interval.
    """
    if max(abs(number) for number in (value, *(between or ()))) >= 10:
        digits = max(digits - 1, 0)
    interval = ""
    if between is not None:
        low, high = between
        interval = f"[{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"
    return Cell(f"{value:{sign}.{digits}f}", value, interval, note, reason)


def bound_cell(bound: float, digits: int, *, note: str = "") -> Cell:
    """Shows a lower bound in place of a number."""
    digits = max(digits - 1, 0) if bound >= 10 else digits
    rounded = math.floor(bound * 10**digits) / 10**digits  # rounding up would claim too much
    return Cell(f"> {rounded:.{digits}f}", bound, note=note)


def number_cell(value: float | None, digits: int) -> Cell:
    """Shows a number without an interval."""
    return Cell(reason="undefined") if value is None else Cell(f"{value:.{digits}f}", value)


def count_cell(value: int | None) -> Cell:
    """Shows a number of events."""
    return Cell("" if value is None else str(value), value)
