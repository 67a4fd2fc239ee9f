"""Curves with bands of several classifiers or runs in one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepllm.arrays import Bools
from hepllm.evaluation.curves import CurvesRecord, curves_over_runs
from hepllm.evaluation.results import Band
from hepllm.pictures.style import COLOURS, legend_below, line_style, plain, wide_canvas

_ROOM = 1.35
"""Of the axis above the highest band, for the legend."""


@dataclass(frozen=True)
class Caption:
    """What stands beside the curves.

    Attributes:
        sample: name of the sample, above the axes.
        numbers: how many events or runs, above the axes.
        bands: what the bands are, above the legend.
    """

    sample: str
    numbers: str
    bands: str


def sic_figure(bands: Mapping[str, Band], caption: Caption) -> Figure:
    """SIC against signal efficiency.

    Args:
        bands: by the name in the legend.
        caption: what stands beside them.
    """
    figure, axes = _canvas(caption)
    _draw(axes, bands)
    efficiency = np.linspace(0, 1, 201)
    axes.plot(efficiency, np.sqrt(efficiency), color="0.55", linewidth=1, label="random")
    axes.set(xlim=(0, 1), ylim=(0, _ROOM * _highest(bands, 1.0)))
    axes.set_ylabel(r"SIC = $\epsilon_S\,/\,\sqrt{\epsilon_B}$")
    legend_below(figure, *axes.get_legend_handles_labels(), caption.bands)
    return figure


def rejection_figure(bands: Mapping[str, Band], caption: Caption) -> Figure:
    """Background rejection against signal efficiency, which is the ROC curve.

    Args:
        bands: by the name in the legend.
        caption: what stands beside them.
    """
    figure, axes = _canvas(caption)
    _draw(axes, bands)
    efficiency = np.linspace(1e-3, 1, 500)
    axes.plot(efficiency, 1 / efficiency, color="0.55", linewidth=1, label="random")
    axes.set(xlim=(0, 1), ylim=(1, 2 * _highest(bands, 2.0)), yscale="log")
    axes.set_ylabel(r"background rejection $1/\epsilon_B$")
    legend_below(figure, *axes.get_legend_handles_labels(), caption.bands)
    return figure


def spread_figures(curves: Sequence[CurvesRecord]) -> dict[str, Figure]:
    """The SIC and the ROC curve of each classifier as median and band over runs.

    Args:
        curves: of each run, of the same set.

    Returns:
        Figures under ``sic`` and ``roc``.
    """
    found = curves_over_runs(curves)
    caption = Caption(
        sample=f"{curves[0].sample} sample",
        numbers=f"$N_s$ = {curves[0].n_signal}, $N_b$ = {curves[0].n_background}",
        bands=f"median of {len(curves)} runs and band of 16-84 %",
    )
    return {
        "sic": sic_figure({name: one.sic for name, one in found.items()}, caption),
        "roc": rejection_figure({name: one.rejection for name, one in found.items()}, caption),
    }


def _canvas(caption: Caption) -> tuple[Figure, Axes]:
    figure, axes = wide_canvas(plain(caption.sample), caption.numbers)
    axes.set_xlabel(r"signal efficiency $\epsilon_S$")
    return figure, axes


def _draw(axes: Axes, bands: Mapping[str, Band]) -> None:
    for index, (name, band) in enumerate(bands.items()):
        colour = COLOURS[index % len(COLOURS)]
        axes.fill_between(band.eps_s, band.low, band.high, color=colour, alpha=0.18, linewidth=0)
        (line,) = axes.plot(band.eps_s, band.value, color=colour, linestyle=line_style(index))
        shown = np.isfinite(band.value)
        line.set_label(plain(name) if shown.any() else f"{plain(name)}: no value")
        alone = shown & ~_has_neighbour(shown)
        axes.plot(band.eps_s[alone], band.value[alone], ".", color=colour)


def _has_neighbour(shown: Bools) -> Bools:
    """Whether a point is part of a line."""
    padded = np.pad(shown, 1)
    return padded[:-2] | padded[2:]


def _highest(bands: Mapping[str, Band], least: float) -> float:
    tops = [np.concatenate([band.value, band.high]) for band in bands.values()]
    every = np.concatenate([*tops, [least]])
    return float(np.nanmax(every))
