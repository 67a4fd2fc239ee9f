"""Estimates the signal fraction of events without labels from their scores.

The scores of the events are a mixture of those of the two classes, whose distributions are known
from the validation data, with the statistical errors of these. In bins of the score, the box, the
validation signal and the validation background are Poisson counts n, a and b with

    n ~ Poisson(f_s s + f_b t),   a ~ Poisson(s),   b ~ Poisson(t),
    f_s = N p / N_a,   f_b = N (1 - p) / N_b,

and the likelihood of the fraction p is maximised over all s and t (Barlow and Beeston, Comput.
Phys. Commun. 77 (1993) 219). Where few validation background events have high scores, their number
limits what can be known of p; an estimate from fixed distributions would hide that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import chi2

from hepllm.arrays import Floats
from hepllm.errors import InputError
from hepllm.evaluation.scores import ScoredEvents

ASSUMPTION = (
    "assumes that the scores of each class are distributed as in the validation data, which a "
    "signal or background of another kind violates"
)
"""The assumption of every estimate of a prior, printed with it."""

_BINS_PER_CLASS = 12
_FRACTIONS = np.concatenate([[0.0], np.geomspace(1e-6, 1 - 1e-6, 80)])
"""Fractions among which the search for the maximum starts."""
_N_BISECTIONS = 60


@dataclass(frozen=True)
class PriorEstimate:
    """An estimated signal fraction of ``n_events`` events.

    Attributes:
        fraction: the estimate.
        interval: lower and upper end of the profile likelihood's interval, within [0, 1]; it
            includes the statistical errors of the validation data.
        confidence: probability content of the interval.
        n_events: number of events.
    """

    fraction: float
    interval: tuple[float, float]
    confidence: float
    n_events: int

    @property
    def is_limit(self) -> bool:
        """Whether the interval includes a fraction of 0, so that only its upper end says much."""
        return self.interval[0] == 0


def estimate_prior(
    score: Floats, weight: Floats, validation: ScoredEvents, *, confidence: float
) -> PriorEstimate:
    """Estimates the signal fraction of events from their scores, calibrated or not.

    Args:
        score: (N,) scores.
        weight: (N,) weights, at least 0.
        validation: scores of events of known class, with weights of at least 0.
        confidence: probability content of the interval.

    Raises:
        InputError: without events of a kind, or for negative weights.
    """
    is_signal = validation.is_signal
    kinds = [(score, weight)]
    kinds += [(validation.score[of], validation.weight[of]) for of in (is_signal, ~is_signal)]
    if any((part < 0).any() or not part.sum() > 0 for _, part in kinds):
        raise InputError(
            "a prior is estimated from events and validation events of both classes, with weights "
            "of which none is negative and some are positive"
        )
    edges = _class_quantiles([validation.score[is_signal], validation.score[~is_signal]])
    counts = [_effective_counts(*kind, edges) for kind in kinds]

    def deviance(fraction: float) -> float:
        return profile_deviance(fraction, *counts)

    fraction, least = _minimise(deviance)
    critical = least + float(chi2.ppf(confidence, 1))
    return PriorEstimate(
        fraction=fraction,
        interval=(
            _crossing(deviance, critical, 0.0, fraction),
            _crossing(deviance, critical, 1.0, fraction),
        ),
        confidence=confidence,
        n_events=len(score),
    )


def profile_deviance(fraction: float, n: Floats, a: Floats, b: Floats) -> float:
    """Twice the negative log likelihood ratio of a fraction to a perfect description.

    Args:
        fraction: signal fraction p.
        n: (B,) counts of the events.
        a: (B,) counts of the validation signal.
        b: (B,) counts of the validation background.
    """
    f_s, f_b = n.sum() * fraction / a.sum(), n.sum() * (1 - fraction) / b.sum()
    s, t = expected_templates(f_s, f_b, n, a, b)
    pairs = ((n, f_s * s + f_b * t), (a, s), (b, t))
    return sum(_poisson_deviance(count, expected) for count, expected in pairs)


def expected_templates(
    f_s: float, f_b: float, n: Floats, a: Floats, b: Floats
) -> tuple[Floats, Floats]:
    """The expected validation counts s and t, each (B,), of the largest likelihood.

    With u = n / (f_s s + f_b t) - 1 the maximum has s = a / (1 - f_s u) and t = b / (1 - f_b u).
    u solves (1 + u) (f_s s + f_b t) = n, whose left side rises with u. In a bin without validation
    events of the class with the larger factor the left side may stay below n; the rest of the
    events is then of that class (Barlow and Beeston, section 5).
    """
    largest = max(f_s, f_b)
    low, high = np.full(len(n), -1.0), np.full(len(n), 1 / largest)

    def templates(u: Floats) -> tuple[Floats, Floats]:
        s, t = (
            np.divide(count, 1 - factor * u, out=np.zeros(len(n)), where=count > 0)
            for count, factor in ((a, f_s), (b, f_b))
        )
        return s, t

    for _ in range(_N_BISECTIONS):
        u = (low + high) / 2
        s, t = templates(u)
        is_below = (1 + u) * (f_s * s + f_b * t) < n
        low, high = np.where(is_below, u, low), np.where(is_below, high, u)
    s, t = templates(low)
    rest = np.maximum(n / np.maximum(1 + low, 1e-12) - (f_s * s + f_b * t), 0.0) / largest
    if f_s >= f_b:
        return s + np.where(a == 0, rest, 0.0), t
    return s, t + np.where(b == 0, rest, 0.0)


def _poisson_deviance(count: Floats, expected: Floats) -> float:
    ratio = np.divide(count, expected, out=np.ones_like(count), where=count > 0)
    return float(2 * np.sum(expected - count + count * np.log(ratio)))


def _class_quantiles(classes: list[Floats]) -> Floats:
    """Edges between which each class has a twelfth of its events, or fewer, from -inf to inf."""
    inner = np.linspace(0, 1, _BINS_PER_CLASS + 1)[1:-1]
    edges = np.unique(np.concatenate([np.quantile(score, inner) for score in classes]))
    return np.concatenate([[-np.inf], edges, [np.inf]])


def _effective_counts(score: Floats, weight: Floats, edges: Floats) -> Floats:
    """Sums of weights by bin, scaled so that their errors are those of counts."""
    sums = np.histogram(score, edges, weights=weight)[0].astype(np.float64)
    return np.asarray(sums * weight.sum() / np.square(weight).sum())


def _minimise(deviance: Callable[[float], float]) -> tuple[float, float]:
    """The fraction of the least deviance, and this deviance."""
    values = [deviance(fraction) for fraction in _FRACTIONS]
    place = int(np.argmin(values))
    bounds = _FRACTIONS[max(place - 1, 0)], _FRACTIONS[min(place + 1, len(values) - 1)]
    found = minimize_scalar(deviance, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    if found.fun < values[place]:
        return float(found.x), float(found.fun)
    return float(_FRACTIONS[place]), float(values[place])


def _crossing(
    deviance: Callable[[float], float], critical: float, end: float, best: float
) -> float:
    """Where the deviance reaches a value between its minimum and an end of [0, 1]; else the end."""
    if end == best or deviance(end) <= critical:
        return end
    return float(brentq(lambda fraction: deviance(fraction) - critical, *sorted((end, best))))
