"""Picture of a fit of masses and fraction: the likelihood in the plane, and by fraction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy.stats import chi2

from hepllm.pictures.mass_plane import draw_map
from hepllm.pictures.style import COLOURS, LINES, SIGNAL_COLOUR, plain, save_figure
from hepllm.weak.mixture_records import FittedRange, MixtureFindings

_CONTOURS = (0.68, 0.95)


def plot_mixture(name: str, found: MixtureFindings, path: Path) -> None:
    """Draws the local significance of each point with contours, and the points by fraction."""
    figure = Figure(figsize=(12.4, 5.6), dpi=150, layout="constrained")
    plane, fractions = figure.subplots(1, 2, width_ratios=(1.25, 1))
    scanned = [one for one in found.points if one.p_value is not None]
    values = [one.significance_local for one in scanned]
    mesh = draw_map(plane, scanned, values, "{:.1f}".format, Normalize(0, max(5.0, *values)))
    figure.colorbar(mesh, ax=plane).set_label("local significance", fontsize=12)
    _draw_contours(plane, found)
    plane.plot(
        found.m_heavy_gev.value,
        found.m_light_gev.value,
        marker="*",
        markersize=15,
        mfc=SIGNAL_COLOUR,
        mec="white",
        linestyle="none",
        label=f"fit: {_shown(found.m_heavy_gev)}, {_shown(found.m_light_gev)} GeV",
    )
    plane.legend(loc="upper left", fontsize=9)
    plane.set_title(f"{plain(name)}, N = {found.n_data}", loc="left", fontsize=11)
    bound = r"$\leq$" if found.n_toys_exceeding == 0 else "="
    plane.set_title(f"global p {bound} {found.p_value:.2g}", loc="right", fontsize=11)
    _draw_fractions(fractions, found)
    save_figure(figure, path)


def _draw_contours(axes: Axes, found: MixtureFindings) -> None:
    """Lines of equal likelihood, at the depth that holds for a strong signal."""
    masses = np.array([one.m_jets_gev for one in found.points])
    missing = found.statistic - np.array([one.statistic for one in found.points])
    axes.tricontour(
        masses[:, 0],
        masses[:, 1],
        missing,
        levels=chi2.ppf(_CONTOURS, 2),
        colors=SIGNAL_COLOUR,
        linestyles=("solid", "dashed"),
    )


def _draw_fractions(axes: Axes, found: MixtureFindings) -> None:
    """The fraction and significance of each point, and the intervals of the fraction."""
    share = [one.fraction for one in found.points]
    sigma = [one.significance_local for one in found.points]
    axes.plot(share, sigma, "o", color=COLOURS[0], alpha=0.5, label="a point of the plane")
    for interval, line, label in (
        (found.fraction.interval_68, LINES[0], "68 %"),
        (found.fraction.interval_95, LINES[1], "95 %"),
    ):
        axes.plot(
            interval, [np.sqrt(found.statistic)] * 2, linestyle=line, color=SIGNAL_COLOUR,
            label=f"interval of {label}",
        )  # fmt: skip
    axes.plot(found.fraction.value, np.sqrt(found.statistic), "*", ms=15, color=SIGNAL_COLOUR)
    axes.set(xlabel="fraction of signal in the data", ylabel="local significance", ylim=(0, None))
    axes.xaxis.label.set_fontsize(13)
    axes.yaxis.label.set_fontsize(12)
    text = f"{_shown(found.n_signal)} signal events"
    axes.set_title(text, loc="right", fontsize=11)
    axes.legend(loc="lower right", fontsize=10)


def _shown(found: FittedRange) -> str:
    low, high = found.interval_68
    return f"${found.value:.0f}_{{-{found.value - low:.0f}}}^{{+{high - found.value:.0f}}}$"
