"""The picture of a search by weak supervision: the p-value of each signal region."""

from __future__ import annotations

from pathlib import Path

from matplotlib.ticker import MaxNLocator, NullLocator
from scipy.stats import norm

from hepllm.pictures.style import (
    BACKGROUND_COLOUR,
    SIGNAL_COLOUR,
    legend_below,
    plain,
    save_figure,
    wide_canvas,
)
from hepllm.weak.records import WeakScan

_BOUND = "an upper bound: no pseudo-experiment is as extreme"


def plot_regions(name: str, scan: WeakScan, path: Path) -> None:
    """Draws the p-value of each signal region over its masses, and that with all as trials."""
    n_regions = len(scan.regions)
    figure, axes = wide_canvas(
        plain(name), f"{scan.template}, {n_regions} signal region{'s' * (n_regions > 1)}"
    )
    lowest = min([1e-3, scan.p_value, *(one.p_value for one in scan.regions)])
    for place, one in enumerate(scan.regions):
        low, high = one.region_gev
        centre, is_best = (low * high) ** 0.5, place == scan.best_region
        colour = SIGNAL_COLOUR if is_best else BACKGROUND_COLOUR
        label = "most significant region" if is_best else "signal region"
        axes.plot(one.sidebands_gev, (one.p_value,) * 2, color=colour, linewidth=0.8, alpha=0.6)
        axes.plot((low, high), (one.p_value,) * 2, color=colour, linewidth=3)
        axes.plot(centre, one.p_value, "s" if is_best else "o", color=colour, label=label)
        if one.is_bound:
            axes.plot(
                centre,
                one.p_value / 1.7,
                color="0.3",
                marker="$\\downarrow$",
                markersize=11,
                linestyle="none",
                label=_BOUND,
            )
    axes.axhline(
        scan.p_value, color=SIGNAL_COLOUR, linestyle="--", label="p-value with regions as trials"
    )
    bottom = lowest / 5
    axes.set(yscale="log", ylim=(bottom, 1.5), xscale="log")
    for sigma in range(1, int(norm.isf(bottom)) + 1):
        axes.axhline(norm.sf(sigma), color="0.6", linewidth=0.8, linestyle=":")
        axes.annotate(
            f" {sigma}$\\sigma$",
            (1.0, norm.sf(sigma)),
            xycoords=("axes fraction", "data"),
            fontsize=9,
            color="0.4",
            va="center",
        )
    # Powers of ten, and their multiples, are too few within the range of a search.
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_xlabel("mass; thin lines are the sidebands [GeV]", fontsize=13)
    axes.set_ylabel("p-value of the largest excess", fontsize=13)
    handles, labels = axes.get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    legend_below(figure, list(shown.values()), list(shown), None)
    save_figure(figure, path)
