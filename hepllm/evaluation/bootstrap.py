"""Bootstrap uncertainties of AUC and SIC, paired between scores of the same events.

Each replica draws as many signal and as many background events as the sample has, with replacement
(Efron, Ann. Statist. 7 (1979) 1). All scores use the same draws, so that the difference of two
scores has the uncertainty of a paired comparison. Intervals are percentiles of the replicas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Floats
from hepllm.evaluation.crossfit import CrossFit
from hepllm.evaluation.metrics import ROUNDING
from hepllm.evaluation.scores import ScoredEvents
from hepllm.records import Pair


@dataclass(frozen=True)
class Interval:
    """A central bootstrap interval.

    Attributes:
        pair: lower and upper end; None where the interval is undefined.
        n_undefined: number of replicas in which the metric is undefined (no background passes).
        reason: why the interval is undefined; None otherwise.
    """

    pair: Pair | None
    n_undefined: int = 0
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Replicas:
    """Metrics of one score in R replicas; NaN where a metric is undefined in a replica.

    Attributes:
        auc: (R,).
        eps_s: (R, K) signal efficiencies at the K fixed thresholds.
        eps_b: (R, K) background efficiencies at these thresholds.
        accuracy: (R, K) share of the weights on the right side of the K fixed thresholds.
        eps_s_at: (R, E) reached signal efficiencies, each at least the stated one.
        eps_b_at: (R, E) background efficiencies at the same cuts.
        max_eps_s: (R,) signal efficiencies at the cuts of the largest SIC, chosen anew each time.
        max_eps_b: (R,) background efficiencies at the same cuts.
    """

    auc: Floats
    eps_s: Floats
    eps_b: Floats
    accuracy: Floats
    eps_s_at: Floats
    eps_b_at: Floats
    max_eps_s: Floats
    max_eps_b: Floats

    def max_sic(self) -> Floats:
        """The largest SIC in each replica, shape (R,)."""
        return _sic_of(self.max_eps_s, self.max_eps_b)

    def sic(self, index: int) -> Floats:
        """SIC in each replica at one of the fixed thresholds, shape (R,)."""
        return _sic_of(self.eps_s[:, index], self.eps_b[:, index])

    def sic_at(self) -> Floats:
        """SIC in each replica at each stated signal efficiency, shape (R, E)."""
        return _sic_of(self.eps_s_at, self.eps_b_at)

    def rejection_at(self) -> Floats:
        """1 / eps_b in each replica at each stated signal efficiency, shape (R, E)."""
        return _sic_of(np.ones_like(self.eps_b_at), self.eps_b_at) ** 2


def _sic_of(eps_s: Floats, eps_b: Floats) -> Floats:
    """eps_s / sqrt(eps_b), NaN where no background passes."""
    defined = eps_b > 0
    return np.where(defined, eps_s / np.sqrt(np.where(defined, eps_b, 1.0)), np.nan)


@dataclass(frozen=True, eq=False)
class _Ranking:
    """The order of the events of one score, which gives the metrics of any weights quickly.

    Sums of background weights are needed only at P places in the order of the scores: those of the
    signal scores and of the fixed thresholds. Sums between places do not depend on the order of the
    events, so that a million background events cost little.

    Attributes:
        signal: order of the signal events, falling in score.
        background: (B,) for each background event, the first place behind it; P for none. A place
            is a number of events: those with the largest scores.
        n_places: P.
        above: (S,) for each signal event in order, the place behind background events with a higher
            score.
        reached: (S,) the place behind background events with at least that score.
        group_end: (D,) number of signal events at or above each distinct signal score.
        cut_signal: (K,) signal events that pass each fixed threshold.
        cut_background: (K,) the place behind background events that pass it.
    """

    signal: NDArray[np.intp]
    background: NDArray[np.intp]
    n_places: int
    above: NDArray[np.intp]
    reached: NDArray[np.intp]
    group_end: NDArray[np.intp]
    cut_signal: NDArray[np.intp]
    cut_background: NDArray[np.intp]


def bootstrap(
    samples: Mapping[str, ScoredEvents],
    thresholds: Mapping[str, Sequence[float]],
    eps_s: Sequence[float],
    n_replicas: int,
    seed: int,
    *,
    largest: Sequence[CrossFit] = (),
) -> dict[str, Replicas]:
    """Draws the same replicas for all scores, and measures each score in each of them.

    Args:
        samples: scores of the same events by name, with equal labels and weights.
        thresholds: K fixed cuts by name of the score.
        eps_s: E signal efficiencies.
        n_replicas: number of replicas R.
        seed: seed of the draws.
        largest: choose the cuts of the largest SIC, each of some of the scores.

    Returns:
        Replicas by name of the score; all NaN where a class is missing or cannot be normalised.
    """
    first = next(iter(samples.values()))
    weight_s, weight_b = first.weight[first.is_signal], first.weight[~first.is_signal]
    n_s, n_b = len(weight_s), len(weight_b)
    replicas = {name: _empty(n_replicas, len(thresholds[name]), len(eps_s)) for name in samples}
    if first.problem is not None:
        return replicas
    rankings = {name: _rank(events, thresholds[name]) for name, events in samples.items()}
    targets = np.asarray(eps_s, dtype=np.float64) * (1 - ROUNDING)
    generator = np.random.default_rng(seed)
    for replica in range(n_replicas):
        drawn_s = np.bincount(generator.integers(n_s, size=n_s), minlength=n_s) * weight_s
        drawn_b = np.bincount(generator.integers(n_b, size=n_b), minlength=n_b) * weight_b
        if drawn_s.sum() <= 0 or drawn_b.sum() <= 0:
            continue  # possible with negative weights; the replica remains undefined
        for name, ranking in rankings.items():
            _measure(ranking, drawn_s, drawn_b, targets, into=replicas[name], row=replica)
        for one in largest:
            for name, found in one.draw(drawn_s, drawn_b).items():
                replicas[name].max_eps_s[replica], replicas[name].max_eps_b[replica] = found
    return replicas


def interval(values: Floats, confidence: float, max_undefined: float) -> Interval:
    """Computes the central percentile interval of replicas.

    Args:
        values: (R,) replicas; NaN where the metric is undefined.
        confidence: probability content of the interval.
        max_undefined: largest share of undefined replicas for which there is an interval.
    """
    defined = values[np.isfinite(values)]
    n_undefined = len(values) - len(defined)
    if not len(defined) or n_undefined > max_undefined * len(values):
        reason = f"undefined in {n_undefined} of {len(values)} bootstrap replicas"
        return Interval(None, n_undefined, reason)
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval((float(low), float(high)), n_undefined)


def _rank(events: ScoredEvents, thresholds: Sequence[float]) -> _Ranking:
    score_s, score_b = events.score[events.is_signal], events.score[~events.is_signal]
    signal = np.argsort(-score_s, kind="stable")
    background = np.argsort(-score_b, kind="stable")
    falling_s, falling_b = -score_s[signal], -score_b[background]
    cuts = -np.asarray(thresholds, dtype=np.float64)
    above = np.searchsorted(falling_b, falling_s, side="left")
    reached = np.searchsorted(falling_b, falling_s, side="right")
    cut_background = np.searchsorted(falling_b, cuts, side="right")
    places = np.unique(np.concatenate([above, reached, cut_background]))
    before = np.empty(len(background), dtype=np.intp)
    before[background] = np.searchsorted(places, np.arange(len(background)), side="right")
    return _Ranking(
        signal=signal,
        background=before,
        n_places=len(places),
        above=np.searchsorted(places, above),
        reached=np.searchsorted(places, reached),
        group_end=np.append(np.flatnonzero(np.diff(falling_s)), len(signal) - 1) + 1,
        cut_signal=np.searchsorted(falling_s, cuts, side="right"),
        cut_background=np.searchsorted(places, cut_background),
    )


def _empty(n_replicas: int, n_thresholds: int, n_efficiencies: int) -> Replicas:
    at_cuts, at_efficiencies = (n_replicas, n_thresholds), (n_replicas, n_efficiencies)
    alone = (n_replicas,)
    shapes = (alone, at_cuts, at_cuts, at_cuts, at_efficiencies, at_efficiencies, alone, alone)
    return Replicas(*(np.full(shape, np.nan) for shape in shapes))


def _measure(
    ranking: _Ranking,
    weight_s: Floats,
    weight_b: Floats,
    targets: Floats,
    *,
    into: Replicas,
    row: int,
) -> None:
    """Fills one row of the replicas of one score."""
    ordered_s = weight_s[ranking.signal]
    passing_s = np.concatenate(([0.0], np.cumsum(ordered_s)))
    between = np.bincount(ranking.background, weight_b, minlength=ranking.n_places + 1)
    passing_b = np.cumsum(between)
    total_s, total_b = passing_s[-1], passing_b[-1]

    ahead = (passing_b[ranking.above] + passing_b[ranking.reached]) / 2
    into.auc[row] = 1 - np.sum(ordered_s * ahead) / (total_s * total_b)

    kept_s, kept_b = passing_s[ranking.cut_signal], passing_b[ranking.cut_background]
    into.eps_s[row] = kept_s / total_s
    into.eps_b[row] = kept_b / total_b
    into.accuracy[row] = (kept_s + total_b - kept_b) / (total_s + total_b)

    # A cut first reaches an efficiency at a signal score; the running maximum finds the first one
    # also with negative weights.
    reached_s = passing_s[ranking.group_end] / total_s
    group = np.searchsorted(np.maximum.accumulate(reached_s), targets, side="left")
    into.eps_s_at[row] = reached_s[group]
    into.eps_b_at[row] = passing_b[ranking.reached[ranking.group_end[group] - 1]] / total_b
