"""Tables of a report from the trees of ``metrics.json``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hepllm.evaluation.seeds import Spread
from hepllm.report.page import Cell, Group, Row, Table

Tree = Mapping[str, Any]

_COLUMNS = {
    "auc": ("AUC", 3),
    "sic_at_0.1": ("SIC(0.1)", 2),
    "sic_at_0.3": ("SIC(0.3)", 2),
    "sic_at_0.5": ("SIC(0.5)", 2),
    "max_sic": ("max SIC", 2),
    "inverse_eps_b_at_0.3": ("1/ε_B(0.3)", 0),
    "accuracy": ("accuracy", 3),
}
"""Heading and decimals by key."""

_OVERVIEW = ("auc", "sic_at_0.3", "sic_at_0.5", "max_sic", "accuracy")
_DIFFERENCES = ("auc", "sic_at_0.3", "sic_at_0.5", "max_sic")
_CUT_SHARES = ("precision", "recall", "f1", "accuracy")


def has_labels(tree: Tree) -> bool:
    """Whether a set could be judged."""
    return "auc" in tree


def events_text(tree: Tree) -> str:
    """How many events of which class a set has."""
    if not has_labels(tree):
        return f"{tree['n_events']} events without labels"
    return f"N_s = {tree['n_signal']} signal and N_b = {tree['n_background']} background events"


def result_table(tree: Tree) -> Table:
    """Every classifier and ablation of one set, with intervals and numbers of events."""
    ablations = tree["ablation"]
    retrained = {name: one for name, one in ablations.items() if one.get("retrained")}
    destroyed = {name: one for name, one in ablations.items() if name not in retrained}
    judged = tree["classifier"]
    groups = (
        ("", {judged: tree, **tree["baselines"]}),
        (f"{judged} trained without part of its input", retrained),
        (f"{judged} with part of its input destroyed", destroyed),
    )
    return Table(
        caption=f"Classifiers on {tree['sample']}: {events_text(tree)}",
        heads=("", *(head for head, _ in _COLUMNS.values())),
        groups=[
            Group(title, [_score_row(name, one, _COLUMNS) for name, one in rows.items()])
            for title, rows in groups
            if rows
        ],
        notes=_conventions(tree),
    )


def difference_table(tree: Tree) -> Table | None:
    """The judged model minus each other classifier; None where there is no other."""
    pairs = {**tree["paired"], **tree.get("contrasts", {})}
    if not pairs:
        return None
    rows = [
        Row(one["difference"], [difference_cell(one[key], key) for key in _DIFFERENCES])
        for one in pairs.values()
    ]
    return Table(
        caption="Paired differences of the same events",
        heads=("", *(_COLUMNS[key][0] for key in _DIFFERENCES)),
        groups=[Group("", rows)],
        notes=["An interval without 0 is a difference that these events can tell."],
    )


def view_table(tree: Tree) -> Table | None:
    """The judged model in other mixtures of the same events; None without any."""
    views = tree.get("views", {})
    if not views:
        return None
    keys = _OVERVIEW
    rows = [
        Row(name, [*map(count_cell, _counts(one)), *(score_cell(one, key) for key in keys)])
        for name, one in {tree["view"]: tree, **views}.items()
    ]
    return Table(
        caption=f"{tree['classifier']} in several mixtures of the classes",
        heads=("mixture", "N_s", "N_b", *(_COLUMNS[key][0] for key in keys)),
        groups=[Group("", rows)],
    )


def cut_table(tree: Tree) -> Table:
    """Precision, recall and confusion of the judged model at its cuts."""
    rows = [
        Row(
            point["chosen_by"],
            [
                number_cell(point["threshold"], 3),
                *(number_cell(point[key], 3) for key in _CUT_SHARES),
                count_cell(point["n_signal_passing"]),
                count_cell(point["n_background_passing"]),
            ],
        )
        for point in tree["working_points"]
    ]
    confusion = tree["confusion"]
    notes = ["N_s, N_b: events that pass. The shares hold for this mixture of classes only."]
    if confusion is not None:
        words = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in confusion.items())
        notes.append(f"Confusion at the first cut, sums of weights: {words}.")
    return Table(
        caption=f"Cuts of {tree['classifier']}, chosen on validation data",
        heads=("cut", "threshold", "precision", "recall", "F1", "accuracy", "N_s", "N_b"),
        groups=[Group("", rows)],
        notes=notes,
    )


def top_table(calibration: Tree) -> Table | None:
    """Observed over expected signal in the highest scores; None where that is not known."""
    if not calibration.get("top"):
        return None
    rows = [
        Row(
            f"highest {part['share']:.1%}",
            [
                count_cell(part["n_events"]),
                number_cell(part["expected"], 2),
                number_cell(part["observed"], 2),
                Cell(_text(part["ratio"], 2), part["ratio"], _pair((part["low"], part["high"]), 2)),
            ],
        )
        for part in calibration["top"]
    ]
    fraction = calibration["top_prior_fraction"]
    return Table(
        caption=f"Signal in the highest scores at a signal fraction of {fraction:.3g}",
        heads=("scores", "events", "expected", "observed", "observed / expected"),
        groups=[Group("", rows)],
        notes=["68 % intervals."],
    )


def overview_table(rows: Iterable[tuple[str, str, Tree]]) -> Table:
    """The judged model of every run on every set.

    Args:
        rows: name of the run, name of the set and its tree.
    """
    by_set: dict[str, list[Row]] = {}
    for run, name, tree in rows:
        if has_labels(tree):
            counts = [tree["n_signal"] + tree["n_background"], *_counts(tree)]
            scores = [score_cell(tree, key) for key in _OVERVIEW]
        else:
            counts = [tree["n_events"], None, None]
            scores = [Cell(reason="no labels")] * len(_OVERVIEW)
        by_set.setdefault(name, []).append(Row(run, [*map(count_cell, counts), *scores]))
    return Table(
        caption="The language model at a glance",
        heads=("run", "events", "N_s", "N_b", *(_COLUMNS[key][0] for key in _OVERVIEW)),
        groups=[Group(name, found) for name, found in by_set.items()],
        notes=["The conventions stand below the table of each set."],
    )


def spread_table(found: Mapping[str, Mapping[str, Spread]], n_runs: int) -> Table:
    """Median and 16-84 % band over runs, by classifier and metric."""
    keys = [key for key in _COLUMNS if key in next(iter(found.values()), {})]
    rows = [
        Row(name, [_spread_cell(metrics[key], key, n_runs) for key in keys])
        for name, metrics in found.items()
    ]
    return Table(
        caption=f"Median of {n_runs} runs, with the band of 16-84 % over them",
        heads=("", *(_COLUMNS[key][0] for key in keys)),
        groups=[Group("", rows)],
    )


def heading(key: str) -> str:
    """What a metric is called above a column."""
    return _COLUMNS[key][0]


def score_cell(tree: Tree, key: str) -> Cell:
    """A metric with its interval and the background events that it rests on."""
    digits = _COLUMNS[key][1]
    passing = tree.get(f"{key}_n_background_passing")
    value = tree[key]
    if value is None:
        return Cell(reason=tree["undefined"].get(key, "undefined"))
    interval = _pair(tree.get(f"{key}_interval"), digits)
    return Cell(_text(value, digits), value, interval, "" if passing is None else f"N_b {passing}")


def difference_cell(tree: Tree, key: str) -> Cell:
    """The difference of a metric between two classifiers."""
    digits, value = _COLUMNS[key][1], tree["estimate"]
    if value is None:
        return Cell(reason=tree["reason"] or "undefined")
    return Cell(f"{value:+.{digits}f}", value, _pair((tree["low"], tree["high"]), digits, sign="+"))


def number_cell(value: float | None, digits: int) -> Cell:
    """A number without an interval."""
    return Cell(_text(value, digits), value, reason="" if value is not None else "undefined")


def count_cell(value: int | None) -> Cell:
    """A number of events."""
    return Cell("" if value is None else str(value), value)


def _score_row(name: str, tree: Tree, keys: Iterable[str]) -> Row:
    return Row(name, [score_cell(tree, key) for key in keys])


def _counts(tree: Tree) -> list[int]:
    return [tree["n_signal"], tree["n_background"]]


def _spread_cell(found: Spread, key: str, n_runs: int) -> Cell:
    digits = _COLUMNS[key][1]
    if found.median is None:
        return Cell(reason="no run has a value")
    few = "" if found.n_runs == n_runs else f"in {found.n_runs} of {n_runs}"
    return Cell(
        _text(found.median, digits), found.median, _pair((found.low, found.high), digits), few
    )


def _text(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _pair(between: Sequence[float | None] | None, digits: int, sign: str = "") -> str:
    if between is None or None in between:
        return ""
    low, high = between
    return f"[{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def _conventions(tree: Tree) -> list[str]:
    drawn, n_background = tree["bootstrap"], tree["n_background"]
    uncertainty = (
        f"[low, high]: {drawn['confidence']:.0%} bootstrap interval from {drawn['n_replicas']} "
        "replicas, stratified by class and the same for all rows. N_b: background events that pass "
        "the cut."
    )
    definition = (
        "SIC(x) = ε_S / √ε_B at the tightest cut with ε_S ≥ x; 1/ε_B likewise. The cut of the "
        "largest SIC and that of the accuracy are chosen on validation data."
    )
    limits = (
        f"{tree['background_rule']} must pass; else there is no value. {n_background} background "
        f"events can show no SIC above {tree['sic_ceiling']:.1f}."
    )
    return [uncertainty, definition, limits]
