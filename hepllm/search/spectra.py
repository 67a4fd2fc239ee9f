"""m_jj spectra of a box, of selected and of rejected events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import ks_2samp

from hepllm.arrays import Floats
from hepllm.evaluation.sculpting import jensen_shannon
from hepllm.search.records import ShapeDistance


@dataclass(frozen=True)
class ScoreCut:
    """A cut on the score that keeps a share of the events.

    Attributes:
        efficiency: requested share of the events in the m_jj range.
        threshold: events with a score above it pass.
        n_selected: events that pass.
    """

    efficiency: float
    threshold: float
    n_selected: int

    def is_tied(self, n_events: int) -> bool:
        """Whether it keeps less than 90 % of its share of the ``n_events`` in the m_jj range.

        Without equal scores, a cut loses at most one event by rounding.
        """
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


def bin_edges(low: float, high: float, width: float) -> Floats:
    """Divides a range in GeV into bins of equal width in log m_jj; returns their edges.

    ``width`` is that of a bin over its mass, adjusted so that the bins fill the range.
    """
    n_bins = max(1, round(np.log(high / low) / width))
    return np.geomspace(low, high, n_bins + 1)


def choose_cuts(scores: Floats, efficiencies: Sequence[float]) -> list[ScoreCut]:
    """Chooses thresholds on the scores, shape (N,), that keep the given shares of events.

    Events whose score equals the threshold fail.

    Returns:
        The cuts, from the loosest to the tightest.
    """
    chosen = []
    for efficiency in sorted(efficiencies, reverse=True):
        threshold = float(np.quantile(scores, 1 - efficiency, method="lower"))
        chosen.append(ScoreCut(efficiency, threshold, int((scores > threshold).sum())))
    return chosen


def make_spectra(
    m_jj: Floats, scores: Floats, cuts: Sequence[ScoreCut], edges: Floats
) -> BoxSpectra:
    """Histograms m_jj in GeV, shape (N,), by the scores of the events, shape (N,)."""
    passing = [scores > cut.threshold for cut in cuts]
    selected = [np.histogram(m_jj[mask], edges)[0] for mask in passing]
    rejected = np.histogram(m_jj[~passing[0]], edges)[0]
    return BoxSpectra(edges, rejected.astype(np.float64), np.array(selected, dtype=np.float64))


def shape_distance(
    passing: Floats, failing: Floats, seed: int, *, n_permutations: int = 500
) -> ShapeDistance | None:
    """Compares the masses of events that pass, shape (N,), and that fail a cut, shape (M,).

    Args:
        passing: m_jj of events that pass.
        failing: m_jj of events that fail.
        seed: seed of the random selections.
        n_permutations: number of random selections.

    Returns:
        The distance; None where fewer than 10 events pass or fail.
    """
    if min(len(passing), len(failing)) < 10:
        return None
    test = ks_2samp(passing, failing, method="asymp")
    together = np.concatenate([passing, failing])
    place = np.searchsorted(np.quantile(together, np.linspace(0, 1, 11)[1:-1]), together)
    total = np.bincount(place, minlength=10).astype(np.float64)
    kept = np.bincount(place[: len(passing)], minlength=10).astype(np.float64)
    random = np.random.default_rng([seed, 31])
    colours = total.astype(np.int64)
    draws = random.multivariate_hypergeometric(colours, len(passing), size=n_permutations)
    by_chance = jensen_shannon(draws.astype(np.float64), total - draws)
    return ShapeDistance(
        ks=float(test.statistic),
        ks_p=float(test.pvalue),
        js=float(jensen_shannon(kept, total - kept)),
        js_95=float(np.quantile(by_chance, 0.95)),
    )
