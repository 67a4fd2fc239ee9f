"""Pictures of a search: the spectrum with its fit and bump, and the jet masses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from scipy.stats import norm

from hepllm.arrays import Floats
from hepllm.pictures.style import (
    BACKGROUND_COLOUR,
    COLOURS,
    SIGNAL_COLOUR,
    legend_below,
    line_style,
    save_figure,
    wide_canvas,
)
from hepllm.search.box import SearchResult, SelectionResult
from hepllm.search.jet_masses import JetMass
from hepllm.search.limit_records import Limit, UpperLimit, UpperLimits

_GREEN, _YELLOW = "#5DC863", "#FDE725"
"""The usual colours of expected limits, in shades that differ in brightness as well."""

_NAMES = {"light": "lighter", "heavy": "heavier"}
_SYMBOLS = {"m_jj": "$m_{jj}$", "m_jjj": "$m_{jjj}$"}


def plot_spectrum(name: str, result: SearchResult, path: Path) -> None:
    """Draws the mass before and after the cut, the fits, the window of the bump and the pulls."""
    figure = Figure(figsize=(7.2, 6.6), dpi=150, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for axes in (upper, lower):
        axes.tick_params(direction="in", which="both", top=True, right=True, labelsize=11)
        axes.minorticks_on()
    spectra, chosen, resonance = result.spectra, result.chosen, result.resonance
    edges, counts = spectra.edges, spectra.selected[result.best]
    per_gev = 1 / np.diff(edges)  # the bins grow with the mass
    before = result.rejected.expected[0]
    upper.stairs(spectra.rejected * per_gev, edges, color="0.5", linewidth=1)
    label = "rejected events and fit"
    upper.stairs(before * per_gev, edges, color="0.5", linestyle=":", label=label)
    _points(upper, edges, counts, f"selected, {chosen.cut.efficiency:g} of the events", per_gev)
    fit = chosen.background
    upper.stairs(
        fit.expected * per_gev,
        edges,
        color=BACKGROUND_COLOUR,
        linewidth=1.6,
        label=f"background alone{_fit_text(chosen)}",
    )
    low, high = np.maximum(fit.expected - fit.error, 1e-3) * per_gev, fit.expected + fit.error
    upper.stairs(high * per_gev, edges, baseline=low, fill=True, color=BACKGROUND_COLOUR, alpha=0.2)
    both = (resonance.background + resonance.signal) * per_gev
    label = f"background and resonance, {resonance.mass} GeV"
    upper.stairs(both, edges, color=SIGNAL_COLOUR, linewidth=1.6, linestyle="--", label=label)
    _mark_window(upper, result)
    _mark_window(lower, result)
    top = max(float((spectra.rejected * per_gev).max()), float(per_gev.max()))
    upper.set(yscale="log", ylim=(0.1 * float(per_gev.min()), top * 3), xlim=(edges[0], edges[-1]))
    upper.set_ylabel("events / GeV", fontsize=13)
    overall = result.toys.overall
    sigma, is_bound = overall.significance, overall.n_exceeding == 0
    in_sigma = "" if sigma is None else f" ({'at least ' * is_bound}{sigma:.1f}$\\sigma$)"
    upper.set_title(f"{name}, N = {result.n_in_range}", loc="left", fontsize=11)
    relation = r"$\leq$" if is_bound else "="
    p_value = f"p {relation} {overall.value:.2g}{in_sigma}"
    if (rare := result.toys.rare) is not None:
        p_value += f"; extrapolated {norm.isf(rare.value):.1f}$\\sigma$"
    upper.set_title(p_value, loc="right", fontsize=11)
    _draw_pulls(lower, edges, counts, fit.expected)
    handles, labels = upper.get_legend_handles_labels()
    legend_below(figure, handles, labels, None)
    lower.set_xlabel(f"{_SYMBOLS.get(result.mass, result.mass)} [GeV]", fontsize=13)
    figure.align_ylabels()
    save_figure(figure, path)


def _fit_text(chosen: SelectionResult) -> str:
    """Quality of the background fit away from the peak, which it is not meant to describe."""
    if chosen.goodness_outside is None:
        return ""
    value = chosen.goodness_outside.value
    return f", fit p {'< 0.01' if value < 0.01 else f'= {value:.2f}'} without the peak"


def plot_scan(name: str, result: SearchResult, path: Path) -> None:
    """Draws the local p-value of a narrow peak by its mass, for each selection."""
    figure, axes = wide_canvas(name, "local p-value, no trials")
    lowest = 1e-3
    for index, one in enumerate(result.selections):
        p_value = norm.sf(one.scan.significance)
        lowest = min(lowest, float(p_value.min()))
        axes.plot(
            one.scan.mass,
            p_value,
            color=COLOURS[index % len(COLOURS)],
            linestyle=line_style(index),
            label=f"selected, {one.cut.efficiency:g} of the events",
        )
    axes.set(yscale="log", ylim=(max(lowest, 1e-300) / 10, 1.0))
    low, high = result.spectra.edges[0], result.spectra.edges[-1]
    for sigma in range(1, int(norm.isf(max(lowest, 1e-300) / 10)) + 1):
        axes.axhline(norm.sf(sigma), color="0.6", linewidth=0.8, linestyle=":")
        axes.text(high, norm.sf(sigma), f" {sigma}$\\sigma$", fontsize=9, color="0.4", va="center")
    axes.set_xlim(low, high)
    axes.set_xlabel(f"{_SYMBOLS.get(result.mass, result.mass)} of the peak [GeV]", fontsize=13)
    axes.set_ylabel("local p-value", fontsize=13)
    handles, labels = axes.get_legend_handles_labels()
    legend_below(figure, handles, labels, None)
    save_figure(figure, path)


def plot_jet_masses(name: str, result: SearchResult, path: Path) -> None:
    """Draws the jet masses of a box near the resonance, with the prediction of the side-bands."""
    figure = Figure(figsize=(9.9, 4.6), dpi=150, layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, (jet, found) in zip(panels, result.jet_masses.items(), strict=True):
        axes.tick_params(direction="in", which="both", top=True, right=True, labelsize=11)
        _draw_jet(axes, found)
        groomed = ", after soft drop" if result.is_groomed else ""
        label = f"mass of the {_NAMES[jet]} of the two leading jets{groomed} [GeV]"
        axes.set_xlabel(label, fontsize=12)
        axes.set_ylabel("events per bin", fontsize=12)
        if found.peak is not None:
            axes.set_title(f"peak {found.peak} GeV", fontsize=10, color=SIGNAL_COLOUR)
    entries = [axes.get_legend_handles_labels() for axes in panels]
    handles, labels = max(entries, key=lambda one: len(one[1]))
    legend_below(figure, handles, labels, None)
    low, high = result.resonance.window(2.0)
    mass = _SYMBOLS.get(result.mass, result.mass)
    figure.suptitle(f"{name}, {low:.0f} < {mass} < {high:.0f} GeV", fontsize=11)
    save_figure(figure, path)


def _points(
    axes: Axes, edges: Floats, counts: Floats, label: str, scale: Floats | float = 1.0
) -> None:
    filled = counts > 0
    x, y = np.sqrt(edges[1:] * edges[:-1])[filled], counts[filled]
    factor = np.broadcast_to(scale, counts.shape)[filled]
    style: dict[str, Any] = {"fmt": "o", "color": "black", "markersize": 3.5, "elinewidth": 1}
    axes.errorbar(x, y * factor, np.sqrt(y) * factor, label=label, **style)


def _mark_window(axes: Axes, result: SearchResult) -> None:
    edges, bump = result.spectra.edges, result.chosen.bump
    low, high = edges[bump.start], edges[bump.start + bump.width]
    label = f"window of the largest excess, {low:.0f} to {high:.0f} GeV"
    axes.axvspan(low, high, color=SIGNAL_COLOUR, alpha=0.12, linewidth=0, label=label)


def _draw_pulls(axes: Axes, edges: Floats, counts: Floats, expected: Floats) -> None:
    """Signed roots of each bin's deviance, which are Gaussian even for few events."""
    terms = np.where(counts > 0, counts * np.log(np.maximum(counts, 1) / expected), 0.0)
    pulls = np.sign(counts - expected) * np.sqrt(2 * np.maximum(terms - counts + expected, 0))
    axes.stairs(pulls, edges, fill=True, color=BACKGROUND_COLOUR, alpha=0.6)
    axes.axhline(0, color="0.3", linewidth=1)
    span = max(3.5, 1.1 * float(np.abs(pulls).max()))
    axes.set(ylim=(-span, span))
    axes.set_ylabel("pull", fontsize=13)


def _draw_jet(axes: Axes, found: JetMass) -> None:
    _points(axes, found.edges, found.window, "window of the resonance")
    colour, label = BACKGROUND_COLOUR, "side-bands, scaled"
    axes.stairs(found.background, found.edges, fill=True, color=colour, alpha=0.3, label=label)
    if found.peak is not None:
        axes.axvline(found.peak.value, color=SIGNAL_COLOUR, linestyle="--", label="peak")
    axes.set(xscale="log", xlim=(found.edges[0], 1500), ylim=(0, None))
    top = float(max(found.window.max(initial=1), found.background.max(initial=1)))
    axes.set_ylim(top=1.3 * top + 1)


def plot_limits(name: str, limits: UpperLimits, path: Path) -> None:
    """Draws observed and expected limits by mass, with the usual bands of 68 and 95 %.

    They are limits on the cross section where a luminosity was stated, else on signal events in the
    box, or after the cut where no efficiency is known.
    """
    label, shown = _best_limits(limits)
    figure, axes = wide_canvas(name, f"{limits.confidence:.0%} CL upper limits")
    mass = np.array([one.mass_gev for one, _ in shown])
    found = [limit for _, limit in shown]
    for band, colour, share in (("expected_95", _YELLOW, "95"), ("expected_68", _GREEN, "68")):
        ends = [getattr(limit, band) or (np.nan, np.nan) for limit in found]
        low, high = np.array(ends, dtype=np.float64).reshape(-1, 2).T
        axes.fill_between(mass, low, high, color=colour, linewidth=0, label=f"{share} % expected")
    expected = [limit.expected for limit in found]
    axes.plot(mass, expected, color="black", linestyle="--", linewidth=1.4, label="expected")
    observed = [limit.observed for limit in found]
    axes.plot(mass, observed, "o-", color="black", linewidth=1.2, markersize=3, label="observed")
    axes.set(yscale="log", xlabel="resonance mass [GeV]", ylabel=label)
    axes.yaxis.set_major_formatter(LogFormatter())  # 60, not 6 x 10^1
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
    axes.set_xlim(mass.min(), mass.max())
    handles, labels = axes.get_legend_handles_labels()
    legend_below(figure, handles[::-1], labels[::-1], None)
    save_figure(figure, path)


def _best_limits(limits: UpperLimits) -> tuple[str, list[tuple[UpperLimit, Limit]]]:
    """The limits to show, at the masses that have them, and their name."""
    kinds = {
        "cross_section_fb": "cross section x branching fraction [fb]",
        "box": "signal events in the box",
        "selected": "signal events after the cut",
    }
    for kind, label in kinds.items():
        found = [(one, getattr(one, kind)) for one in limits.by_mass]
        if known := [(one, limit) for one, limit in found if limit is not None]:
            return label, known
    raise ValueError("no limit to draw")
