"""Signal regions in the mass, each between two sidebands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Floats
from hepllm.config import SearchConfig
from hepllm.errors import InputError
from hepllm.search.region import MassRegion
from hepllm.search.spectra import bin_edges


@dataclass(frozen=True)
class Region:
    """A signal region with a sideband below and one above; masses in GeV.

    Attributes:
        low: lower end of the signal region.
        high: its upper end.
        below: lower end of the sideband below.
        above: upper end of the sideband above.
    """

    low: float
    high: float
    below: float
    above: float

    def __str__(self) -> str:
        return f"{self.low:.0f} to {self.high:.0f} GeV"

    def signal(self, m_jj: Floats) -> Bools:
        """Which of N events are in the signal region, shape (N,)."""
        return np.asarray((m_jj >= self.low) & (m_jj < self.high))

    def lower(self, m_jj: Floats) -> Bools:
        """Which of N events are in the sideband below, shape (N,)."""
        return np.asarray((m_jj >= self.below) & (m_jj < self.low))

    def upper(self, m_jj: Floats) -> Bools:
        """Which of N events are in the sideband above, shape (N,)."""
        return np.asarray((m_jj >= self.high) & (m_jj < self.above))

    def sidebands(self, m_jj: Floats) -> Bools:
        """Which of N events are in either sideband, shape (N,)."""
        return self.lower(m_jj) | self.upper(m_jj)

    def counts(self, m_jj: Floats) -> tuple[int, int, int]:
        """Events in the sideband below, in the signal region, and in the sideband above."""
        parts = (self.lower, self.signal, self.upper)
        below, inside, above = (int(part(m_jj).sum()) for part in parts)
        return below, inside, above

    def searched(self, trials: int) -> MassRegion:
        """The signal region as a part of a search, one of ``trials``."""
        return MassRegion(self.low, self.high, trials)


def choose_regions(m_jj: Floats, config: SearchConfig) -> list[Region]:
    """Chooses the signal regions of a search, of the masses of its events alone.

    They begin and end at edges of the bins of the search, and lie inside its mass range with both
    sidebands. Those with few events are left out, unless one was asked for.

    Args:
        m_jj: (N,) in GeV.
        config: rules of the search.

    Raises:
        InputError: if no region has enough events, or the stated one does not fit the range.
    """
    edges = bin_edges(config.m_jj_min, config.m_jj_max, config.bin_width)
    settings = config.weak
    if settings.region is not None:
        region = _stated(settings.region, edges, settings.sideband)
        _check_counts(region, m_jj, settings.min_events)
        return [region]
    bins, step, side = (
        max(least, _bins_of(width, edges))
        for width, least in (
            (settings.width, config.narrowest),
            (settings.step, 1),
            (settings.sideband, 1),
        )
    )
    starts = range(side, len(edges) - bins - side, step)
    found = [_region(edges, start, bins, side) for start in starts]
    enough = [one for one in found if min(one.counts(m_jj)) >= settings.min_events]
    if not enough:
        raise InputError(
            f"no signal region between {edges[0]:g} and {edges[-1]:g} GeV has "
            f"{settings.min_events} events, and so many in each sideband, among {len(m_jj)}; use "
            "a larger box, or set evaluation.search.weak.min_events or .sideband"
        )
    return enough


def _region(edges: Floats, start: int, bins: int, side: int) -> Region:
    low, high, below, above = (
        float(edges[place]) for place in (start, start + bins, start - side, start + bins + side)
    )
    return Region(low, high, below, above)


def _bins_of(width: float, edges: Floats) -> int:
    """Bins of a width over its mass; bins are equal in the logarithm."""
    return round(float(np.log1p(width) / np.log(edges[1] / edges[0])))


def _stated(region: tuple[float, float], edges: Floats, sideband: float) -> Region:
    """The region that was asked for, moved to the nearest edges of bins."""
    start, end = (int(np.abs(np.log(edges / mass)).argmin()) for mass in region)
    side = max(1, _bins_of(sideband, edges))
    if start - side < 0 or end + side >= len(edges) or end - start < 1:
        raise InputError(
            f"the signal region {region[0]:g} to {region[1]:g} GeV and sidebands of {sideband:g} "
            f"of its mass are not inside {edges[0]:g} to {edges[-1]:g} GeV; move it, or widen the "
            "range with evaluation.search.m_jj_min and m_jj_max"
        )
    return _region(edges, start, end - start, side)


def _check_counts(region: Region, m_jj: Floats, least: int) -> None:
    below, inside, above = region.counts(m_jj)
    if min(below, inside, above) < least:
        raise InputError(
            f"the signal region {region} has {inside} events, its sidebands {below} and {above}, "
            f"and at least {least} each are needed; use a larger box, or set "
            "evaluation.search.weak.min_events or .sideband"
        )


def describe(regions: Sequence[Region]) -> str:
    """The regions of a search in words."""
    if len(regions) == 1:
        return f"the signal region {regions[0]}"
    return f"{len(regions)} signal regions from {regions[0].low:.0f} to {regions[-1].high:.0f} GeV"
