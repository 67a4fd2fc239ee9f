"""The style of all pictures, without the global state of pyplot."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepllm.files import write_aside

# The palette of Okabe and Ito is safe for colour-blind readers; line styles differ as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
BANDS = 3
"""Curves with an interval in one picture; the intervals of more hide each other."""

SIGNAL_COLOUR, BACKGROUND_COLOUR = "#D55E00", "#0072B2"
_COLUMNS = ((24, 3), (42, 2))
"""Length that the entries of a legend below the axes must stay below for a number of columns."""

_FORMULA = re.compile(r"\\[A-Za-z]+|[${}\\]")
"""Parts of a formula that take no space in the drawing."""

_LINE = 90
"""Characters of a title of a legend in one line."""

_LEGEND_ROW = 0.2
"""Height of a row of a legend in inches."""


def wide_canvas(left: str, right: str) -> tuple[Figure, Axes]:
    """Returns an empty picture in the size of reports, with a title on either side."""
    figure = Figure(figsize=(7.2, 5.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.tick_params(direction="in", which="both", top=True, right=True, labelsize=11)
    axes.minorticks_on()
    axes.xaxis.label.set_fontsize(13)
    axes.yaxis.label.set_fontsize(13)
    axes.set_title(left, loc="left", fontsize=11)
    axes.set_title(right, loc="right", fontsize=11)
    return figure, axes


def line_style(index: int) -> str | tuple[int, tuple[int, ...]]:
    """Returns the line style of a curve, so that curves differ by more than colour."""
    return LINES[index % len(LINES)]


def legend_below(
    figure: Figure, handles: Sequence[Artist], labels: Sequence[str], title: str | None
) -> None:
    """Adds a legend below the axes, and makes the figure taller for it."""
    longest = max(len(_FORMULA.sub("", label)) for label in labels)
    columns = next((number for width, number in _COLUMNS if longest < width), 1)
    lines = _in_lines(title.split("\n")) if title else []
    rows = math.ceil(len(labels) / columns) + len(lines)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + _LEGEND_ROW * (rows - 1))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        fontsize=10,
        frameon=False,
        title="\n".join(lines) or None,
        title_fontsize=9,
    )


def _in_lines(parts: Sequence[str]) -> list[str]:
    """Joins the parts of a title into as few lines as the width of a picture allows."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]},  {part}" if lines else part
        if lines and len(_FORMULA.sub("", longer)) <= _LINE:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def plain(text: str) -> str:
    """Escapes a name: for matplotlib, $ starts a formula, and a leading _ hides an entry."""
    shown = text.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, whole or not at all."""
    with write_aside(path) as aside:
        figure.savefig(aside, format="png", metadata={"Software": "hepllm"})


def drawn_as(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """Returns the content of a PNG or SVG file, with the same bytes each time."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": "hepllm"}
    with rc_context({"svg.hashsalt": "hepllm"}):  # otherwise the names of parts are drawn at random
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()
