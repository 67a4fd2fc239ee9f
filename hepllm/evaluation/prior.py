"""Estimates the signal fraction of events without labels from their calibrated scores.

The fixed point of the EM algorithm of Saerens, Latinne and Decaestecker (Neural Computation 14
(2002) 21) is the maximum of the likelihood of the fraction p,

    log L(p) = sum_i log(p r_i + 1 - p),   r_i = p(score_i | signal) / p(score_i | background),

which is concave in p and therefore found by bisection. It assumes that each class has the same
distribution of the score as in the validation data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats
from hepllm.errors import InputError
from hepllm.evaluation.bootstrap import Interval, interval
from hepllm.evaluation.calibration import Calibration, fit_calibration, logit
from hepllm.evaluation.scores import ScoredEvents

ASSUMPTION = (
    "assumes that the scores of each class are distributed as in the validation data, which a "
    "signal or background of another kind violates"
)
"""The assumption of every estimate of a prior, printed with it."""

N_REPLICAS = 200

_N_BINS = 4096
_MAX_LOG_RATIO = 30.0
_N_BISECTIONS = 60


@dataclass(frozen=True)
class PriorEstimate:
    """An estimated signal fraction of ``n_events`` events.

    Attributes:
        fraction: the estimate.
        interval: from replicas of the events and of the validation data, so that it includes the
            uncertainty of the calibration.
        confidence: probability content of the interval.
        n_events: number of events.
    """

    fraction: float
    interval: Interval
    confidence: float
    n_events: int


def maximum_likelihood_fraction(log_ratio: Floats, count: Floats) -> float:
    """Finds the signal fraction in [0, 1] of the largest likelihood.

    Args:
        log_ratio: (B,) log p(score | signal) - log p(score | background).
        count: (B,) numbers of events with this ratio, at least 0.
    """
    excess = np.expm1(np.clip(log_ratio, -_MAX_LOG_RATIO, _MAX_LOG_RATIO))

    def slope(fraction: float) -> float:
        return float(np.sum(count * excess / (1 + fraction * excess)))

    low, high = 0.0, 1.0
    if slope(low) <= 0:
        return low
    if slope(high) >= 0:
        return high
    for _ in range(_N_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return (low + high) / 2


def estimate_prior(
    score: Floats,
    weight: Floats,
    validation: ScoredEvents,
    calibration: Calibration,
    *,
    confidence: float,
    seed: int,
) -> PriorEstimate:
    """Estimates the signal fraction of events from their scores.

    Args:
        score: (N,) uncalibrated scores.
        weight: (N,) weights, at least 0.
        validation: scores that the calibration was fitted to; it is fitted again in each replica.
        calibration: calibration by a method other than ``none``, whose logits are no likelihood
            ratios.
        confidence: probability content of the interval.
        seed: seed of the replicas.

    Raises:
        InputError: without events or calibration, or for negative weights.
    """
    if calibration.method == "none" or not len(score) or (weight < 0).any():
        raise InputError(
            "a prior can be estimated from calibrated scores of events without negative weights"
        )
    places, count = _binned(score, np.ones(len(score)))
    sums = _binned(score, weight)[1]
    share = np.divide(sums, count, out=np.zeros_like(sums), where=count > 0)
    generator = np.random.default_rng([seed, 6])
    fractions = np.empty(N_REPLICAS)
    for replica in range(N_REPLICAS):
        drawn: Floats = share * generator.multinomial(len(score), count / count.sum())
        fitted = _refit(validation, calibration, generator)
        fractions[replica] = np.nan if fitted is None else _fraction(fitted, places, drawn)
    return PriorEstimate(
        fraction=_fraction(calibration, places, sums),
        interval=interval(fractions, confidence, max_undefined=0.05),
        confidence=confidence,
        n_events=len(score),
    )


def _fraction(calibration: Calibration, places: Floats, count: Floats) -> float:
    log_ratio = calibration.logits(places) - logit(calibration.prior)
    return maximum_likelihood_fraction(log_ratio, count)


def _refit(
    validation: ScoredEvents, calibration: Calibration, generator: np.random.Generator
) -> Calibration | None:
    """Fits the calibration to a bootstrap replica of its events; None where the fit fails."""
    is_signal = validation.is_signal
    drawn = [
        generator.choice(events, len(events))
        for events in (np.flatnonzero(is_signal), np.flatnonzero(~is_signal))
    ]
    again = validation.take(np.concatenate(drawn))
    try:
        return fit_calibration(again, calibration.method, calibration.prior)
    except InputError:
        return None


def _binned(score: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Centres and contents of bins so narrow that their width does not matter."""
    count, edges = np.histogram(score, _N_BINS, weights=weight)
    centres: Floats = (edges[1:] + edges[:-1]) / 2
    return centres, count.astype(np.float64)
