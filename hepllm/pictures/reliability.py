"""The reliability diagram as a PNG file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from hepllm.arrays import Floats
from hepllm.evaluation.probabilities import CalibrationCheck
from hepllm.evaluation.reliability import Reliability
from hepllm.pictures.style import BACKGROUND_COLOUR, SIGNAL_COLOUR, legend_below, save_figure

_TICKS = (1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)
_LEAST = 1e-6
"""Nothing is drawn nearer to 0 or 1."""


def plot_reliability(check: CalibrationCheck, title: str, path: Path) -> None:
    """Draws the observed share of signal against the probability, with and without calibration.

    Both axes are logits, because most events of a rare signal have probabilities near 0. A share of
    0 or 1 has no place there: its interval begins at the edge.
    """
    figure = Figure(figsize=(6.4, 6.0), dpi=150, layout="constrained")
    axes = figure.subplots()
    low, high = _limits(check.calibrated, check.uncalibrated)
    axes.plot([low, high], [low, high], color="0.55", linewidth=1, label="perfect calibration")
    shown = (
        ("uncalibrated", check.uncalibrated, BACKGROUND_COLOUR, "s"),
        ("calibrated", check.calibrated, SIGNAL_COLOUR, "o"),
    )
    for name, found, colour, marker in shown:
        places = np.clip(found.predicted, low, high)
        ends = np.clip([found.low, found.high], _LEAST / 10, 1 - _LEAST / 10)
        axes.vlines(places, *ends, color=colour, linewidth=1)
        axes.plot(
            places,
            np.clip(found.observed, _LEAST / 10, 1 - _LEAST / 10),
            marker,
            color=colour,
            markersize=5,
            markerfacecolor=colour if marker == "o" else "white",
            label=f"{name}: ECE {found.ece:.4f} ({found.ece_if_perfect:.4f} if perfect)",
        )
    _scale(axes, low, high)
    axes.set_xlabel("probability of signal, in this sample's S:B ratio", fontsize=13)
    axes.set_ylabel("observed share of signal", fontsize=13)
    axes.set_title(title, loc="left", fontsize=11)
    handles, labels = axes.get_legend_handles_labels()
    legend_below(figure, handles, labels, "bins of equal size, 68 % intervals; axes are logits")
    save_figure(figure, path)


def _limits(*drawn: Reliability) -> tuple[float, float]:
    """Range of both axes, symmetric in neither: all predictions and shares, with a margin."""
    places: Floats = np.concatenate(
        [values for one in drawn for values in (one.predicted, one.observed, one.low, one.high)]
    )
    inside = places[(places > _LEAST) & (places < 1 - _LEAST)]
    if not len(inside):
        return 0.01, 0.99
    low, high = float(inside.min()), float(inside.max())
    odds = (low / (1 - low) / 2, high / (1 - high) * 2)
    return odds[0] / (1 + odds[0]), odds[1] / (1 + odds[1])


def _scale(axes: Axes, low: float, high: float) -> None:
    axes.set(xscale="logit", yscale="logit", xlim=(low, high), ylim=(low, high))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(_TICKS))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_aspect("equal")
    axes.tick_params(direction="in", which="both", top=True, right=True, labelsize=11)
