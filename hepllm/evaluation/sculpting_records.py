"""Records of what cuts do to the background's m_jj spectrum."""

from __future__ import annotations

from collections.abc import Mapping

from hepllm.evaluation.records import Estimate
from hepllm.records import Events, Gev, Pair, Record


class WindowExcess(Record):
    """The window of the spectrum after a cut with the most significant excess."""

    window_gev: tuple[Gev, Gev]
    """Lower and upper end of the window."""
    n_inside: Events
    """Events in the window after the cut, without weights."""
    factor: float
    """Share of the events inside after the cut over the share before."""
    interval: Pair | None
    """Interval [low, high] of the factor for this window alone."""
    random_high: float
    """Factor that random selections reach here as seldom as the confidence says, in any window."""
    p: float
    """Share of random selections with an excess at least as significant in any window."""


class CutSculpting(Record):
    """The background's m_jj spectrum after a cut, compared with that before."""

    n_passing: Events
    """Background events that pass the cut, without weights."""
    js: float
    """Jensen-Shannon distance of the spectra after and before the cut, the root of bits."""
    js_random_median: float
    """Median of this distance for random selections of as many events."""
    js_random_high: float
    """Distance that random selections stay below with the probability of the confidence."""
    js_p: float
    """Share of random selections with at least the distance found."""
    js_without_noise: Estimate
    """The distance less what the finite number of events adds to it."""
    excess: WindowExcess | None
    """The most significant excess; null where no window is expected to keep 10 events."""
    power: Estimate
    """Power of m_jj to which the efficiency of the cut is proportional; 0 without sculpting."""


class ClassifierSculpting(Record):
    """What cuts on the score of one classifier do."""

    rank_correlation: Estimate
    """Spearman's rank correlation of score and m_jj of background events, without weights."""
    cuts: Mapping[str, CutSculpting]
    """Cuts by their background efficiency, such as 0.01."""
    undefined: Mapping[str, str]
    """Why a cut is missing, by its background efficiency."""


class SculptingRecord(Record):
    """What cuts do to the background's m_jj spectrum."""

    mass: str
    """The mass: that of searches, usually m_jj."""
    range_gev: tuple[Gev, Gev]
    """Lower and upper end of the spectrum."""
    n_background: Events
    """Background events in this range; cuts keep shares of these."""
    n_random: int
    """Number of random selections."""
    confidence: float
    """Probability content of the intervals."""
    seed: int
    """Seed of random selections and replicas."""
    classifiers: Mapping[str, ClassifierSculpting]
    """Results by classifier, the evaluated model first."""


class SpectraRecord(Record):
    """Histograms of the background's m_jj before and after cuts, as sums of weights."""

    edges_gev: tuple[Gev, ...]
    """Edges of the bins."""
    before: tuple[float, ...]
    """All background events, by bin."""
    after: Mapping[str, Mapping[str, tuple[float, ...]]]
    """Background events that pass, by classifier, background efficiency of the cut, and bin."""
