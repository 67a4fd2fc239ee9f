"""A picture of the contribution of each feature to the score of one event."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from hepllm.explain.explanation import Explanation, show
from hepllm.pictures.style import BACKGROUND_COLOUR, SIGNAL_COLOUR, save_figure

_SHOWN = 15
_LEAST_SHARE = 0.01
"""Share of the largest bar below which a feature is not drawn."""

_NUMBER, _TEXT = "number (adapter)", "text (prompt)"
_HATCHES = {_NUMBER: "", _TEXT: "////"}


def plot_attribution(explanation: Explanation, path: Path) -> None:
    """Draws the contribution of each feature, by numbers and by text, as a PNG file."""
    sizes = {one.name: max(abs(one.number), abs(one.text)) for one in explanation.ranked}
    least = _LEAST_SHARE * max(sizes.values())
    shown = [one for one in explanation.ranked if sizes[one.name] > least][:_SHOWN][::-1]
    figure = Figure(figsize=(7.4, 1.6 + 0.3 * max(len(shown), 1)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(shown))
    numbers, texts = ([one.number for one in shown], [one.text for one in shown])
    parts = {name: part for name, part in ((_NUMBER, numbers), (_TEXT, texts)) if any(part)}
    offsets = (0.19, -0.19) if len(parts) == 2 else (0.0,)
    for offset, (name, values) in zip(offsets, parts.items(), strict=False):
        colours = [SIGNAL_COLOUR if value > 0 else BACKGROUND_COLOUR for value in values]
        axes.barh(
            places + offset,
            values,
            height=0.72 / len(parts),
            color=colours,
            hatch=_HATCHES[name],
            edgecolor="white",
            linewidth=0.5,
            label=name,
        )
    axes.axvline(0, color="0.3", linewidth=0.8)
    ticks = [f"{one.name} = {show(one.name, explanation.facts[one.name].value)}" for one in shown]
    axes.set_yticks(places, ticks, fontsize=9)
    axes.set_xlabel("attribution to the score (logit); left: background, right: signal")
    found = explanation.attribution
    axes.set_title(
        f"{explanation.event}: score {found.score:+.2f}, median background event "
        f"{found.reference_score:+.2f}",
        fontsize=10,
    )
    axes.grid(visible=True, axis="x", color="0.93")
    axes.set_axisbelow(True)
    handles = [
        Patch(facecolor="0.6", edgecolor="white", hatch=_HATCHES[name], label=name)
        for name in parts
    ]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    save_figure(figure, path)
