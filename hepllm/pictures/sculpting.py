"""The picture of the background's mass spectrum after cuts over the one before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from scipy.stats import binom

from hepllm.arrays import Floats
from hepllm.evaluation.assessment import EvaluationResults
from hepllm.evaluation.sculpting_records import SculptingRecord, SpectraRecord
from hepllm.pictures.style import COLOURS, legend_below, line_style, plain, save_figure

_LEAST_EXPECTED = 10
_MOST_GROUPS = 10
_PANEL_HEIGHT = 2.1


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
    height = 1.2 + _PANEL_HEIGHT * (len(cuts) + 1.3)
    figure = Figure(figsize=(7.2, height), dpi=150, layout="constrained")
    panels = figure.subplots(len(cuts) + 1, 1, sharex=True, height_ratios=(1.3, *[1] * len(cuts)))
    _draw_spectra(panels[0], list(cuts), record, spectra)
    for axes, cut in zip(panels[1:], cuts, strict=True):
        _draw_cut(axes, cut, record, spectra)
        axes.set_ylabel("after / before", fontsize=11)
    panels[0].set_title(f"{plain(results.record.sample)} sample", loc="left", fontsize=11)
    panels[0].set_title(f"$N_b$ = {record.n_background}", loc="right", fontsize=11)
    panels[-1].set_xlabel(f"{plain(record.mass)} of background events [GeV]", fontsize=13)
    panels[-1].set(xscale="log", xlim=record.range_gev)
    panels[-1].xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 5, 6, 8)))
    panels[-1].xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    panels[-1].xaxis.set_minor_formatter(NullFormatter())
    handles, labels = max((axes.get_legend_handles_labels() for axes in panels[1:]), key=_length)
    legend_below(
        figure, handles, labels, f"points: {plain(results.record.classifier)} with 68 % errors"
    )
    save_figure(figure, path)
    return True


def _draw_spectra(
    axes: Axes, cuts: Sequence[str], record: SculptingRecord, spectra: SpectraRecord
) -> None:
    """Draws the spectrum before cuts, and after those of the model, in events per GeV."""
    edges = np.array(spectra.edges_gev)
    per_gev = 1 / np.diff(edges)
    before = np.array(spectra.before) * per_gev
    axes.stairs(before, edges, color="0.4", label="before cuts")
    model, *_ = record.classifiers
    for index, cut in enumerate(one for one in cuts if one in spectra.after[model]):
        counts = np.array(spectra.after[model][cut])
        filled = counts > 0
        axes.errorbar(
            np.sqrt(edges[:-1] * edges[1:])[filled],
            (counts * per_gev)[filled],
            (np.sqrt(np.maximum(counts, 0)) * per_gev)[filled],
            fmt="os^vD"[index % 5],
            markersize=3,
            elinewidth=1,
            color=COLOURS[index % len(COLOURS)],
            label=f"{plain(model)}, $\\epsilon_B$ = {cut}",
        )
    axes.set_yscale("log")
    axes.set_ylabel("events / GeV", fontsize=11)
    axes.tick_params(direction="in", which="both", top=True, right=True, labelsize=10)
    axes.legend(loc="upper right", frameon=False, fontsize=9)


def _length(entries: tuple[list[object], list[str]]) -> int:
    return len(entries[1])


def _draw_cut(axes: Axes, cut: str, record: SculptingRecord, spectra: SpectraRecord) -> None:
    after = {name: np.array(cuts[cut]) for name, cuts in spectra.after.items() if cut in cuts}
    shape = np.array(spectra.before) / sum(spectra.before)
    n_passing = min(record.classifiers[name].cuts[cut].n_passing for name in after)
    starts = _merged(shape * n_passing)
    edges = np.array(spectra.edges_gev)[[*starts, len(shape)]]
    before = np.add.reduceat(shape, starts)
    _draw_band(axes, edges, before, n_passing, record.confidence)
    model, *_ = record.classifiers
    for index, (name, spectrum) in enumerate(after.items()):
        share = np.add.reduceat(spectrum, starts) / spectrum.sum()
        colour = COLOURS[index % len(COLOURS)]
        if name != model:
            style = line_style(index // len(COLOURS))
            axes.stairs(
                share / before,
                edges,
                baseline=None,
                color=colour,
                linestyle=style,
                label=plain(name),
            )
            continue
        n_events = record.classifiers[name].cuts[cut].n_passing
        error = np.sqrt(np.maximum(share * n_events, 1)) / n_events
        axes.errorbar(
            np.sqrt(edges[:-1] * edges[1:]),
            share / before,
            error / before,
            fmt="o",
            markersize=5,
            elinewidth=1.4,
            color=colour,
            zorder=5,
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
    """First bins of at most ten groups, in each of which enough events are expected."""
    enough = max(_LEAST_EXPECTED, expected.sum() / _MOST_GROUPS * (1 - 1e-9))
    starts, content = [0], 0.0
    for place, events in enumerate(expected):
        if content >= enough and expected[place:].sum() >= _LEAST_EXPECTED:
            starts.append(place)
            content = 0.0
        content += events
    return starts
