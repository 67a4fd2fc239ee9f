"""Pictures of an audit: how methods agree, categories by cluster, and what is on the list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepllm.arrays import Bools, Floats, Ints
from hepllm.pictures.style import COLOURS, plain, save_figure

_MOST_POINTS = 8000
"""Points of events that are not on the list; more hide each other."""

_MOST_CLUSTERS = 12
_DARK = 0.55
"""Share above which a number in a cell is white."""

_MARKERS = ("o", "^", "s", "D")


@dataclass(frozen=True, eq=False)
class Heat:
    """A table of shares as colours.

    Attributes:
        rows: names of the R rows.
        columns: names of the C columns.
        share: colour of each cell from 0 to 1, NaN where undefined, shape (R, C).
        counts: number in each cell, shape (R, C).
        title: title of the panel.
        xlabel: what the columns are.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    share: Floats
    counts: Ints
    title: str
    xlabel: str


def agreement_heat(names: Sequence[str], shared: Ints, flagged: Ints) -> Heat:
    """How many of the events that one method flags another flags too.

    Args:
        names: names of the K methods.
        shared: events that both flag, shape (K, K); on the diagonal those that one flags.
        flagged: of the events that the row flags, those that the column knows, shape (K, K).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(flagged > 0, shared / flagged, np.nan)
    title = "of the events that the row flags, those that the column flags"
    return Heat(names, names, share, shared, title, "")


def cluster_heat(name: str, table: Mapping[str, Mapping[str, int]]) -> Heat:
    """The events of each category by cluster, as shares of the cluster.

    Args:
        name: name of the run.
        table: events by category and number of the cluster.
    """
    clusters = sorted({one for counts in table.values() for one in counts}, key=int)
    clusters = sorted(clusters[: _MOST_CLUSTERS + 1], key=lambda one: (one == "-1", int(one)))
    counts = np.array([[row.get(one, 0) for one in clusters] for row in table.values()])
    with np.errstate(invalid="ignore"):
        share = counts / counts.sum(axis=0)
    columns = ["none" if one == "-1" else one for one in clusters]
    title = f"categories by cluster, {name}: shares of a cluster"
    return Heat(list(table), columns, share, counts, title, "cluster")


def plot_heat(panels: Sequence[Heat], title: str, path: Path) -> None:
    """Draws tables of shares side by side, with the number of events in each cell."""
    widths = [max(3.2, 0.85 * len(one.columns) + 2.2) for one in panels]
    height = max(3.0, 0.55 * max(len(one.rows) for one in panels) + 2.4)
    figure = Figure(figsize=(sum(widths) + 1.0, height), dpi=130, layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)
    for axes, one in zip(grid[0], panels, strict=True):
        image = axes.imshow(one.share, vmin=0.0, vmax=1.0, cmap="Blues", aspect="auto")
        axes.set_xticks(range(len(one.columns)), [plain(name) for name in one.columns])
        axes.set_yticks(range(len(one.rows)), [plain(name) for name in one.rows])
        axes.tick_params(length=0, labelsize=9)
        if max(map(len, one.columns)) > 6:
            for label in axes.get_xticklabels():
                label.set(rotation=30, ha="right")
        for (row, column), share in np.ndenumerate(one.share):
            colour = "white" if share > _DARK else "black"
            text = f"{one.counts[row, column]}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
        axes.set_title(plain(one.title), fontsize=9, loc="left")
        axes.set_xlabel(one.xlabel)
    figure.colorbar(image, ax=grid[0, -1], label="share", fraction=0.08)
    figure.suptitle(plain(title), fontsize=12)
    save_figure(figure, path)


@dataclass(frozen=True, eq=False)
class Plane:
    """Two values of N events, shape (N,) each, NaN where unknown, with their names."""

    x: Floats
    y: Floats
    xlabel: str
    ylabel: str


def plot_review(planes: Sequence[Plane], why: Mapping[str, Bools], title: str, path: Path) -> None:
    """Draws events in several planes, and those of the review list by why they are on it.

    Args:
        planes: the planes.
        why: events of the list by reason, shape (N,).
        title: title of the picture.
        path: PNG file, written whole or not at all.
    """
    figure = Figure(figsize=(5.4 * len(planes) + 0.4, 5.2), dpi=130, layout="constrained")
    grid = figure.subplots(1, len(planes), squeeze=False)
    for axes, plane in zip(grid[0], planes, strict=True):
        _draw_plane(axes, plane, why)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    figure.suptitle(plain(title), fontsize=12)
    save_figure(figure, path)


def _draw_plane(axes: Axes, plane: Plane, why: Mapping[str, Bools]) -> None:
    is_known = np.isfinite(plane.x) & np.isfinite(plane.y)
    listed = np.any([np.zeros_like(is_known), *why.values()], axis=0)
    rest = np.flatnonzero(is_known & ~listed)
    rest = np.random.default_rng(1).permutation(rest)[:_MOST_POINTS]
    axes.scatter(
        plane.x[rest],
        plane.y[rest],
        s=4,
        c="0.75",
        linewidths=0,
        rasterized=True,
        label=f"not on the list: {len(listed) - int(listed.sum())}",
    )
    for (name, mask), colour, marker in zip(why.items(), COLOURS, _MARKERS, strict=False):
        mine = is_known & mask
        axes.scatter(
            plane.x[mine],
            plane.y[mine],
            s=9,
            c=colour,
            marker=marker,
            linewidths=0,
            alpha=0.7,
            rasterized=True,
            label=f"{name}: {int(mask.sum())}",
        )
    axes.set(xlabel=plain(plane.xlabel), ylabel=plain(plane.ylabel))
    axes.tick_params(direction="in", top=True, right=True)
