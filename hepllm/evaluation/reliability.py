"""Probabilities against labels: reliability, calibration error, signal in the highest scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from hepllm.arrays import Bools, Floats, Ints
from hepllm.evaluation.efficiency import clopper_pearson
from hepllm.evaluation.scores import ScoredEvents
from hepllm.records import Events, Record

N_BINS = 15
TOP_SHARES = (0.1, 0.01, 0.001)
"""Groups of the highest scores, as shares of the events."""

_ONE_SIGMA = 0.6827
_N_PERFECT = 200


@dataclass(frozen=True, eq=False)
class Reliability:
    """Observed shares of signal in bins of equal size in probability.

    Attributes:
        predicted: (K,) mean probability of each bin.
        observed: (K,) share of signal.
        low: (K,) lower end of its 68 % interval (Clopper and Pearson, Biometrika 26 (1934) 404).
        high: (K,) upper end.
        ece: expected calibration error, the mean of |observed - predicted| over the events
            (Naeini et al., AAAI 2015, with bins of equal size).
        ece_if_perfect: its mean for as many events with exact probabilities, which is not 0.
    """

    predicted: Floats
    observed: Floats
    low: Floats
    high: Floats
    ece: float
    ece_if_perfect: float


class TopBin(Record):
    """The events of the highest scores."""

    share: float
    """Their share of all events."""
    n_events: Events
    """Their number."""
    expected: float
    """Signal by the sum of the probabilities."""
    observed: float
    """Signal by the labels, in the same signal:background ratio."""
    ratio: float | None
    """Observed over expected; null where nothing is expected."""
    low: float | None
    """Lower end of the 68 % Poisson interval of the ratio (Garwood, Biometrika 28 (1936) 437)."""
    high: float | None
    """Upper end of the 68 % Poisson interval of the ratio."""


def reliability(probability: Floats, is_signal: Bools, seed: int) -> Reliability:
    """Compares probabilities with labels.

    Args:
        probability: (N,) probabilities in the signal:background ratio of these events.
        is_signal: (N,) mask of the signal.
        seed: seed of the calibration error of perfect probabilities.
    """
    order = np.argsort(probability, kind="stable")
    bins = np.array_split(order, min(N_BINS, max(1, len(order))))
    predicted = np.array([probability[events].mean() for events in bins])
    n_events = np.array([len(events) for events in bins])

    def count(chosen: Bools) -> Ints:
        return np.array([np.count_nonzero(chosen[events]) for events in bins])

    n_signal = count(is_signal)
    ends = [
        clopper_pearson(int(one), int(total), _ONE_SIGMA)
        for one, total in zip(n_signal, n_events, strict=True)
    ]
    generator = np.random.default_rng([seed, 7])
    perfect = [
        _error(predicted, count(generator.random(len(order)) < probability) / n_events, n_events)
        for _ in range(_N_PERFECT)
    ]
    return Reliability(
        predicted=predicted,
        observed=n_signal / n_events,
        low=np.array([low for low, _ in ends]),
        high=np.array([high for _, high in ends]),
        ece=_error(predicted, n_signal / n_events, n_events),
        ece_if_perfect=float(np.mean(perfect)),
    )


def _error(predicted: Floats, observed: Floats, n_events: Ints) -> float:
    return float(np.average(np.abs(observed - predicted), weights=n_events))


def top_bins(probability: Floats, events: ScoredEvents, prior: float | None) -> list[TopBin]:
    """Compares observed with expected signal among the highest scores, which a search selects.

    Args:
        probability: (N,) probabilities at the signal fraction ``prior``.
        events: scores, which give the order, and labels.
        prior: signal fraction to which the classes are weighted; None for no weights.
    """
    is_signal = events.is_signal
    weight = np.ones(len(probability))
    if prior is not None:
        own = is_signal.mean()
        weight = np.where(is_signal, prior / own, (1 - prior) / (1 - own))
    order = np.argsort(-events.score, kind="stable")
    reached = np.cumsum(weight[order]) / weight.sum()
    bins = []
    for share in TOP_SHARES:
        chosen = order[: int(np.searchsorted(reached, share, side="right"))]
        if len(chosen):
            bins.append(_top_bin(share, probability[chosen], is_signal[chosen], weight[chosen]))
    return bins


def _top_bin(share: float, probability: Floats, is_signal: Bools, weight: Floats) -> TopBin:
    expected = float(np.sum(weight * probability))
    observed, n_signal = float(weight[is_signal].sum()), int(np.count_nonzero(is_signal))
    each = observed / n_signal if n_signal else float(weight.mean())
    tail = (1 - _ONE_SIGMA) / 2
    low = chi2.ppf(tail, 2 * n_signal) / 2 if n_signal else 0.0
    high = chi2.ppf(1 - tail, 2 * (n_signal + 1)) / 2
    ratio, below, above = (
        float(number / expected) if expected else None
        for number in (observed, each * low, each * high)
    )
    return TopBin(
        share=share,
        n_events=len(weight),
        expected=expected,
        observed=observed,
        ratio=ratio,
        low=below,
        high=above,
    )
