"""The data map of a training, and the features of its categories."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from hepllm.arrays import Floats
from hepllm.pictures.features import FeatureHistograms
from hepllm.pictures.style import (
    BACKGROUND_COLOUR,
    COLOURS,
    SIGNAL_COLOUR,
    line_style,
    plain,
    save_figure,
)

_MOST_POINTS = 8000
"""Points of a class that are drawn; more hide each other."""

_LINE = 34
"""Characters of a line below a feature."""

_BINS = 50
_COLUMNS = 5
_CLASS_COLOURS = {"signal": SIGNAL_COLOUR, "background": BACKGROUND_COLOUR}


@dataclass(frozen=True, eq=False)
class MappedClass:
    """The N events of a class on a map; arrays of shape (N,)."""

    name: str
    confidence: Floats
    variability: Floats
    correctness: Floats


def plot_data_map(
    classes: Sequence[MappedClass],
    title: str,
    path: Path,
    borders: tuple[float, float] | None = None,
) -> None:
    """Draws confidence against variability, coloured by correctness, with their distributions.

    Each class has a panel; at most 8,000 of its events are drawn as points, a random choice, and
    all count in the distributions.

    Args:
        classes: the classes, with at least one event each.
        title: title of the picture.
        path: PNG file, written whole or not at all.
        borders: variability from which events are ambiguous and confidence below which others are
            hard; None to draw none.
    """
    number = len(classes)
    figure = Figure(figsize=(4.3 * number + 2.6, 5.9), dpi=130, layout="constrained")
    widths = (*([4.0] * number), 1.3)
    grid = figure.add_gridspec(2, number + 1, width_ratios=widths, height_ratios=(1, 4.2))
    # All panels have the same range, so that the distribution at the side belongs to both.
    top = max(0.1, *(float(one.variability.max()) for one in classes)) * 1.03
    first: Axes | None = None
    points: PathCollection | None = None
    for place, one in enumerate(classes):
        axes = figure.add_subplot(grid[1, place], sharex=first, sharey=first)
        first = first or axes
        points = _draw_points(axes, one, borders)
        axes.set(xlim=(-0.01 * top, top), ylim=(-0.02, 1.02), xlabel="variability")
        axes.tick_params(direction="in", top=True, right=True, labelleft=place == 0)
        above = figure.add_subplot(grid[0, place], sharex=axes)
        counts, edges = np.histogram(one.variability, _BINS, (0.0, top))
        above.stairs(counts, edges, fill=True, color=_CLASS_COLOURS[one.name], alpha=0.5)
        above.set_title(f"{one.name}, N = {len(one.confidence)}", fontsize=11)
        above.tick_params(direction="in", labelbottom=False, labelsize=8)
        if place == 0:
            axes.set_ylabel("confidence: mean probability of the true class")
            above.set_ylabel("events", fontsize=9)
    side = figure.add_subplot(grid[1, number], sharey=first)
    for index, one in enumerate(classes):
        counts, edges = np.histogram(one.confidence, _BINS, (0.0, 1.0))
        side.stairs(
            counts / len(one.confidence),
            edges,
            orientation="horizontal",
            color=_CLASS_COLOURS[one.name],
            linestyle=line_style(index),
            label=one.name,
        )
    side.set_xscale("log")
    side.set_xlabel("share of the class", fontsize=9)
    side.tick_params(direction="in", labelleft=False, labelsize=8)
    side.legend(fontsize=8, frameon=False, loc="lower right")
    if points is not None:
        bar = figure.colorbar(points, ax=side, location="right", fraction=0.2)
        bar.set_label("correctness: share of epochs that were right")
    figure.suptitle(plain(title), fontsize=12)
    save_figure(figure, path)


def _draw_points(
    axes: Axes, one: MappedClass, borders: tuple[float, float] | None
) -> PathCollection:
    order = np.random.default_rng(1).permutation(len(one.confidence))[:_MOST_POINTS]
    points = axes.scatter(
        one.variability[order],
        one.confidence[order],
        c=one.correctness[order],
        cmap="viridis",
        norm=Normalize(0.0, 1.0),
        s=5,
        alpha=0.6,
        linewidths=0,
        rasterized=True,
    )
    if borders is not None:
        variability, confidence = borders
        style: dict[str, Any] = {"color": "0.25", "linewidth": 1.0, "linestyle": "--"}
        axes.axvline(variability, **style)
        axes.plot([-1.0, variability], [confidence, confidence], **style)
        _name(axes, "ambiguous", 0.985, 0.98, "right")
        _name(axes, "easy", 0.02, 0.985, "left")
        _name(axes, "hard", 0.02, 0.03, "left")
    return points


def _name(axes: Axes, text: str, x: float, y: float, side: str) -> None:
    """Writes the name of a category into its corner."""
    axes.text(
        x,
        y,
        text,
        transform=axes.transAxes,
        ha=side,
        va="top" if y > 0.5 else "bottom",
        fontsize=10,
        bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": "0.6", "alpha": 0.85},
    )


def plot_category_features(
    histograms: Sequence[FeatureHistograms], title: str, counts: Mapping[str, int], path: Path
) -> None:
    """Draws the features of a class on one page, a PNG file, one curve for each category.

    Args:
        histograms: of each feature, with the categories in place of the classes.
        title: title of the page.
        counts: events by category.
        path: PNG file, written whole or not at all.
    """
    drawn = [one for one in histograms if one.densities]
    rows = max(1, math.ceil(len(drawn) / _COLUMNS))
    figure = Figure(figsize=(3.1 * _COLUMNS, 2.5 * rows + 0.9), dpi=110, layout="constrained")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    colours = dict(zip(counts, COLOURS, strict=False))
    for axes, one in zip(grid.flat, drawn, strict=False):
        for index, (category, density) in enumerate(one.densities.items()):
            centres = (one.edges[1:] + one.edges[:-1]) / 2
            colour, style = colours[category], line_style(index)
            axes.stairs(density, one.edges, color=colour, linestyle=style, linewidth=1.3)
            axes.errorbar(
                centres, density, one.error(category), fmt="none", ecolor=colour, elinewidth=0.7
            )
        axes.set_ylim(bottom=0)
        axes.set_xlabel(textwrap.fill(one.feature.axis_label, _LINE), fontsize=9)
        axes.tick_params(direction="in", which="both", top=True, right=True, labelsize=7)
    for axes in list(grid.flat)[len(drawn) :]:
        axes.set_axis_off()
    for row in grid:
        row[0].set_ylabel("share of events", fontsize=8)
    patches = [Patch(color=colours[name]) for name in counts]
    names = [f"{name}, N = {number}" for name, number in counts.items()]
    figure.legend(patches, names, loc="upper right", ncols=len(names), fontsize=13, frameon=False)
    figure.suptitle(
        f"{plain(title)}: each category normalised to 1", x=0.01, ha="left", fontsize=15
    )
    save_figure(figure, path)
