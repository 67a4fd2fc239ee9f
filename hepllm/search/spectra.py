"""m_jj spectra of a box: of what a selection keeps, and of what it rejects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import ks_2samp

from hepllm.arrays import Floats
from hepllm.search.records import ShapeDistance


@dataclass(frozen=True)
class ScoreCut:
    """A cut on the score that keeps a share of the events.

    Attributes:
        efficiency: share of the events in the m_jj range that was asked for.
        threshold: events with a score above it pass.
        n_selected: events that pass.
    """

    efficiency: float
    threshold: float
    n_selected: int

    def is_tied(self, n_events: int) -> bool:
        """Whether it keeps less than 90 % of its share of events, for want of distinct scores.

        Args:
            n_events: in the m_jj range.
        """
        # Without ties, rounding to whole events is all that is lost.
        return self.n_selected + 1 < 0.9 * self.efficiency * n_events


@dataclass(frozen=True, eq=False)
class BoxSpectra:
    """Histograms of m_jj with B bins.

    Attributes:
        edges: (B + 1,) in GeV.
        rejected: (B,) events that fail the loosest selection.
        selected: (S, B) events that pass each selection, the loosest first.
    """

    edges: Floats
    rejected: Floats
    selected: Floats

    @property
    def before(self) -> Floats:
        """Events before any selection, shape (B,)."""
        together: Floats = self.rejected + self.selected[0]
        return together


def bin_edges(low: float, high: float, width: float) -> Floats:
    """Edges of bins of equal width in log m_jj.

    Args:
        low: lower end in GeV.
        high: upper end in GeV.
        width: of a bin over its mass; adjusted so that the bins fill the range.
    """
    n_bins = max(1, round(np.log(high / low) / width))
    edges: Floats = np.geomspace(low, high, n_bins + 1)
    return edges


def choose_cuts(scores: Floats, efficiencies: Sequence[float]) -> list[ScoreCut]:
    """Thresholds that the given shares of events pass; those tied with a threshold fail.

    Args:
        scores: (N,) of the events in the m_jj range.
        efficiencies: shares, at least one.

    Returns:
        From the loosest to the tightest.
    """
    chosen = []
    for efficiency in sorted(efficiencies, reverse=True):
        threshold = float(np.quantile(scores, 1 - efficiency, method="lower"))
        chosen.append(ScoreCut(efficiency, threshold, int((scores > threshold).sum())))
    return chosen


def make_spectra(
    m_jj: Floats, scores: Floats, cuts: Sequence[ScoreCut], edges: Floats
) -> BoxSpectra:
    """Histograms of m_jj in GeV, shape (N,), for scores, shape (N,)."""
    passing = [scores > cut.threshold for cut in cuts]
    selected = [np.histogram(m_jj[mask], edges)[0] for mask in passing]
    rejected = np.histogram(m_jj[~passing[0]], edges)[0]
    return BoxSpectra(edges, rejected.astype(np.float64), np.array(selected, dtype=np.float64))


def shape_distance(
    passing: Floats, failing: Floats, seed: int, *, n_permutations: int = 500
) -> ShapeDistance | None:
    """Compares m_jj of events that pass and that fail a selection.

    Args:
        passing: (N,) masses.
        failing: (M,) masses.
        seed: of the random selections.
        n_permutations: random selections.

    Returns:
        None where fewer than 10 events are on a side.
    """
    if min(len(passing), len(failing)) < 10:
        return None
    test = ks_2samp(passing, failing, method="asymp")
    together = np.concatenate([passing, failing])
    place = np.searchsorted(np.quantile(together, np.linspace(0, 1, 11)[1:-1]), together)
    total = np.bincount(place, minlength=10).astype(np.float64)
    kept = np.bincount(place[: len(passing)], minlength=10).astype(np.float64)
    random = np.random.default_rng([seed, 31])
    draws = random.multivariate_hypergeometric(
        total.astype(np.int64), len(passing), size=n_permutations
    )
    by_chance = _jensen_shannon(draws.astype(np.float64), total - draws)
    return ShapeDistance(
        ks=float(test.statistic),
        ks_p=float(test.pvalue),
        js=float(_jensen_shannon(kept, total - kept)),
        js_95=float(np.quantile(by_chance, 0.95)),
    )


def _jensen_shannon(first: Floats, second: Floats) -> Floats:
    """In bits, of histograms along the last axis."""
    p, q = (values / values.sum(axis=-1, keepdims=True) for values in (first, second))
    middle = (p + q) / 2

    def divergence(shape: Floats) -> Floats:
        logarithm = np.log2(np.where(shape > 0, shape / middle, 1.0))
        total: Floats = (shape * logarithm).sum(axis=-1)
        return total

    return (divergence(p) + divergence(q)) / 2
