"""Weights that give both classes the same m_jj spectrum, so that a training cannot use m_jj.

Planing (Chang, Cohen, Ostdiek, arXiv:1709.10106). What the features of background events tell of
m_jj remains: the classifier only gains nothing from it.
"""

from __future__ import annotations

import numpy as np

from hepllm.arrays import Floats, Labels
from hepllm.schema import BACKGROUND, SIGNAL

_MOST_BINS = 30
_PER_BIN = 50
_LARGEST = 20.0


def planing_factors(m_jj: Floats, label: Labels, weight: Floats) -> Floats:
    """Computes factors on event weights that give each class the spectrum of both together.

    The bins have equal contents, at least 50 events of the rarer class on average. No factor is
    larger than 20 times the mean of its class, and the total weight of a class is unchanged.

    Args:
        m_jj: (N,) in GeV; events without one (NaN) keep their weight.
        label: (N,) classes.
        weight: (N,) weights, of which negative ones count as 0 in spectra.

    Returns:
        Factors, shape (N,).
    """
    factors = np.ones(len(m_jj))
    counted, positive = np.isfinite(m_jj), np.clip(weight, 0, None)
    classes = [counted & (label == one) for one in (SIGNAL, BACKGROUND)]
    if any(positive[mine].sum() <= 0 for mine in classes):
        return factors
    rarer = min(int(np.count_nonzero(mine)) for mine in classes)
    n_bins = int(np.clip(rarer // _PER_BIN, 1, _MOST_BINS))
    both = np.concatenate([m_jj[mine] for mine in classes])
    inner = np.quantile(both, np.linspace(0, 1, n_bins + 1)[1:-1])
    place = np.searchsorted(inner, m_jj, side="right")
    spectra = [np.bincount(place[mine], positive[mine], n_bins) for mine in classes]
    shares = [spectrum / spectrum.sum() for spectrum in spectra]
    target = (shares[0] + shares[1]) / 2
    for mine, share in zip(classes, shares, strict=True):
        ratio = np.divide(target, share, out=np.ones(n_bins), where=share > 0)
        found = np.minimum(ratio, _LARGEST)[place[mine]]
        total = positive[mine].sum()
        factors[mine] = found * (total / (positive[mine] * found).sum())
    return factors
