"""Lower bounds of a SIC from counted events, where too little background passes for an interval.

The number of background events that pass a cut is Poisson or binomial, however small it is. Their
share has the upper limit of Clopper and Pearson (Biometrika 26 (1934) 404), and so the SIC has a
lower bound. The uncertainty of the signal enters by its confidence distribution.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betaincc, betaincinv

from hepllm.arrays import Floats
from hepllm.evaluation.metrics import ROUNDING, Counts, RocCurve, WorkingPoint

_NODES = (np.arange(40) + 0.5) / 40
"""Probabilities at which the confidence distribution of the signal efficiency is taken."""

_STEPS = 36
_SMALLEST = 1e-9


def sic_bounds_at(curve: RocCurve, eps_s: Floats, confidence: float) -> Floats:
    """Computes lower bounds of the SIC at stated signal efficiencies.

    The cut with the true signal efficiency x is not known exactly: the share of the signal that
    passes it is binomial. The bound is the quantile of x / sqrt(eps_B) over the cuts that this
    leaves possible, each with the confidence distribution of its eps_B.

    Args:
        curve: curve of the sample.
        eps_s: (E,) signal efficiencies.
        confidence: probability that the bound lies below the SIC.

    Returns:
        Shape (E,); NaN where a class is missing.
    """
    if curve.reason is not None:
        return np.full(len(eps_s), np.nan)
    n_signal = curve.signal.total[-1]
    shares = eps_s[:, None]
    reached = betaincinv(
        shares * n_signal + 1, np.maximum((1 - shares) * n_signal, _SMALLEST), _NODES
    )
    rising = np.maximum.accumulate(curve.eps_s)  # with negative weights it may fall
    index = np.searchsorted(rising, np.minimum(reached, rising[-1]) * (1 - ROUNDING))
    return _lowest(np.broadcast_to(shares, index.shape), curve.background.at(index), confidence)


def sic_bound(point: WorkingPoint, confidence: float) -> float:
    """Computes the lower bound of the SIC at a cut that was chosen on other events.

    Args:
        point: the cut.
        confidence: probability that the bound lies below the SIC.

    Returns:
        The bound; NaN where there is no cut or no signal passes.
    """
    signal, background = point.signal, point.background
    if signal is None or background is None or not signal.passing > 0:
        return float("nan")
    n_passing, n_total = float(signal.passing), float(signal.total)
    reached = betaincinv(n_passing, max(n_total - n_passing, 0) + 1, _NODES)
    row = Counts(
        np.full((1, len(_NODES)), background.passing), np.full((1, len(_NODES)), background.total)
    )
    return float(_lowest(reached[None, :], row, confidence)[0])


def _lowest(eps_s: Floats, background: Counts, confidence: float) -> Floats:
    """Finds the quantile 1 - ``confidence`` of eps_S / sqrt(eps_B) in each row, by bisection.

    Args:
        eps_s: (E, M) equally probable signal efficiencies.
        background: (E, M) background events that pass at each of them.
        confidence: probability above the quantile.
    """
    rest = np.maximum(background.total - background.passing, _SMALLEST)
    low, high = np.full(len(eps_s), np.log(_SMALLEST)), np.full(len(eps_s), -np.log(_SMALLEST))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        eps_b = np.minimum(np.exp(2 * (np.log(eps_s) - middle[:, None])), 1)
        below = betaincc(background.passing + 1, rest, eps_b).mean(axis=1) < 1 - confidence
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray(np.exp(low), dtype=np.float64)
