"""Jet masses of an excess: the spectrum in its window minus that of the side-bands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from hepllm.arrays import Floats
from hepllm.search.records import Measurement

_LOW, _HIGH, _STEP = 10.0, 3000.0, 0.01
_BANDWIDTH = 0.1
_MIN_EXCESS = 5.0
_MERGED = 10
"""Fine bins in each bin of the histograms that are shown."""


@dataclass(frozen=True, eq=False)
class JetMass:
    """The mass of one jet in the events of an excess.

    Attributes:
        peak: most frequent mass in GeV; None where there are too few events.
        edges: (K + 1,) bin edges in GeV.
        window: (K,) events in the window of the excess.
        background: (K,) background events there, as predicted from the side-bands.
    """

    peak: Measurement | None
    edges: Floats
    window: Floats
    background: Floats


def excess_mass(
    in_window: Floats,
    in_sidebands: Floats,
    n_background: float,
    seed: int,
    *,
    n_replicas: int = 500,
) -> JetMass:
    """Subtracts the side-bands and finds the peak of the rest.

    The difference in log mass is smoothed with a Gaussian of 0.1, about the resolution of a jet's
    mass; its highest point is the peak. The interval contains 68 % of the peaks of replicas, in
    which both histograms are drawn again (Poisson).

    Events without a jet mass are left out, and as large a share of the expected background.

    Args:
        in_window: (N,) jet masses in GeV of events near the resonance; NaN where not known.
        in_sidebands: (M,) jet masses in GeV of events away from it; NaN where not known.
        n_background: background events expected in the window.
        seed: seed of the replicas.
        n_replicas: number of replicas.
    """
    n_all = len(in_sidebands)
    in_window, in_sidebands = (one[~np.isnan(one)] for one in (in_window, in_sidebands))
    n_background *= len(in_sidebands) / max(n_all, 1)
    n_bins = round(np.log(_HIGH / _LOW) / _STEP)
    edges = np.geomspace(_LOW, _HIGH, n_bins + 1)
    window, sidebands = (
        np.histogram(np.clip(masses, _LOW, _HIGH), edges)[0].astype(np.float64)
        for masses in (in_window, in_sidebands)
    )
    scale = n_background / max(len(in_sidebands), 1)
    found = None
    if len(in_sidebands) and len(in_window) - n_background >= _MIN_EXCESS:
        random = np.random.default_rng([seed, 33])
        shape = (n_replicas, n_bins)
        drawn = random.poisson(window, shape) - scale * random.poisson(sidebands, shape)
        low, high = np.quantile(_highest(drawn, edges), [0.16, 0.84])
        value = float(_highest((window - scale * sidebands)[None], edges)[0])
        below, above = max(value - float(low), 0.0), max(float(high) - value, 0.0)
        found = Measurement(value=value, below=below, above=above, method="bootstrap")
    return JetMass(found, edges[::_MERGED], _merge(window), scale * _merge(sidebands))


def _merge(counts: Floats) -> Floats:
    whole = counts[: len(counts) // _MERGED * _MERGED]
    return np.asarray(whole.reshape(-1, _MERGED).sum(axis=1))


def _highest(difference: Floats, edges: Floats) -> Floats:
    """Returns the masses where smoothed differences, shape (T, K), are highest, shape (T,)."""
    smoothed = gaussian_filter1d(difference, _BANDWIDTH / _STEP, axis=1, mode="constant")
    place = np.clip(smoothed.argmax(axis=1), 1, smoothed.shape[1] - 2)
    left, top, right = (smoothed[np.arange(len(place)), place + step] for step in (-1, 0, 1))
    curvature = left - 2 * top + right
    # The vertex of the parabola through the three highest points.
    shift = np.divide((left - right) / 2, curvature, out=np.zeros(len(place)), where=curvature < 0)
    width = np.log(edges[1] / edges[0])
    centres = np.log(edges[place]) + width / 2
    return np.asarray(np.exp(centres + width * np.clip(shift, -1, 1)))
