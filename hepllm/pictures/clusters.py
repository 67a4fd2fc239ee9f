"""The clusters of embedded events in two coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hepllm.arrays import Floats, Ints
from hepllm.pictures.style import COLOURS, legend_below, plain, save_figure, wide_canvas

_MOST_POINTS = 10_000
"""Points that are drawn; more hide each other."""

_MARKERS = ("o", "^", "s", "D", "v", "P", "X")
_OTHERS = "0.75"


def plot_clusters(
    values: Floats, number: Ints, axes_of: Sequence[str], title: str, path: Path
) -> None:
    """Draws N events in two coordinates, coloured by cluster.

    At most 10,000 events are drawn, a random choice. Colours are those of the largest clusters;
    smaller ones are grey crosses, and noise is grey dots.

    Args:
        values: the coordinates, shape (N, 2).
        number: cluster of each event, -1 for noise, shape (N,).
        axes_of: what both coordinates are.
        title: title of the picture.
        path: PNG file, written whole or not at all.
    """
    figure, axes = wide_canvas(plain(title), f"N = {len(values)}")
    drawn = np.random.default_rng(1).permutation(len(values))[:_MOST_POINTS]
    coloured = len(COLOURS) - 1  # black hides what it covers
    n_coloured = min(coloured, int(number.max(initial=-1)) + 1)
    groups = [
        ("in no cluster", number == -1, _OTHERS, "."),
        ("smaller clusters", number >= coloured, "0.5", "x"),
        *(
            (f"cluster {place}", number == place, COLOURS[place], _MARKERS[place])
            for place in range(n_coloured)
        ),
    ]
    handles, labels = [], []
    for name, mask, colour, marker in groups:
        if not mask.any():
            continue
        x, y = values[drawn[mask[drawn]]].T
        points = axes.scatter(
            x,
            y,
            s=30 if marker == "." else 9,
            c=colour,
            marker=marker,
            linewidths=0.5 * (marker == "x"),
            alpha=0.6,
        )
        points.set_rasterized(True)
        handles.append(points)
        labels.append(f"{name}: {int(mask.sum())}")
    axes.set(xlabel=axes_of[0], ylabel=axes_of[1])
    legend_below(figure, handles, labels, None)
    save_figure(figure, path)
