"""The bump hunt in each signal region, with the scores of its own classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hepllm.arrays import Floats
from hepllm.config import SearchConfig
from hepllm.search.box import BoxEvents
from hepllm.search.hunt import fit_box
from hepllm.search.scan import Bump
from hepllm.search.toys import PValue
from hepllm.weak.regions import Region


@dataclass(frozen=True, eq=False)
class Excess:
    """What the bump hunt finds in a signal region.

    Attributes:
        region: the signal region.
        p_value: probability of such an excess in this region, in any selection.
        efficiency: selection of the most significant bump, as the share of events that it keeps.
        bump: this bump.
        window: its lower and upper end in GeV.
        counts: events in the sideband below, in the signal region, and in the sideband above.
    """

    region: Region
    p_value: PValue
    efficiency: float
    bump: Bump
    window: tuple[float, float]
    counts: tuple[int, int, int]


def find_excess(
    events: BoxEvents, scores: Floats, region: Region, config: SearchConfig, seed: int
) -> Excess:
    """Hunts for a bump in a signal region; pseudo-experiments are the only costly part.

    Args:
        events: N events of the box.
        scores: (N,) scores of the classifiers of this region.
        region: the signal region.
        config: rules of the search.
        seed: seed of the pseudo-experiments.

    Raises:
        InputError: if the box has too few events in the m_jj range.
        RunError: if the background cannot be fitted.
    """
    fitted = fit_box(replace(events, score=scores), config, seed, region=region.searched(1))
    edges, bump = fitted.spectra.edges, fitted.bump
    return Excess(
        region=region,
        p_value=fitted.toys.overall,
        efficiency=fitted.cuts[fitted.best].efficiency,
        bump=bump,
        window=(float(edges[bump.start]), float(edges[bump.start + bump.width])),
        counts=region.counts(events.m_jj),
    )


def most_significant(found: Sequence[Excess]) -> int:
    """Index of the excess with the smallest p-value; of equal ones, with the smallest local one."""
    return min(
        range(len(found)), key=lambda place: (found[place].p_value.value, found[place].bump.local_p)
    )
