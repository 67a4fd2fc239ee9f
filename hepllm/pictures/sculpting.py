"""The picture of the background's mass spectrum after cuts over the one before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binom

from hepllm.arrays import Floats
from hepllm.evaluation.assessment import EvaluationResults
from hepllm.evaluation.sculpting_records import SculptingRecord, SpectraRecord
from hepllm.pictures.style import COLOURS, legend_below, line_style, plain, save_figure

_LEAST_EXPECTED = 10
_PANEL_HEIGHT = 2.1
_SHIFT = 0.12, 0.01
"""Largest distance of the points of neighbouring classifiers, over a bin and over the mass."""


def plot_sculpting(results: EvaluationResults, path: Path) -> bool:
    """Draws spectra after a cut over those before, a panel for each background efficiency.

    Both are normalised, so that the ratio is 1 without sculpting. The band is that of random
    selections of as many events.

    Args:
        results: results of one sample.
        path: PNG file, written whole or not at all.

    Returns:
        Whether there was a cut to draw.
    """
    record, spectra = results.sculpting, results.curves.spectra
    if record is None or spectra is None:
        return False
    cuts = dict.fromkeys(cut for one in record.classifiers.values() for cut in one.cuts)
    if not cuts:
        return False
    figure = Figure(figsize=(7.2, 1.2 + _PANEL_HEIGHT * len(cuts)), dpi=150, layout="constrained")
    panels = figure.subplots(len(cuts), 1, sharex=True, squeeze=False)[:, 0]
    for axes, cut in zip(panels, cuts, strict=True):
        _draw_cut(axes, cut, record, spectra)
    panels[0].set_title(f"{plain(results.record.sample)} sample", loc="left", fontsize=11)
    panels[0].set_title(f"$N_b$ = {record.n_background}", loc="right", fontsize=11)
    panels[-1].set_xlabel(f"{plain(record.mass)} of background events [GeV]", fontsize=13)
    panels[-1].set_xlim(*record.range_gev)
    figure.supylabel("spectrum after the cut / before", fontsize=12)
    handles, labels = max((axes.get_legend_handles_labels() for axes in panels), key=_length)
    legend_below(figure, handles, labels, "errors: 68 %")
    save_figure(figure, path)
    return True


def _length(entries: tuple[list[object], list[str]]) -> int:
    return len(entries[1])


def _draw_cut(axes: Axes, cut: str, record: SculptingRecord, spectra: SpectraRecord) -> None:
    after = {name: np.array(cuts[cut]) for name, cuts in spectra.after.items() if cut in cuts}
    shape = np.array(spectra.before) / sum(spectra.before)
    n_passing = min(record.classifiers[name].cuts[cut].n_passing for name in after)
    starts = _merged(shape * n_passing)
    edges = np.array(spectra.edges_gev)[[*starts, len(shape)]]
    before = np.add.reduceat(shape, starts)
    shift = np.minimum(_SHIFT[0] * np.log(edges[1:] / edges[:-1]), _SHIFT[1])
    _draw_band(axes, edges, before, n_passing, record.confidence)
    for index, (name, spectrum) in enumerate(after.items()):
        n_events = record.classifiers[name].cuts[cut].n_passing
        share = np.add.reduceat(spectrum, starts) / spectrum.sum()
        error = np.sqrt(np.maximum(share * n_events, 1)) / n_events
        step = index - (len(after) - 1) / 2
        axes.errorbar(
            np.sqrt(edges[:-1] * edges[1:]) * np.exp(step * shift),
            share / before,
            error / before,
            fmt="o",
            markersize=3.5,
            elinewidth=1,
            color=COLOURS[index % len(COLOURS)],
            label=plain(name),
        )
    axes.axhline(1, color="0.4", linewidth=1, linestyle=line_style(1))
    axes.set_ylim(bottom=0)
    axes.tick_params(direction="in", which="both", top=True, right=True, labelsize=10)
    label = f"$\\epsilon_B$ = {cut}, N = {n_passing}"
    axes.text(0.02, 0.05, label, transform=axes.transAxes, fontsize=10)


def _draw_band(
    axes: Axes, edges: Floats, before: Floats, n_passing: int, confidence: float
) -> None:
    tail = (1 - confidence) / 2
    low, high = (binom.ppf(end, n_passing, before) for end in (tail, 1 - tail))
    expected = n_passing * before
    axes.stairs(
        high / expected,
        edges,
        baseline=low / expected,
        fill=True,
        color="0.88",
        label=f"random selections, {confidence:.0%} in each bin",
    )


def _merged(expected: Floats) -> list[int]:
    """First bins of groups in which enough events are expected; the rest joins the last group."""
    starts, content = [0], 0.0
    for place, events in enumerate(expected):
        if content >= _LEAST_EXPECTED and expected[place:].sum() >= _LEAST_EXPECTED:
            starts.append(place)
            content = 0.0
        content += events
    return starts
