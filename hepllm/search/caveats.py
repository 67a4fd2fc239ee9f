"""Warnings about the results of a search."""

from __future__ import annotations

from hepllm.search.hunt import SearchResult

_SMALL_P = 0.01
_EVIDENCE_P = 1e-3
_CLAIM_TOYS = 10_000


def warnings_of(result: SearchResult) -> list[str]:
    """Returns the warnings about a search, one sentence each."""
    found = []
    low = result.spectra.edges[0]
    if result.toys.rejected_goodness.value < _SMALL_P:
        found.append(
            f"the fit does not describe the spectrum before the cut above {low:.0f} GeV "
            f"(p = {result.toys.rejected_goodness.value:.2g}), so the search's p-value may be too "
            "small: raise evaluation.search.m_jj_min above the turn-on of the trigger; a large "
            "signal that fails the cut does this too"
        )
    found += _about_shapes(result)
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


def _about_shapes(result: SearchResult) -> list[str]:
    """Warns of cuts that change the spectrum, and of fits that do not describe it."""
    found = []
    carved = [
        (one.cut.efficiency, one.shape_outside.ks_p)
        for one in result.selections
        if one.shape_outside is not None and one.shape_outside.ks_p < _SMALL_P
    ]
    if carved:
        cuts = ", ".join(f"{cut:g} (KS p = {ks_p:.2g})" for cut, ks_p in carved)
        found.append(
            f"the cut changes the spectrum outside of the resonance at {cuts}; the fit follows "
            "only a smooth change"
        )
    for one in result.selections:
        fit = one.goodness_outside
        if fit is not None and fit.value < _SMALL_P:
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
