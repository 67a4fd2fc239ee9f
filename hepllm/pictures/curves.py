"""Pictures of curves with bands, of several classifiers or runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import CARETUPBASE

from hepllm.evaluation.curves import Band, CurvesRecord, curves_over_runs
from hepllm.pictures.style import BANDS, COLOURS, legend_below, line_style, plain, wide_canvas

LOWER_BOUND = "▲ lower bound"
"""Words for a legend."""

_SPARSE = (0, (1, 3))
_SKY = 1e9
"""Height over every picture."""

_ARROW_STEP = 4
"""Every fourth point of a bound has an arrow."""

_ROOM = 1.35
"""Upper end of the axis over the highest band, which leaves room for the legend."""


@dataclass(frozen=True)
class Caption:
    """Texts of a picture of curves.

    Attributes:
        sample: name of the sample, above the axes.
        numbers: numbers of events or runs, above the axes.
        bands: meaning of the bands, above the legend.
    """

    sample: str
    numbers: str
    bands: str


def sic_figure(bands: Mapping[str, Band], caption: Caption) -> Figure:
    """Draws SIC against signal efficiency, with bands by their name in the legend."""
    figure, axes = _canvas(caption)
    _draw(axes, bands)
    efficiency = np.linspace(0, 1, 201)
    axes.plot(efficiency, np.sqrt(efficiency), color="0.55", linewidth=1, label="random")
    axes.set(xlim=(0, 1), ylim=(0, _ROOM * _highest(bands, 1.0)))
    axes.set_ylabel(r"SIC = $\epsilon_S\,/\,\sqrt{\epsilon_B}$")
    legend_below(figure, *axes.get_legend_handles_labels(), _title(bands, caption))
    return figure


def rejection_figure(bands: Mapping[str, Band], caption: Caption) -> Figure:
    """Draws background rejection against signal efficiency (the ROC curve), as ``sic_figure``."""
    figure, axes = _canvas(caption)
    _draw(axes, bands)
    efficiency = np.linspace(1e-3, 1, 500)
    axes.plot(efficiency, 1 / efficiency, color="0.55", linewidth=1, label="random")
    axes.set(xlim=(0, 1), ylim=(1, 2 * _highest(bands, 2.0)), yscale="log")
    axes.set_ylabel(r"background rejection $1/\epsilon_B$")
    legend_below(figure, *axes.get_legend_handles_labels(), _title(bands, caption))
    return figure


def spread_figures(curves: Sequence[CurvesRecord]) -> dict[str, Figure]:
    """Draws median and band over runs of each classifier, from the curves of the same set.

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


def _title(bands: Mapping[str, Band], caption: Caption) -> str:
    has_bound = any(np.isfinite(band.lower_bound).any() for band in bands.values())
    meaning = first_bands(caption.bands, len(bands))
    return f"{meaning}\n{LOWER_BOUND}" if has_bound else meaning


def first_bands(meaning: str, n_curves: int) -> str:
    """Says of which curves bands are drawn, if not of all."""
    return meaning if n_curves <= BANDS else f"{meaning}: first {BANDS}"


def draw_band(axes: Axes, band: Band, colour: str) -> None:
    """Fills the interval of a curve; upwards without end where it is open."""
    high = np.where(np.isposinf(band.high), _SKY, band.high)
    axes.fill_between(band.eps_s, band.low, high, color=colour, alpha=0.18, linewidth=0)


def draw_bound(axes: Axes, band: Band, colour: str) -> None:
    """Draws lower bounds as a dotted line with arrows upwards, which no value looks like."""
    bounded = np.isfinite(band.lower_bound)
    if not bounded.any():
        return
    axes.plot(band.eps_s, band.lower_bound, color=colour, linestyle=_SPARSE, linewidth=1.2)
    marked = bounded & (np.arange(len(bounded)) % _ARROW_STEP == _ARROW_STEP // 2)
    axes.plot(
        band.eps_s[marked],
        band.lower_bound[marked],
        color=colour,
        linestyle="none",
        marker=CARETUPBASE,
        markersize=6,
    )


def _draw(axes: Axes, bands: Mapping[str, Band]) -> None:
    for index, (name, band) in enumerate(bands.items()):
        colour = COLOURS[index % len(COLOURS)]
        if index < BANDS:
            draw_band(axes, band, colour)
        draw_bound(axes, band, colour)
        (line,) = axes.plot(band.eps_s, band.value, color=colour, linestyle=line_style(index))
        shown = np.isfinite(band.value)
        line.set_label(plain(name) if shown.any() else f"{plain(name)}: no value")
        padded = np.pad(shown, 1)
        alone = shown & ~padded[:-2] & ~padded[2:]  # a point without neighbours makes no line
        axes.plot(band.eps_s[alone], band.value[alone], ".", color=colour)


def _highest(bands: Mapping[str, Band], least: float) -> float:
    parts = [part for band in bands.values() for part in (band.value, band.high, band.lower_bound)]
    drawn = np.concatenate([*parts, [least]])
    return float(drawn[np.isfinite(drawn)].max())
