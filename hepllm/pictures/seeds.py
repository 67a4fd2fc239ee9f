"""A picture of several trainings: each run, the median, and the interval of the mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from hepllm.evaluation.seeds import SeedEstimate, SpreadRecord
from hepllm.pictures.style import COLOURS, legend_below, plain

_SHOWN: Mapping[str, str] = {
    "auc": "AUC",
    "sic_at_0.3": r"SIC at $\epsilon_S$ = 0.3",
    "sic_at_0.5": r"SIC at $\epsilon_S$ = 0.5",
    "max_sic": "SIC at the validation cut",
}
_N_BASELINES = 2
"""Baselines in the picture: the best ones, beside which the others would only stretch the axes."""

_LINE, _PANEL = 0.3, 0.85
"""Height of a line, and of what a panel needs besides its lines, in inches."""


@dataclass(frozen=True)
class _Line:
    """A line of a panel: its name, its mean with interval, and the values of the runs."""

    name: str
    mean: SeedEstimate
    colour: str

    @property
    def values(self) -> list[float]:
        return [value for value in self.mean.by_run if value is not None]


def seed_figure(record: SpreadRecord) -> Figure:
    """Draws runs, median and interval of the model and the best baselines, and differences."""
    panels = {key: (_means(record, key), _differences(record, key)) for key in _SHOWN}
    panels = {key: lines for key, lines in panels.items() if lines[0][0].values}
    rows = [max(map(len, lines)) for lines in panels.values()]
    figure = Figure(
        figsize=(9.6, 0.5 + sum(_LINE * number + _PANEL for number in rows)),
        dpi=150,
        layout="constrained",
    )
    if not panels:
        figure.text(0.5, 0.5, "no run of the model has a value", ha="center")
        return figure
    axes = figure.subplots(len(panels), 2, squeeze=False, height_ratios=[n + 1.5 for n in rows])
    for (left, right), (key, lines) in zip(axes, panels.items(), strict=True):
        for one, shown in zip((left, right), lines, strict=True):
            _draw(one, shown)
        left.set_xlabel(_SHOWN[key])
        right.set_xlabel(f"difference in {_SHOWN[key]}")
        right.axvline(0, color="0.55", linewidth=1, zorder=0)
    axes[0, 0].set_title(f"{plain(record.sample)} sample", loc="left", fontsize=11)
    axes[0, 1].set_title(
        f"$N_s$ = {record.n_signal}, $N_b$ = {record.n_background}", loc="right", fontsize=11
    )
    _explain(figure, record)
    return figure


def _means(record: SpreadRecord, key: str) -> list[_Line]:
    """The model, the best baselines, and the model of the other runs."""
    best = _best(record, key)
    lines = [
        _Line(name, record.means[name][key], COLOURS[place])
        for place, name in enumerate((record.classifier, *best))
    ]
    if record.other is not None:
        name = f"{record.classifier}, {record.other.name}"
        mean = record.other.means[record.classifier][key]
        lines.insert(1, _Line(name, mean, COLOURS[len(lines)]))
    return lines


def _differences(record: SpreadRecord, key: str) -> list[_Line]:
    pairs = {name: f"{record.classifier} - {name}" for name in _best(record, key)}
    lines = [
        _Line(pair, record.differences[pair][key], COLOURS[place])
        for place, (name, pair) in enumerate(pairs.items(), start=1)
    ]
    if record.other is not None:
        name, colour = f"{record.name} - {record.other.name}", COLOURS[len(lines) + 1]
        lines.insert(0, _Line(name, record.against[record.classifier][key], colour))
    return lines


def _best(record: SpreadRecord, key: str) -> list[str]:
    found = {name: record.means[name][key].estimate for name in record.baselines}
    known = {name: value for name, value in found.items() if value is not None}
    return sorted(known, key=lambda name: -known[name])[:_N_BASELINES]


def _draw(axes: Axes, lines: Sequence[_Line]) -> None:
    places = np.arange(len(lines))
    for place, line in zip(places, lines, strict=True):
        between, colour = line.mean.interval, line.colour
        if between is not None:
            axes.plot(between, [place, place], color=colour, linewidth=5, alpha=0.3)
        if line.mean.estimate is not None and not line.values:
            axes.plot(line.mean.estimate, place, "D", color=colour, markersize=5)
        if line.values:
            axes.plot(line.values, [place] * len(line.values), "o", color=colour, markersize=3.5)
            axes.plot(np.median(line.values), place, "|", color=colour, markersize=14)
    axes.set_yticks(places, [plain(line.name) for line in lines], fontsize=10)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.tick_params(axis="x", direction="in", top=True)
    axes.xaxis.set_major_locator(MaxNLocator(5))


def _explain(figure: Figure, record: SpreadRecord) -> None:
    marks = {
        "a run": Line2D([], [], color="0.3", linestyle="none", marker="o", markersize=3.5),
        "median of the runs": Line2D([], [], color="0.3", linestyle="none", marker="|"),
        f"{record.bootstrap.confidence:.0%} interval of the mean, over seeds and events": Line2D(
            [], [], color="0.3", linewidth=5, alpha=0.3
        ),
    }
    if record.other is not None:
        marks["difference of means"] = Line2D([], [], color="0.3", linestyle="none", marker="D")
    legend_below(figure, list(marks.values()), list(marks), None)
