"""A page of feature distributions, signal against background, as one PNG file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.patches import Patch

from hepllm.arrays import Floats
from hepllm.pictures.style import BACKGROUND_COLOUR, SIGNAL_COLOUR, save_figure
from hepllm.schema import Feature

_COLUMNS = 5
_BINS = (20, 40)
"""Smallest and largest number of bins; between them, the smallest class decides."""

_RANGE = (0.002, 0.998)
"""Quantiles of all events at the ends of the axis; the outermost bins include all beyond."""

_STYLE: Mapping[str, tuple[str, str | None, float]] = {
    "background": (BACKGROUND_COLOUR, None, 0.22),
    "signal": (SIGNAL_COLOUR, "////", 0.0),
    "unknown": ("0.35", None, 0.12),
}

_LABEL = 45
"""Characters of a label of usual size that fit below a panel."""


@dataclass(frozen=True)
class FeatureHistograms:
    """The distribution of one feature for each class.

    Attributes:
        edges: (B + 1,) bin edges; empty where no event has a value.
        densities: (B,) share of the events of a class, among those with a value, by label.
        missing: share of events without a value, by label.
        counts: number of events with a value, by label.
    """

    feature: Feature
    edges: Floats
    densities: Mapping[str, Floats]
    missing: Mapping[str, float]
    counts: Mapping[str, int]

    @classmethod
    def of(cls, feature: Feature, classes: Mapping[str, Floats]) -> Self:
        """Bins the values of each class, NaN where missing, in a common range."""
        present = {label: values[~np.isnan(values)] for label, values in classes.items()}
        missing = {label: 1 - len(present[label]) / len(classes[label]) for label in classes}
        every = np.concatenate(list(present.values())) if present else np.empty(0)
        if not len(every):
            return cls(feature, np.empty(0), {}, missing, {})
        smallest = min(len(values) for values in present.values() if len(values))
        n_bins = int(np.clip(2 * np.cbrt(smallest), *_BINS))
        edges = _edges(every, feature, n_bins)
        inside = {k: np.clip(v, edges[0], edges[-1]) for k, v in present.items() if len(v)}
        densities = {
            label: np.histogram(values, edges)[0] / len(values) for label, values in inside.items()
        }
        counts = {label: len(values) for label, values in inside.items()}
        return cls(feature, edges, densities, missing, counts)

    def error(self, label: str) -> Floats:
        """Poisson errors of the densities of a class, shape (B,)."""
        return np.asarray(np.sqrt(self.densities[label] / self.counts[label]))

    @property
    def has_ratio(self) -> bool:
        """Whether signal can be divided by background."""
        return {"signal", "background"} <= set(self.densities)


def _edges(values: Floats, feature: Feature, n_bins: int) -> Floats:
    low, high = np.quantile(values, _RANGE)
    if feature.integral:
        low, high = math.floor(low) - 0.5, math.ceil(high) + 0.5
        step = max(1, math.ceil((high - low) / n_bins))
        return np.arange(low, high + step, step, dtype=np.float64)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, n_bins + 1)


def plot_features(
    histograms: Sequence[FeatureHistograms], title: str, counts: Mapping[str, int], path: Path
) -> None:
    """Draws all features on one page, a PNG file, with the number of events by label."""
    drawn = [histogram for histogram in histograms if histogram.densities]
    empty = [histogram.feature.name for histogram in histograms if not histogram.densities]
    rows = max(1, math.ceil(len(drawn) / _COLUMNS))
    figure = Figure(figsize=(3.1 * _COLUMNS, 2.9 * rows + 0.9), dpi=110, layout="constrained")
    grid = figure.add_gridspec(rows, _COLUMNS)
    for place, histogram in enumerate(drawn):
        _draw(figure, grid[place // _COLUMNS, place % _COLUMNS], histogram)
    figure.suptitle(f"{title}: each class normalised to 1", x=0.01, ha="left", fontsize=15)
    _legend(figure, [label for label in _STYLE if counts.get(label)], counts)
    if empty:
        text = f"without a value in any event: {', '.join(empty)}"
        figure.supxlabel(text, x=0.01, ha="left", fontsize=10)
    save_figure(figure, path)


def plot_feature(histogram: FeatureHistograms) -> Figure:
    """Draws one feature, which at least one event has; signal is hatched, background filled."""
    figure = Figure(figsize=(3.4, 3.0), dpi=170)
    # Margins that fit every feature: to find those of each takes most of the time of drawing.
    place = figure.add_gridspec(1, 1, left=0.17, right=0.97, bottom=0.15, top=0.93)
    _draw(figure, place[0, 0], histogram)
    return figure


def _legend(figure: Figure, labels: Sequence[str], counts: Mapping[str, int]) -> None:
    if not labels:
        return
    styles = [_STYLE[label] for label in labels]
    patches = [Patch(facecolor=(c, alpha), edgecolor=c, hatch=hatch) for c, hatch, alpha in styles]
    names = [f"{label}, N = {counts[label]}" for label in labels]
    figure.legend(patches, names, loc="upper right", ncols=len(names), fontsize=13, frameon=False)


def _draw(figure: Figure, place: SubplotSpec, histogram: FeatureHistograms) -> None:
    """Draws the classes of one feature, and below them signal over background."""
    if histogram.has_ratio:
        both = place.subgridspec(2, 1, height_ratios=(3, 1), hspace=0.05)
        axes = figure.add_subplot(both[0])
        below = figure.add_subplot(both[1], sharex=axes)
        axes.tick_params(labelbottom=False)
        _draw_ratio(below, histogram)
    else:
        axes = below = figure.add_subplot(place)
    centres = (histogram.edges[1:] + histogram.edges[:-1]) / 2
    for label in [label for label in _STYLE if label in histogram.densities]:
        colour, hatch, alpha = _STYLE[label]
        density = histogram.densities[label]
        if alpha:
            axes.stairs(density, histogram.edges, fill=True, color=colour, alpha=alpha)
        axes.stairs(density, histogram.edges, color=colour, linewidth=1.3, hatch=hatch)
        error = histogram.error(label)
        axes.errorbar(centres, density, error, fmt="none", ecolor=colour, elinewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("share of events", fontsize=8)
    for one in {axes, below}:
        one.tick_params(direction="in", which="both", top=True, right=True, labelsize=7)
        one.minorticks_on()
    label = histogram.feature.axis_label
    below.set_xlabel(label, fontsize=9 * min(1.0, _LABEL / len(label)))
    _note_missing(axes, histogram)


def _draw_ratio(axes: Axes, histogram: FeatureHistograms) -> None:
    signal, background = (histogram.densities[label] for label in ("signal", "background"))
    both = (signal > 0) & (background > 0)
    ratio = signal[both] / background[both]
    relative = np.hypot(
        histogram.error("signal")[both] / signal[both],
        histogram.error("background")[both] / background[both],
    )
    centres = ((histogram.edges[1:] + histogram.edges[:-1]) / 2)[both]
    axes.errorbar(
        centres, ratio, ratio * relative, fmt=".", color="0.2", markersize=3, elinewidth=0.8
    )
    axes.axhline(1, color="0.5", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_ylabel("S / B", fontsize=8)


def _note_missing(axes: Axes, histogram: FeatureHistograms) -> None:
    notes = [f"{share:.1%} {label} missing" for label, share in histogram.missing.items() if share]
    if notes:
        axes.set_ylim(top=axes.get_ylim()[1] * (1 + 0.12 * len(notes)))
        text = "\n".join(notes)
        axes.text(
            0.97,
            0.96,
            text,
            transform=axes.transAxes,
            ha="right",
            va="top",
            fontsize=8,
            color="0.3",
        )
