"""The share of events that passes a cut, with its interval."""

from __future__ import annotations

import numpy as np
from scipy.stats import beta

from hepllm.arrays import Bools, Floats
from hepllm.records import Events, Pair, Record


class Efficiency(Record):
    """The share of events that passes a cut."""

    value: float
    """Share of the sum of weights."""
    interval: Pair
    """Clopper-Pearson interval [low, high]."""
    n_passing: Events
    """Events that pass, without weights."""
    n_events: Events
    """Events, without weights."""


def clopper_pearson(
    n_passing: float, n_events: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Computes the interval of a share (Clopper and Pearson, Biometrika 26 (1934) 404).

    Args:
        n_passing: events that pass.
        n_events: all events; neither need be whole, as effective numbers are not.
        confidence: probability content of the interval, half of the rest on either side.

    Returns:
        Its ends; 0 where no event passes and 1 where all do.
    """
    tail = (1 - confidence) / 2
    low, high = 0.0, 1.0
    if n_passing > 0:
        low = float(beta.ppf(tail, n_passing, n_events - n_passing + 1))
    if n_passing < n_events:
        high = float(beta.ppf(1 - tail, n_passing + 1, n_events - n_passing))
    return low, high


def efficiency(passes: Bools, weight: Floats, confidence: float) -> Efficiency | None:
    """Computes the efficiency with its Clopper-Pearson interval.

    With weights, the interval is that of (sum w)^2 / sum w^2 events.

    Args:
        passes: (N,) mask of the events of one class that pass.
        weight: (N,) weights.
        confidence: probability content of the interval.

    Returns:
        The efficiency; None where the weights do not sum to a positive number.
    """
    total = float(weight.sum())
    if total <= 0:
        return None
    n_effective = total**2 / float(np.square(weight).sum())
    value = float(weight[passes].sum()) / total
    n_passing = float(np.clip(value, 0, 1)) * n_effective
    return Efficiency(
        value=value,
        interval=clopper_pearson(n_passing, n_effective, confidence),
        n_passing=int(np.count_nonzero(passes)),
        n_events=len(passes),
    )


def efficiencies(
    passes: Bools, is_signal: Bools, weight: Floats, confidence: float
) -> dict[str, Efficiency | None]:
    """Computes ``eps_s`` and ``eps_b`` of the cut on events of known class."""
    return {
        name: efficiency(passes[chosen], weight[chosen], confidence)
        for name, chosen in (("eps_s", is_signal), ("eps_b", ~is_signal))
    }
