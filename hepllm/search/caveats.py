"""Warnings about the results of a search."""

from __future__ import annotations

import math

import numpy as np

from hepllm.arrays import Bools
from hepllm.search.box import SearchResult, SelectionResult

SMALL_P = 0.01
_EVIDENCE_P = 1e-3
_CLAIM_TOYS = 10_000

LARGEST_SPURIOUS = 0.3
"""Largest spurious signal, beyond its noise and over the error of a signal, without a warning."""

_LARGEST_KS = 0.1, 0.2
"""Kolmogorov-Smirnov distances, beyond their noise, that ask for a warning.

The first is that of the loosest cut. Its distance is 0.06 for an efficiency that goes like m_jj,
0.09 for the power 1.5, and 0.13 for 2. With the last it passes most of the heaviest events, which
leaves no template there, and too many p-values of spectra without a signal are small. Tighter cuts
have the second: they pass few of all events, so that a smooth change is taken up.
"""

_KS_NOISE = 1.95
"""99.9 % quantile of this distance of equal spectra, times the root of the selected events."""

_SAME_SIGNAL = 0.2
"""Share of a resonance's events that its own failing events may seem to make."""


def warnings_of(result: SearchResult) -> list[str]:
    """Returns the warnings about a search, one sentence each."""
    found = [*_about_misfit(result), *_about_shapes(result)]
    found += [
        f"many events have equal scores: the cut at {one.efficiency:g} keeps {one.n_selected} "
        f"events instead of {one.efficiency * result.n_in_range:.0f}"
        for one in result.tied
    ]
    overall = result.toys.overall
    if overall.value < _EVIDENCE_P and overall.n_toys < _CLAIM_TOYS:
        found.append(
            f"p < {_EVIDENCE_P:g} from {overall.n_toys} pseudo-experiments; "
            f"set evaluation.search.max_toys to {_CLAIM_TOYS} or more"
        )
    return found + _about_resonance(result)


def _about_misfit(result: SearchResult) -> list[str]:
    """Warns of a misfit before the cut that the selections see as a signal."""
    low = result.spectra.edges[0]
    worst, at = None, 0.0
    for one in result.selections:
        size = one.spurious.beyond_noise * ~_of_resonance(result, one)
        if size.max() > max(LARGEST_SPURIOUS, at):
            worst, at = one, float(size.max())
            place = int(size.argmax())
    if worst is None:
        return []
    spurious = worst.spurious
    events, error = spurious.n_signal[place], spurious.error[place]
    text = (
        f"the fit does not describe the spectrum before the cut above {low:.0f} GeV: after the cut "
        f"at {worst.cut.efficiency:g} this looks like a signal of {events:.0f} events, "
        f"{events / error:.1f} times its error, at {spurious.mass[place]:.0f} GeV, so the search's "
        "p-value may be wrong: raise evaluation.search.m_jj_min above the turn-on of the trigger; "
        "a signal that fails the cut does this too"
    )
    return [text]


def _of_resonance(result: SearchResult, one: SelectionResult) -> Bools:
    """Masses at which the failing events of an excess explain the spurious signal, shape (M,)."""
    if not result.is_excess:
        return np.zeros(len(one.spurious.mass), dtype=bool)
    low, high = result.resonance.window(3.0)
    near = (one.spurious.mass > low) & (one.spurious.mass < high)
    small = np.abs(one.spurious.n_signal) < _SAME_SIGNAL * one.local.n_signal
    return np.asarray(near & small)


def is_large(distance: float, n_selected: float, place: int) -> bool:
    """Whether the distance of the spectra before and after a cut is more than noise, and large.

    ``place`` is that of the cut, the loosest first.
    """
    limit = _LARGEST_KS[min(place, 1)]
    return distance > limit + _KS_NOISE / math.sqrt(max(n_selected, 1.0))


def _about_shapes(result: SearchResult) -> list[str]:
    """Warns of cuts that change the spectrum much, and of fits that do not describe it."""
    found = []
    carved = [
        (one.cut.efficiency, one.shape_outside.ks)
        for place, one in enumerate(result.selections)
        if one.shape_outside is not None
        and is_large(one.shape_outside.ks, one.cut.n_selected, place)
    ]
    if carved:
        cuts = ", ".join(f"{cut:g} (KS distance {distance:.2f})" for cut, distance in carved)
        found.append(
            f"the cut changes the spectrum outside of the resonance at {cuts}; the fit follows "
            "only a smooth change"
        )
    # One chance in a hundred for all selections together.
    limit = SMALL_P / len(result.selections)
    for one in result.selections:
        fit = one.goodness_outside
        if fit is not None and fit.value < limit:
            found.append(
                f"the spectrum after the cut at {one.cut.efficiency:g} is not described outside of "
                f"the resonance (p = {fit.value:.2g}), so the search's p-value may be too small"
            )
    return found


def _about_resonance(result: SearchResult) -> list[str]:
    resonance = result.resonance
    if not result.is_excess:
        text = "no excess: mass, events and jet masses are those of the largest fluctuation, and"
        return [f"{text} their intervals are not valid"]
    found = []
    if result.mass != "m_jj":
        found.append(
            f"the peak of {result.mass} has the response of m_jj, so its mass may be off by more "
            "than its error"
        )
    if resonance.is_wide:
        found.append("the peak is wider than the resolution of the detector")
    if not resonance.is_valid:
        found.append("the fit of the resonance did not converge; its numbers are rough")
    if resonance.n_signal.value <= 0:
        found.append(
            "the scan finds an excess where the fit finds no peak: the fit does not describe the "
            "background, or most events that pass the cut are signal"
        )
    measured = (
        ("mass", resonance.mass),
        ("relative width", resonance.width),
        ("number of events", resonance.n_signal),
    )
    for name, one in measured:
        if one.at_limit and not (one is resonance.width and resonance.width_at_limit):
            found.append(f"the interval of the resonance's {name} ends at a limit of the fit")
        if one.is_rough:
            found.append(f"Minos finds no interval of the resonance's {name}; it may be too short")
    if resonance.width_at_limit:
        found.append(
            f"the resonance's relative width, {resonance.width.value:.3g}, is the smallest or "
            "largest that the fit allows: the peak may be narrower or wider"
        )
    return found
