"""Records of ``weak.json``: signal regions that classifiers without labels were trained for."""

from __future__ import annotations

from collections.abc import Sequence

from hepllm.config.weak import WeakConfig
from hepllm.records import Events, FileRecord, Record, Whole
from hepllm.search.measurements import EventNumber, GevRange
from hepllm.search.records import Blackbox
from hepllm.search.region import after_trials
from hepllm.weak.regions import Region
from hepllm.weak.scan import Excess, most_significant

_CLOSING = 8
"""Features up to which a density was seen to close (docs/results/weak-cathode.md)."""


class RegionFindings(Record):
    """A signal region, and the largest excess in it."""

    region_gev: GevRange
    """Lower and upper end of the signal region."""
    sidebands_gev: GevRange
    """Lower end of the sideband below, and upper end of the sideband above."""
    n_region: Events
    """Events of the signal region."""
    n_below: Events
    """Events of the sideband below."""
    n_above: Events
    """Events of the sideband above."""
    p_value: float
    """Probability of such an excess in this region, in any selection; one region, no trials."""
    n_toys: int
    """Pseudo-experiments that the p-value is counted in."""
    n_toys_exceeding: int
    """Pseudo-experiments at least as extreme as the data."""
    best_selection: float
    """The selection with the most significant bump, as the share of events that it keeps."""
    bump_gev: GevRange
    """Lower and upper end of the window of this bump."""
    n_observed: Events
    """Events in this window."""
    n_expected: EventNumber
    """Events of the background fit in this window."""

    @property
    def is_bound(self) -> bool:
        """Whether the p-value is an upper bound, because no pseudo-experiment is as extreme."""
        return self.n_toys_exceeding == 0


class WeakScan(FileRecord):
    """The content of ``weak.json``: a search by classifiers that were trained on the box itself."""

    blackbox: Blackbox
    """Dataset that was searched."""
    template: str
    """What data were classified against: sidebands, density, simulation, reweighted or ideal."""
    background_digest: str | None = None
    """Digest of the other dataset of background; absent where none was needed."""
    features: list[str]
    """Features of an event that the classifiers use."""
    n_trainings: int
    """Classifiers that were trained, in all regions and folds."""
    p_value: float
    """Smallest p-value of all regions, with the regions as trials."""
    best_region: int
    """Place of its region in ``regions``."""
    regions: list[RegionFindings]
    """By signal region, the lightest first."""
    warnings: list[str]
    """Warnings about the numbers."""
    seed: int
    """Seed of folds, trainings and pseudo-experiments."""
    config: Whole[WeakConfig]
    """The settings, ``evaluation.search.weak``."""


def region_findings(found: Excess) -> RegionFindings:
    """The record of a signal region."""
    region, bump, counts = found.region, found.bump, found.counts
    return RegionFindings(
        region_gev=(region.low, region.high),
        sidebands_gev=(region.below, region.above),
        n_region=counts[1],
        n_below=counts[0],
        n_above=counts[2],
        p_value=found.p_value.value,
        n_toys=found.p_value.n_toys,
        n_toys_exceeding=found.p_value.n_exceeding,
        best_selection=found.efficiency,
        bump_gev=found.window,
        n_observed=bump.n_observed,
        n_expected=bump.n_expected,
    )


def smallest_p(found: Sequence[Excess]) -> tuple[int, float]:
    """The place of the most significant region, and its p-value with all regions as trials."""
    best = most_significant(found)
    return best, after_trials(found[best].p_value.value, len(found))


def warnings_of(config: WeakConfig, regions: Sequence[Region]) -> list[str]:
    """What to keep in mind about the results, one sentence each."""
    found = []
    if config.template == "ideal":
        found.append(
            "the template is true background, which no search has: this is a reference for the "
            "other templates, and its p-value no evidence"
        )
    if config.template == "simulation":
        found.append(
            "the template is simulation as it is: where it differs from data, classifiers learn "
            "this difference instead of a signal; compare with the template reweighted"
        )
    if config.template == "density" and len(config.feature_names()) > _CLOSING:
        found.append(
            f"a density of {len(config.feature_names())} features is not quite that of background, "
            "and classifiers learn the difference, too; with features=cathode it is closer"
        )
    low, high = regions[0].low, regions[-1].high
    found.append(
        f"classifiers were trained for masses from {low:.0f} to {high:.0f} GeV; nothing is said "
        "about resonances outside"
    )
    return found
