"""Small pictures of a validation, for TensorBoard."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hepllm.evaluation.bounds import sic_bounds_at
from hepllm.evaluation.curves import Band
from hepllm.evaluation.metrics import RocCurve, sic_at
from hepllm.evaluation.scores import ScoredEvents
from hepllm.pictures.curves import LOWER_BOUND, draw_bound
from hepllm.pictures.style import BACKGROUND_COLOUR, SIGNAL_COLOUR

_BINS = 30
_EPS_S = np.arange(2, 101, 2) / 100
_CONFIDENCE = 0.95


def roc_figure(curve: RocCurve, min_background: int) -> Figure:
    """Draws background rejection against signal efficiency, or its bound if few events pass."""
    figure, axes = _canvas(r"background rejection $1/\epsilon_B$")
    shown = ~np.isnan(curve.sic(min_background))
    axes.plot(curve.eps_s[shown], 1 / curve.eps_b[shown], color=SIGNAL_COLOUR)
    bounds = _bounds(curve, min_background)
    rejected = replace(bounds, lower_bound=(bounds.lower_bound / bounds.eps_s) ** 2)
    draw_bound(axes, rejected, SIGNAL_COLOUR)
    efficiency = np.linspace(1e-2, 1, 100)
    axes.plot(efficiency, 1 / efficiency, color="0.55", linewidth=1, label="random")
    axes.set(xlim=(0, 1), yscale="log")
    axes.legend(frameon=False, fontsize=8, title=LOWER_BOUND, title_fontsize=8)
    return figure


def sic_figure(curve: RocCurve, min_background: int) -> Figure:
    """Draws SIC against signal efficiency, or its lower bound if few background events pass."""
    figure, axes = _canvas(r"SIC = $\epsilon_S\,/\,\sqrt{\epsilon_B}$")
    axes.plot(curve.eps_s, curve.sic(min_background), color=SIGNAL_COLOUR)
    draw_bound(axes, _bounds(curve, min_background), SIGNAL_COLOUR)
    efficiency = np.linspace(0, 1, 100)
    axes.plot(efficiency, np.sqrt(efficiency), color="0.55", linewidth=1, label="random")
    axes.set(xlim=(0, 1))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8, title=LOWER_BOUND, title_fontsize=8)
    return figure


def score_figure(events: ScoredEvents) -> Figure:
    """Draws histograms of the score for signal and for background events."""
    figure, axes = _canvas("events per bin")
    edges = np.histogram_bin_edges(events.score, bins=_BINS)
    for label, chosen, colour in (
        ("background", ~events.is_signal, BACKGROUND_COLOUR),
        ("signal", events.is_signal, SIGNAL_COLOUR),
    ):
        counts, _ = np.histogram(events.score[chosen], edges)
        axes.stairs(counts, edges, color=colour, fill=True, alpha=0.3)
        axes.stairs(counts, edges, color=colour, label=f"{label}, N = {chosen.sum()}")
    axes.set_xlabel("score (logit)")
    axes.legend(frameon=False, fontsize=8)
    return figure


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """Draws a figure as an image, shape (height, width, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def _bounds(curve: RocCurve, min_background: int) -> Band:
    """Lower bounds of the SIC where too little background passes."""
    values = np.array([sic_at(curve, eps_s, min_background).sic for eps_s in _EPS_S], dtype=float)
    blank = np.isnan(values)
    bounds = np.full(len(_EPS_S), np.nan)
    bounds[blank] = sic_bounds_at(curve, _EPS_S[blank], _CONFIDENCE)
    return Band(_EPS_S, values, values, values, bounds)


def _canvas(ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.2, 3.2), dpi=100)
    figure.subplots_adjust(left=0.17, bottom=0.17, right=0.97, top=0.97)
    axes = figure.subplots()
    axes.tick_params(direction="in", which="both", top=True, right=True)
    axes.set_xlabel(r"signal efficiency $\epsilon_S$")
    axes.set_ylabel(ylabel)
    return figure, axes
