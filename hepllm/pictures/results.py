"""Pictures of the results of one sample: SIC, background rejection, scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepllm.arrays import Floats
from hepllm.evaluation.assessment import EvaluationResults
from hepllm.evaluation.curves import Curves
from hepllm.evaluation.metrics import roc
from hepllm.evaluation.records import Estimate, ScoreRecord
from hepllm.pictures.curves import LOWER_BOUND, draw_band, draw_bound, first_bands
from hepllm.pictures.style import (
    BACKGROUND_COLOUR,
    BANDS,
    COLOURS,
    SIGNAL_COLOUR,
    legend_below,
    line_style,
    save_figure,
    wide_canvas,
)

_MAX_BINS = 50
_MAX_ENTRIES_INSIDE = 5
_DASHED = (0, (2, 2))


def plot_sic(results: EvaluationResults, path: Path, handover: float = -math.inf) -> None:
    """Draws SIC against signal efficiency, with bands, working points and the sample's ceiling.

    Args:
        results: results of one sample.
        path: PNG file, written whole or not at all.
        handover: score of the model below which, in a cascade, the boosting scores the events.
    """
    figure, axes = _canvas(results)
    record, curves = results.record, _curves(results)
    for index, (name, found) in enumerate(curves.items()):
        colour, band = COLOURS[index % len(COLOURS)], found.sic
        if index < BANDS:
            draw_band(axes, band, colour)
            draw_bound(axes, band, colour)
        style, label = line_style(index), name.replace("_", " ")
        axes.plot(band.eps_s, band.value, color=colour, linestyle=style, label=label)
        below, height = _below(results, name)
        axes.plot(below, height, color=colour, linestyle=_DASHED, linewidth=0.8, alpha=0.8)
        _mark_working_points(axes, record.classifiers[name], colour)
    efficiency = np.linspace(0, 1, 201)
    axes.plot(efficiency, np.sqrt(efficiency), color="0.55", linewidth=1, label="random")
    ceiling, n_min = record.sic_ceiling, record.min_background
    label = rf"ceiling $\epsilon_S\,\sqrt{{N_b/{n_min}}}$, {ceiling:.1f} at 1"
    axes.plot(
        efficiency, efficiency * ceiling, color="0.3", linewidth=1, linestyle=_DASHED, label=label
    )
    highs = [
        np.nanmax(np.concatenate([[1.0], found.sic.high, found.sic.lower_bound]))
        for found in curves.values()
    ]
    axes.set(xlim=(0, 1), ylim=(0, 1.35 * float(max(highs))))  # with room for the legend
    _mark_handover(axes, results, handover)
    axes.set_xlabel(r"signal efficiency $\epsilon_S$")
    axes.set_ylabel(r"SIC = $\epsilon_S\,/\,\sqrt{\epsilon_B}$")
    marks = f"▼ validation cut\n● at $\\epsilon_S$ = {', '.join(record.sic_at)}"
    _legend(axes, f"{_bands(results)}\n{marks}\n{LOWER_BOUND}")
    save_figure(figure, path)


def _mark_handover(axes: Axes, results: EvaluationResults, handover: float) -> None:
    """Shades the signal efficiencies at which the boosting of a cascade decides."""
    events = results.model
    signal = events.weight[events.is_signal]
    if math.isinf(handover) or signal.sum() <= 0:
        return
    reached = float(signal[events.score[events.is_signal] >= handover].sum() / signal.sum())
    label = f"{results.record.classifier}: the cascade's boosting decides"
    axes.axvspan(reached, 1, color="0.85", alpha=0.6, zorder=0, linewidth=0, label=label)


def plot_roc(results: EvaluationResults, path: Path) -> None:
    """Draws background rejection against signal efficiency, with bands, as a PNG file."""
    figure, axes = _canvas(results)
    record = results.record
    n_min, n_background = record.min_background, record.n_background
    for index, (name, found) in enumerate(_curves(results).items()):
        colour, band = COLOURS[index % len(COLOURS)], found.rejection
        curve = roc(results.events[name])
        if index < BANDS:
            draw_band(axes, band, colour)
            draw_bound(axes, band, colour)
        shown = ~np.isnan(curve.sic(n_min))
        eps_s, rejection = curve.eps_s[shown], 1 / curve.eps_b[shown]
        style, area = line_style(index), _auc_text(record.classifiers[name].auc)
        label = f"{name.replace('_', ' ')}: AUC {area}"
        axes.plot(eps_s, rejection, color=colour, linestyle=style, label=label)
        below, sic = _below(results, name)
        height = np.square(sic / np.maximum(below, 1e-12))
        axes.plot(below, height, color=colour, linestyle=_DASHED, linewidth=0.8, alpha=0.8)
    efficiency = np.linspace(1e-3, 1, 500)
    axes.plot(efficiency, 1 / efficiency, color="0.55", linewidth=1, label="random")
    top = max(n_background / n_min, 2.0)
    axes.axhline(top, color="0.3", linewidth=1, linestyle=_DASHED)
    least = "1 background event passes" if n_min == 1 else f"{n_min} background events pass"
    axes.text(0.02, top * 1.06, least, color="0.3", fontsize=10)
    axes.set(xlim=(0, 1), ylim=(1, top * 12), yscale="log")
    axes.set_xlabel(r"signal efficiency $\epsilon_S$")
    axes.set_ylabel(r"background rejection $1/\epsilon_B$")
    _legend(axes, f"{_bands(results)}\n{LOWER_BOUND}")
    save_figure(figure, path)


def plot_scores(results: EvaluationResults, path: Path) -> None:
    """Draws the score of the model for signal and for background events, as a PNG file."""
    figure, axes = _canvas(results)
    events, cut = results.model, results.record.accuracy
    n_bins = int(np.clip(2 * np.cbrt(len(events.score)), 10, _MAX_BINS))
    edges = np.histogram_bin_edges(events.score, bins=n_bins)
    classes = (
        ("background", ~events.is_signal, BACKGROUND_COLOUR, None),
        ("signal", events.is_signal, SIGNAL_COLOUR, "////"),
    )
    for label, chosen, colour, hatch in classes:
        counts, _ = np.histogram(events.score[chosen], edges, weights=events.weight[chosen])
        squares, _ = np.histogram(events.score[chosen], edges, weights=events.weight[chosen] ** 2)
        text = f"{label}, N = {np.count_nonzero(chosen)}"
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.18 if hatch is None else 0.0)
        axes.stairs(counts, edges, color=colour, linewidth=1.6, hatch=hatch, label=text)
        centres, filled = (edges[1:] + edges[:-1]) / 2, counts > 0
        x, y, errors = centres[filled], counts[filled], np.sqrt(squares[filled])
        axes.errorbar(x, y, errors, fmt="none", ecolor=colour, elinewidth=1)
    if cut.threshold is not None:
        label = f"cut: {cut.threshold_chosen_by}"
        axes.axvline(cut.threshold, ymax=0.8, color="0.3", linestyle="--", label=label)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.5)
    axes.set_xlabel(f"score of {results.record.classifier} (logit)")
    axes.set_ylabel("events per bin")
    axes.set_ylim(top=axes.get_ylim()[1] * 8)
    _legend(axes, None)
    save_figure(figure, path)


def _below(results: EvaluationResults, name: str) -> tuple[Floats, Floats]:
    """Signal efficiencies (P,) at which too little background passes, and the SIC there (P,).

    They are followed by the first point with enough, so that the curves meet.
    """
    curve = roc(results.events[name])
    sic, enough = curve.sic(1), ~np.isnan(curve.sic(results.record.min_background))
    shown = np.isfinite(sic)
    if enough.any():
        shown &= np.arange(len(sic)) <= int(np.argmax(enough))
    return curve.eps_s[shown], sic[shown]


def _bands(results: EvaluationResults) -> str:
    record = results.record
    n_min, meaning = record.min_background, f"{record.bootstrap.confidence:.0%} bootstrap band"
    few = f"thin: below {n_min} background events"
    return f"{first_bands(meaning, len(_curves(results)))}\n{few}"


def _canvas(results: EvaluationResults) -> tuple[Figure, Axes]:
    record, problem = results.record, results.model.problem
    numbers = f"$N_s$ = {record.n_signal}, $N_b$ = {record.n_background}"
    figure, axes = wide_canvas(f"{record.sample} sample, {record.view} view", numbers)
    if problem is not None:
        axes.text(0.5, 0.5, problem, transform=axes.transAxes, ha="center", fontsize=13, zorder=5)
    return figure, axes


def _curves(results: EvaluationResults) -> dict[str, Curves]:
    """The curves of all classifiers without ablations."""
    curves = results.curves.curves()
    return {name: found for name, found in curves.items() if found.role != "ablation"}


def _mark_working_points(axes: Axes, score: ScoreRecord, colour: str) -> None:
    """Marks the maximum by a triangle with interval, stated efficiencies by circles."""
    for sic in score.sic_at.values():
        if sic.eps_s is not None and sic.value is not None:
            axes.plot(sic.eps_s, sic.value, "o", color=colour, markersize=5)
    best = score.max_sic
    if best.eps_s is None or best.value is None:
        return
    axes.plot(best.eps_s, best.value, "v", color=colour, markersize=9, mec="white")
    if best.interval is not None:
        axes.vlines(best.eps_s, *best.interval, color=colour, linewidth=1.6)


def _auc_text(auc: Estimate) -> str:
    if auc.value is None or auc.interval is None:
        return "undefined"
    low, high = auc.interval
    return f"{auc.value:.3f} [{low:.3f}, {high:.3f}]"


def _legend(axes: Axes, title: str | None) -> None:
    """Adds a legend inside the axes, or below them where it would hide the curves."""
    handles, labels = axes.get_legend_handles_labels()
    figure = axes.get_figure(root=True)
    style: dict[str, Any] = {"fontsize": 10, "title": title, "title_fontsize": 9}
    if figure is not None and len(labels) > _MAX_ENTRIES_INSIDE:
        legend_below(figure, handles, labels, title)
        return
    axes.legend(loc="upper right", framealpha=0.9, edgecolor="none", **style)
