"""Pictures of a suite: every seed of every experiment, and how power grows with seeds."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from hepllm.evaluation.experiment_records import MetricSummary, SetSummary, SuiteRecord
from hepllm.evaluation.seed_power import power
from hepllm.pictures.style import COLOURS, legend_below, line_style, plain, wide_canvas

NAMES = {
    "auc": "AUC",
    "sic_at_0.1": r"SIC at $\epsilon_S$ = 0.1",
    "sic_at_0.3": r"SIC at $\epsilon_S$ = 0.3",
    "sic_at_0.5": r"SIC at $\epsilon_S$ = 0.5",
    "max_sic": "SIC at the validation cut",
    "accuracy": "accuracy",
}
"""Metrics as axes name them."""

_LINE, _PANEL = 0.3, 0.85
"""Height of a line, and of what a panel needs besides its lines, in inches."""


def experiments_figure(record: SuiteRecord, found: SetSummary) -> Figure:
    """Draws each seed and the mean with its interval, and the differences to the reference.

    Args:
        record: the suite.
        found: its results on one set.
    """
    names, keys = list(found.experiments), list(record.metrics)
    height = 0.5 + len(keys) * (_LINE * len(names) + _PANEL)
    figure = Figure(figsize=(9.6, height), dpi=150, layout="constrained")
    n_columns = 1 if len(names) == 1 else 2
    axes = figure.subplots(len(keys), n_columns, squeeze=False, sharey="row")
    for (left, *others), key in zip(axes, keys, strict=True):
        for place, name in enumerate(names):
            metric, colour = found.experiments[name][key], COLOURS[place % len(COLOURS)]
            _draw_values(left, place, metric, colour)
            for right in others:
                _draw_difference(right, place, metric, colour)
        left.set_yticks(range(len(names)), [plain(name) for name in names], fontsize=10)
        left.set_ylim(len(names) - 0.4, -0.6)
        left.set_xlabel(NAMES[key])
        for right in others:
            right.set_xlabel(f"difference in {NAMES[key]} to {plain(record.reference)}")
            right.axvline(0, color="0.55", linewidth=1, zorder=0)
        for one in (left, *others):
            one.tick_params(axis="x", direction="in", top=True)
            one.xaxis.set_major_locator(MaxNLocator(5))
    axes[0, 0].set_title(f"{plain(found.sample)} sample", loc="left", fontsize=11)
    axes[0, -1].set_title(
        f"$N_s$ = {found.n_signal}, $N_b$ = {found.n_background}", loc="right", fontsize=11
    )
    marks = {
        "a seed": Line2D([], [], color="0.3", linestyle="none", marker="o", markersize=3.5),
        "mean": Line2D([], [], color="0.3", linestyle="none", marker="|", markersize=14),
        f"{record.confidence:.0%} interval over seeds": Line2D(
            [], [], color="0.3", linewidth=5, alpha=0.3
        ),
    }
    if any(_is_empty(found.experiments[name][key]) for name in names for key in keys):
        marks["no seed has a value"] = Line2D([], [], color="0.3", linestyle="none", marker="x")
    legend_below(figure, list(marks.values()), list(marks), None)
    return figure


def power_figure(record: SuiteRecord, found: SetSummary) -> Figure:
    """Draws the power to show relative differences over the number of seeds, for each metric."""
    figure, axes = wide_canvas(
        f"{plain(record.name)}: {plain(found.sample)}", f"test at p < {1 - record.confidence:.2g}"
    )
    most = 2
    for place, (key, one) in enumerate(found.power.items()):
        for style, needed in enumerate(one.needed):
            most = max(most, min(needed.number or 100, 100))
            numbers = np.unique(np.geomspace(2, 200, 60).round().astype(int))
            difference = needed.relative * abs(one.mean)
            axes.plot(
                numbers,
                [power(difference, one.spread, int(n), 1 - record.confidence) for n in numbers],
                color=COLOURS[place % len(COLOURS)],
                linestyle=line_style(style),
                label=f"{NAMES[key]}, {100 * needed.relative:g} %",
            )
    wanted = f"power of {record.wanted_power:.0%}"
    axes.axhline(record.wanted_power, color="0.55", linewidth=1, zorder=0, label=wanted)
    axes.set(xlabel="seeds of each of two recipes", ylabel="power", ylim=(0, 1.02))
    axes.set(xscale="log", xlim=(2, max(10, 2 * most)))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    handles, labels = axes.get_legend_handles_labels()
    legend_below(figure, handles, labels, None)
    return figure


def _is_empty(metric: MetricSummary) -> bool:
    return all(value is None for value in metric.values.values())


def _draw_values(axes: Axes, place: int, metric: MetricSummary, colour: str) -> None:
    values = [value for value in metric.values.values() if value is not None]
    if not values:
        axes.plot(0.5, place, "x", color=colour, transform=axes.get_yaxis_transform())
        return
    axes.plot(values, [place] * len(values), "o", color=colour, markersize=3.5)
    if metric.mean is not None:
        axes.plot(metric.mean, place, "|", color=colour, markersize=14)
    if metric.interval is not None:
        axes.plot(metric.interval, [place, place], color=colour, linewidth=5, alpha=0.3)


def _draw_difference(axes: Axes, place: int, metric: MetricSummary, colour: str) -> None:
    found = metric.comparison
    if found is None:
        return
    axes.plot(found.difference, place, "|", color=colour, markersize=14)
    if found.interval is not None:
        axes.plot(found.interval, [place, place], color=colour, linewidth=5, alpha=0.3)
