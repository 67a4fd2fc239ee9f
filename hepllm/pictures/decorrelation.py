"""The picture of what is lost in SIC where a training avoids sculpting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from hepllm.pictures.style import (
    COLOURS,
    legend_below,
    line_style,
    plain,
    save_figure,
    wide_canvas,
)


@dataclass(frozen=True)
class TradeOff:
    """A training of one strength.

    Attributes:
        strength: of the decorrelation, which is written beside the point; empty for none.
        sculpting: a measure of it, and half of its interval.
        sic: and half of its interval.
    """

    strength: str
    sculpting: tuple[float, float]
    sic: tuple[float, float]


def plot_trade_offs(
    curves: Mapping[str, Sequence[TradeOff]], path: Path, *, xlabel: str, ylabel: str
) -> None:
    """Draws SIC against sculpting, a curve for each way to train, along rising strengths.

    Args:
        curves: trainings in the order of their strengths, by what the legend calls them.
        path: PNG file, written whole or not at all.
        xlabel: what ``TradeOff.sculpting`` is.
        ylabel: what ``TradeOff.sic`` is.
    """
    figure, axes = wide_canvas("SIC against sculpting", "numbers: strength")
    for index, (label, points) in enumerate(curves.items()):
        sculpting, sic = (
            np.array([getattr(point, name) for point in points]) for name in ("sculpting", "sic")
        )
        colour = COLOURS[index % len(COLOURS)]
        axes.errorbar(
            sculpting[:, 0],
            sic[:, 0],
            sic[:, 1],
            sculpting[:, 1],
            color=colour,
            linestyle=line_style(index),
            marker="os^vDP"[index % 6],
            markersize=5,
            elinewidth=0.7,
            label=plain(label),
        )
        for point in points:
            axes.annotate(
                point.strength,
                (point.sculpting[0], point.sic[0]),
                xytext=(4, 5),
                textcoords="offset points",
                fontsize=9,
                color=colour,
            )
    axes.set(xlabel=xlabel, ylabel=ylabel, yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    legend_below(figure, *axes.get_legend_handles_labels(), None)
    save_figure(figure, path)
