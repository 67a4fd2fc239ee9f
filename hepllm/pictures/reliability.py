"""The reliability diagram as a PNG file."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from hepllm.evaluation.probabilities import CalibrationCheck
from hepllm.pictures.style import BACKGROUND_COLOUR, SIGNAL_COLOUR, legend_below, save_figure


def plot_reliability(check: CalibrationCheck, title: str, path: Path) -> None:
    """Draws the observed share of signal against the probability, with and without calibration."""
    figure = Figure(figsize=(6.4, 5.8), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.55", linewidth=1, label="perfect calibration")
    shown = (
        ("uncalibrated", check.uncalibrated, BACKGROUND_COLOUR, "s"),
        ("calibrated", check.calibrated, SIGNAL_COLOUR, "o"),
    )
    for name, found, colour, marker in shown:
        errors = [found.observed - found.low, found.high - found.observed]
        axes.errorbar(
            found.predicted,
            found.observed,
            errors,
            fmt=marker,
            color=colour,
            markersize=5,
            elinewidth=1,
            markerfacecolor=colour if marker == "o" else "white",
            label=f"{name}: ECE {found.ece:.3f} ({found.ece_if_perfect:.3f} if perfect)",
        )
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_aspect("equal")
    axes.tick_params(direction="in", which="both", top=True, right=True, labelsize=11)
    axes.set_xlabel("probability of signal, in this sample's S:B ratio", fontsize=13)
    axes.set_ylabel("observed share of signal", fontsize=13)
    axes.set_title(title, loc="left", fontsize=11)
    handles, labels = axes.get_legend_handles_labels()
    legend_below(figure, handles, labels, "bins of equal size, 68 % intervals")
    save_figure(figure, path)
