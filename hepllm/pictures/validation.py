"""Small pictures of a validation, for TensorBoard."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hepllm.evaluation.metrics import RocCurve
from hepllm.evaluation.scores import ScoredEvents
from hepllm.pictures.style import BACKGROUND_COLOUR, SIGNAL_COLOUR

_BINS = 30


def roc_figure(curve: RocCurve, min_background: int) -> Figure:
    """Draws background rejection against signal efficiency, where enough background passes."""
    figure, axes = _canvas(r"background rejection $1/\epsilon_B$")
    shown = ~np.isnan(curve.sic(min_background))
    axes.plot(curve.eps_s[shown], 1 / curve.eps_b[shown], color=SIGNAL_COLOUR)
    efficiency = np.linspace(1e-2, 1, 100)
    axes.plot(efficiency, 1 / efficiency, color="0.55", linewidth=1, label="random")
    axes.set(xlim=(0, 1), yscale="log")
    axes.legend(frameon=False, fontsize=8)
    return figure


def sic_figure(curve: RocCurve, min_background: int) -> Figure:
    """Draws SIC against signal efficiency, where enough background passes."""
    figure, axes = _canvas(r"SIC = $\epsilon_S\,/\,\sqrt{\epsilon_B}$")
    axes.plot(curve.eps_s, curve.sic(min_background), color=SIGNAL_COLOUR)
    efficiency = np.linspace(0, 1, 100)
    axes.plot(efficiency, np.sqrt(efficiency), color="0.55", linewidth=1, label="random")
    axes.set(xlim=(0, 1))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
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


def _canvas(ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.2, 3.2), dpi=100)
    figure.subplots_adjust(left=0.17, bottom=0.17, right=0.97, top=0.97)
    axes = figure.subplots()
    axes.tick_params(direction="in", which="both", top=True, right=True)
    axes.set_xlabel(r"signal efficiency $\epsilon_S$")
    axes.set_ylabel(ylabel)
    return figure, axes
