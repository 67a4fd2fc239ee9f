"""Curves of a training from its history: losses, validation, learning rates, gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepllm.pictures.style import COLOURS, legend_below, line_style, plain

History = Sequence[Mapping[str, float]]
"""One entry a record of ``history.jsonl``: the step and scalars by name."""

_MANY = 60
"""Points above which a curve is drawn without markers."""


def history_curve(history: History, name: str) -> tuple[list[float], list[float]]:
    """Steps and values of a scalar, in order."""
    records = [record for record in history if name in record]
    return [record["step"] for record in records], [record[name] for record in records]


def loss_figure(histories: Mapping[str, History]) -> Figure:
    """Training and validation loss of each run, by its name."""
    figure, axes = _canvas("loss")
    for index, (run, history) in enumerate(histories.items()):
        colour, prefix = COLOURS[index % len(COLOURS)], _prefix(run, histories)
        steps, losses = history_curve(history, "train/loss")
        axes.plot(steps, losses, color=colour, alpha=0.55, linewidth=1, label=f"{prefix}training")
        steps, losses = history_curve(history, "validation/loss")
        label = f"{prefix}validation"
        axes.plot(steps, losses, color=colour, linestyle="--", marker=".", label=label)
    axes.set_ylim(bottom=0)
    _legend(figure, axes)
    return figure


def validation_figure(histories: Mapping[str, History]) -> Figure:
    """AUC and accuracy on validation data of each run, by its name."""
    figure, axes = _canvas("on validation data")
    for index, (run, history) in enumerate(histories.items()):
        colour, prefix = COLOURS[index % len(COLOURS)], _prefix(run, histories)
        for key, name, line in (("auc", "AUC", "-"), ("accuracy", "accuracy", ":")):
            steps, values = history_curve(history, f"validation/{key}")
            label = f"{prefix}{name}"
            axes.plot(steps, values, color=colour, linestyle=line, marker=".", label=label)
    _legend(figure, axes)
    return figure


def group_figure(histories: Mapping[str, History], scalar: str, ylabel: str) -> Figure:
    """A scalar of each optimizer group on a logarithmic axis.

    Args:
        histories: of each run, by its name.
        scalar: such as ``lr``; recorded as ``<group>/lr``.
        ylabel: of the axis.
    """
    figure, axes = _canvas(ylabel)
    for index, (run, history) in enumerate(histories.items()):
        for line, group in enumerate(groups(history, scalar)):
            colour = COLOURS[(index if len(histories) > 1 else line) % len(COLOURS)]
            steps, values = history_curve(history, f"{group}/{scalar}")
            marker = "." if len(steps) <= _MANY else ""
            label = f"{_prefix(run, histories)}{group}"
            style = line_style(line)
            axes.plot(steps, values, color=colour, linestyle=style, marker=marker, label=label)
    axes.set_yscale("log")
    _legend(figure, axes)
    return figure


def groups(history: History, scalar: str) -> list[str]:
    """Names of the optimizer groups of which a scalar was recorded."""
    names = dict.fromkeys(name for record in history for name in record)
    return [name.removesuffix(f"/{scalar}") for name in names if name.endswith(f"/{scalar}")]


def _prefix(run: str, histories: Mapping[str, History]) -> str:
    return f"{plain(run)}: " if len(histories) > 1 else ""


def _canvas(ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.0, 3.6), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.tick_params(direction="in", which="both", top=True, right=True, labelsize=11)
    axes.set_xlabel("optimizer steps", fontsize=12)
    axes.set_ylabel(ylabel, fontsize=12)
    return figure, axes


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        legend_below(figure, handles, labels, None)
