"""Curves of a training from its history: losses, validation, learning rates, gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepllm.pictures.style import COLOURS, legend_below, line_style, plain

History = Sequence[Mapping[str, float]]
"""Records of ``history.jsonl``: the step and scalars by name."""

Curve = tuple[str, str, dict[str, Any]]
"""Name of a scalar, its label, and the style of its line."""

_MANY = 60
"""Points above which a curve is drawn without markers."""


def history_curve(history: History, name: str) -> tuple[list[float], list[float]]:
    """Returns steps and values of a scalar, in order."""
    records = [record for record in history if name in record]
    return [record["step"] for record in records], [record[name] for record in records]


def loss_figure(histories: Mapping[str, History]) -> Figure:
    """Draws training and validation loss of each run, by its name."""
    curves: list[Curve] = [
        ("train/loss", "training", {"alpha": 0.55, "linewidth": 1}),
        ("validation/loss", "validation", {"linestyle": "--", "marker": "."}),
    ]
    figure, axes = _draw(histories, "loss", lambda _: curves)
    axes.set_ylim(bottom=0)
    return figure


def validation_figure(histories: Mapping[str, History]) -> Figure:
    """Draws AUC and accuracy on validation data of each run, by its name."""
    curves: list[Curve] = [
        ("validation/auc", "AUC", {"linestyle": "-", "marker": "."}),
        ("validation/accuracy", "accuracy", {"linestyle": ":", "marker": "."}),
    ]
    return _draw(histories, "on validation data", lambda _: curves)[0]


def group_figure(histories: Mapping[str, History], scalar: str, ylabel: str) -> Figure:
    """Draws a scalar, such as ``lr``, of each optimizer group of each run on a logarithmic axis."""

    def curves(history: History) -> list[Curve]:
        found: list[Curve] = []
        for line, group in enumerate(groups(history, scalar)):
            name = f"{group}/{scalar}"
            marker = "." if len(history_curve(history, name)[0]) <= _MANY else ""
            style: dict[str, Any] = {"linestyle": line_style(line), "marker": marker}
            if len(histories) == 1:
                style["color"] = COLOURS[line % len(COLOURS)]
            found.append((name, group, style))
        return found

    figure, axes = _draw(histories, ylabel, curves)
    axes.set_yscale("log")
    return figure


def groups(history: History, scalar: str) -> list[str]:
    """Returns the names of the optimizer groups with a record of a scalar."""
    names = dict.fromkeys(name for record in history for name in record)
    return [name.removesuffix(f"/{scalar}") for name in names if name.endswith(f"/{scalar}")]


def _draw(
    histories: Mapping[str, History], ylabel: str, curves: Callable[[History], list[Curve]]
) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.0, 3.6), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.tick_params(direction="in", which="both", top=True, right=True, labelsize=11)
    axes.set_xlabel("optimizer steps", fontsize=12)
    axes.set_ylabel(ylabel, fontsize=12)
    for index, (run, history) in enumerate(histories.items()):
        prefix = f"{plain(run)}: " if len(histories) > 1 else ""
        for name, label, style in curves(history):
            line: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)]} | style
            axes.plot(*history_curve(history, name), label=prefix + label, **line)
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        legend_below(figure, handles, labels, None)
    return figure, axes
