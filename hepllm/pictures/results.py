"""Pictures of the results of one sample: SIC, background rejection, scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hepllm.evaluation.results import EvaluationResults, ScoreResult
from hepllm.pictures.style import (
    BACKGROUND_COLOUR,
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
    for index, result in enumerate(_classifiers(results)):
        colour, band = COLOURS[index % len(COLOURS)], result.sic_band
        axes.fill_between(band.eps_s, band.low, band.high, color=colour, alpha=0.18, linewidth=0)
        style, name = line_style(index), _name(result)
        axes.plot(band.eps_s, band.value, color=colour, linestyle=style, label=name)
        _mark_working_points(axes, result, colour)
    efficiency = np.linspace(0, 1, 201)
    axes.plot(efficiency, np.sqrt(efficiency), color="0.55", linewidth=1, label="random")
    ceiling, n_min = results.sic_ceiling, results.n_min
    label = rf"ceiling $\epsilon_S\,\sqrt{{N_b/{n_min}}}$, {ceiling:.1f} at 1"
    axes.plot(
        efficiency, efficiency * ceiling, color="0.3", linewidth=1, linestyle=_DASHED, label=label
    )
    highs = [np.nanmax(np.append(result.sic_band.high, 1.0)) for result in _classifiers(results)]
    axes.set(xlim=(0, 1), ylim=(0, 1.35 * float(max(highs))))  # with room for the legend
    _mark_handover(axes, results, handover)
    axes.set_xlabel(r"signal efficiency $\epsilon_S$")
    axes.set_ylabel(r"SIC = $\epsilon_S\,/\,\sqrt{\epsilon_B}$")
    stated = ", ".join(f"{eps_s:g}" for eps_s in results.model.sic_at)
    marks = f"▼ cut from validation data\n● at $\\epsilon_S$ = {stated}"
    _legend(axes, f"{results.config.confidence:.0%} bootstrap band\n{marks}")
    save_figure(figure, path)


def _mark_handover(axes: Axes, results: EvaluationResults, handover: float) -> None:
    """Shades the signal efficiencies at which the boosting of a cascade decides."""
    events = results.model.events
    signal = events.weight[events.is_signal]
    if math.isinf(handover) or signal.sum() <= 0:
        return
    reached = float(signal[events.score[events.is_signal] >= handover].sum() / signal.sum())
    label = f"{results.model.name}: the cascade's boosting decides"
    axes.axvspan(reached, 1, color="0.85", alpha=0.6, zorder=0, linewidth=0, label=label)


def plot_roc(results: EvaluationResults, path: Path) -> None:
    """Draws background rejection against signal efficiency, with bands, as a PNG file."""
    figure, axes = _canvas(results)
    for index, result in enumerate(_classifiers(results)):
        colour, curve = COLOURS[index % len(COLOURS)], result.curve
        band = result.rejection_band
        axes.fill_between(band.eps_s, band.low, band.high, color=colour, alpha=0.18, linewidth=0)
        shown = ~np.isnan(curve.sic(results.n_min))
        eps_s, rejection = curve.eps_s[shown], 1 / curve.eps_b[shown]
        style, label = line_style(index), f"{_name(result)}: AUC {_auc_text(result)}"
        axes.plot(eps_s, rejection, color=colour, linestyle=style, label=label)
    efficiency = np.linspace(1e-3, 1, 500)
    axes.plot(efficiency, 1 / efficiency, color="0.55", linewidth=1, label="random")
    n_min, n_background = results.n_min, results.model.events.n_background
    top = max(n_background / n_min, 2.0)
    axes.axhline(top, color="0.3", linewidth=1, linestyle=_DASHED)
    least = "1 background event passes" if n_min == 1 else f"{n_min} background events pass"
    axes.text(0.02, top * 1.06, least, color="0.3", fontsize=10)
    axes.set(xlim=(0, 1), ylim=(1, top * 12), yscale="log")
    axes.set_xlabel(r"signal efficiency $\epsilon_S$")
    axes.set_ylabel(r"background rejection $1/\epsilon_B$")
    _legend(axes, f"{results.config.confidence:.0%} bootstrap band")
    save_figure(figure, path)


def plot_scores(results: EvaluationResults, path: Path) -> None:
    """Draws the score of the model for signal and for background events, as a PNG file."""
    figure, axes = _canvas(results)
    events, name = results.model.events, results.model.name
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
    cut = results.model.cuts[0].threshold
    if cut.value is not None:
        label = f"cut: {cut.chosen_by}"
        axes.axvline(cut.value, ymax=0.8, color="0.3", linestyle="--", label=label)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.5)
    axes.set_xlabel(f"score of {name} (logit)")
    axes.set_ylabel("events per bin")
    axes.set_ylim(top=axes.get_ylim()[1] * 8)
    _legend(axes, None)
    save_figure(figure, path)


def _canvas(results: EvaluationResults) -> tuple[Figure, Axes]:
    events = results.model.events
    numbers = f"$N_s$ = {events.n_signal}, $N_b$ = {events.n_background}"
    figure, axes = wide_canvas(f"{results.sample} sample, {results.view} view", numbers)
    if events.problem is not None:
        place = axes.transAxes
        axes.text(0.5, 0.5, events.problem, transform=place, ha="center", fontsize=13, zorder=5)
    return figure, axes


def _classifiers(results: EvaluationResults) -> list[ScoreResult]:
    return [result for result in results.scores.values() if result.role != "ablation"]


def _mark_working_points(axes: Axes, result: ScoreResult, colour: str) -> None:
    """Marks the cut from validation data by a triangle with interval, stated ones by circles."""
    for estimate in result.sic_at.values():
        if estimate.point.eps_s is not None and estimate.point.sic is not None:
            axes.plot(estimate.point.eps_s, estimate.point.sic, "o", color=colour, markersize=5)
    best = result.max_sic
    if best.point.eps_s is None or best.point.sic is None:
        return
    axes.plot(best.point.eps_s, best.point.sic, "v", color=colour, markersize=9, mec="white")
    if best.sic.pair is not None:
        low, high = best.sic.pair
        axes.vlines(best.point.eps_s, low, high, color=colour, linewidth=1.6)


def _name(result: ScoreResult) -> str:
    return result.name.replace("_", " ")


def _auc_text(result: ScoreResult) -> str:
    pair = result.auc_interval.pair
    if result.auc.value is None or pair is None:
        return "undefined"
    return f"{result.auc.value:.3f} [{pair[0]:.3f}, {pair[1]:.3f}]"


def _legend(axes: Axes, title: str | None) -> None:
    """Adds a legend inside the axes, or below them where it would hide the curves."""
    handles, labels = axes.get_legend_handles_labels()
    figure = axes.get_figure(root=True)
    style: dict[str, Any] = {"fontsize": 10, "title": title, "title_fontsize": 9}
    if figure is not None and len(labels) > _MAX_ENTRIES_INSIDE:
        legend_below(figure, handles, labels, title)
        return
    axes.legend(loc="upper right", framealpha=0.9, edgecolor="none", **style)
