"""Pictures of a scan over the masses of X and Y: significances and limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from hepllm.arrays import Floats
from hepllm.pictures.style import SIGNAL_COLOUR, plain, save_figure
from hepllm.search.limit_records import Limit, UpperLimit
from hepllm.search.plane_records import PlaneFindings

_MOST_WRITTEN = 80
"""Cells above which no number is written into them."""


class MassPoint(Protocol):
    """A point of the mass plane."""

    @property
    def m_jets_gev(self) -> tuple[float, float]:
        """Masses of X and Y, the heavier first."""
        ...


def plot_significances(name: str, found: PlaneFindings, path: Path) -> None:
    """Draws the local significance of the best window of each hypothesis, the best one marked."""
    figure = Figure(figsize=(7.2, 6.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    values = [one.significance_local for one in found.points]
    top = max(5.0, *values)
    mesh = draw_map(axes, found.points, values, "{:.1f}".format, Normalize(0.0, top))
    bar = figure.colorbar(mesh, ax=axes)
    bar.set_label("local significance of the largest excess", fontsize=12)
    best = found.best_point
    axes.plot(*best.m_jets_gev, marker="s", markersize=26, mfc="none", mec=SIGNAL_COLOUR, mew=2.5)
    axes.set_title(f"{plain(name)}, N = {found.n_in_range}", loc="left", fontsize=11)
    sigma = found.significance_global
    in_sigma = "" if sigma is None else f" ({sigma:.1f}$\\sigma$)"
    bound = r"$\leq$" if found.n_toys_exceeding == 0 else "="
    text = f"global p {bound} {found.p_value:.2g}{in_sigma}"
    axes.set_title(text, loc="right", fontsize=11)
    save_figure(figure, path)


def plot_plane_limits(name: str, found: PlaneFindings, path: Path) -> None:
    """Draws observed and expected limits of each hypothesis.

    They are limits on signal events in the box where every point has an efficiency, else after the
    cut; points without a limit stay empty.
    """
    with_limit = [(one, one.limit) for one in found.points if one.limit is not None]
    in_box = all(limit.box is not None for _, limit in with_limit)
    figure = Figure(figsize=(11.5, 5.2), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    points = [one for one, _ in with_limit]
    limits = [_shown(limit, in_box=in_box) for _, limit in with_limit]
    observed, expected = [one.observed for one in limits], [one.expected for one in limits]
    scale = LogNorm(min(*observed, *expected), max(*observed, *expected))
    mesh = draw_map(left, points, observed, "{:.3g}".format, scale)
    draw_map(right, points, expected, "{:.3g}".format, scale)
    left.set_title("observed", loc="right", fontsize=11)
    right.set_title("expected", loc="right", fontsize=11)
    left.set_title(f"{plain(name)}, {found.limits_at_gev:.0f} GeV, 95% CL", loc="left", fontsize=11)
    right.set_ylabel("")
    what = "signal events in the box" if in_box else "signal events after the cut"
    figure.colorbar(mesh, ax=[left, right]).set_label(f"upper limit on {what}", fontsize=12)
    save_figure(figure, path)


def _shown(limit: UpperLimit, *, in_box: bool) -> Limit:
    return limit.box if in_box and limit.box is not None else limit.selected


def draw_map(
    axes: Axes,
    points: Sequence[MassPoint],
    values: Sequence[float],
    write: Callable[[float], str],
    scale: Normalize,
) -> QuadMesh:
    """Draws a number at each point as a colour, and writes it into the cell."""
    masses = np.array([one.m_jets_gev for one in points])
    ticks = np.unique(masses)
    edges = _edges(ticks)
    grid = np.full((len(ticks), len(ticks)), np.nan)
    column, row = (np.searchsorted(ticks, side) for side in masses.T)
    grid[row, column] = values
    mesh = axes.pcolormesh(edges, edges, np.ma.masked_invalid(grid), cmap="cividis", norm=scale)
    if len(points) <= _MOST_WRITTEN:
        for (x, y), value in zip(masses, values, strict=True):
            colour = "white" if scale(value) < 0.5 else "black"
            axes.text(x, y, write(value), ha="center", va="center", fontsize=7, color=colour)
    axes.set(xscale="log", yscale="log", xlabel="$m_X$ [GeV]", ylabel="$m_Y$ [GeV]")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(ticks[:: max(1, len(ticks) // 10)].tolist()))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter("{x:.0f}")
        axis.label.set_fontsize(13)
    return mesh


def _edges(centres: Floats) -> Floats:
    """Edges of cells around points that are about equally far apart in the logarithm."""
    logs = np.log(centres)
    between = (logs[1:] + logs[:-1]) / 2
    return np.exp([2 * logs[0] - between[0], *between, 2 * logs[-1] - between[-1]])
