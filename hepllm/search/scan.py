"""The BumpHunter statistic: the least probable excess of all windows of a histogram.

The data are scanned by pyBumpHunter. Its own pseudo-experiments are drawn from, and compared to,
one fixed background, which would leave out that a fit follows the fluctuations; so the same
statistic is computed here for whole batches of refitted histograms.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

import numpy as np
from scipy.special import gammainc

from hepllm.arrays import Floats, Ints


@dataclass(frozen=True)
class Windows:
    """Windows that are tried: each run of ``narrowest`` to ``widest`` neighbouring bins."""

    narrowest: int
    widest: int


@dataclass(frozen=True, eq=False)
class Excesses:
    """The least probable excess of each of T histograms.

    Attributes:
        statistic: (T,) -log of its local p-value; 0 where nothing exceeds the background.
        start: (T,) first bin of its window.
        width: (T,) its number of bins.
    """

    statistic: Floats
    start: Ints
    width: Ints


@dataclass(frozen=True)
class Bump:
    """The least probable excess of the data.

    Attributes:
        start: first bin of its window.
        width: its number of bins.
        n_observed: events in it.
        n_expected: events of the background fit in it.
        local_p: Poisson probability of at least as many events in this very window.
    """

    start: int
    width: int
    n_observed: int
    n_expected: float
    local_p: float


def scan_batch(counts: Floats, expected: Floats, windows: Windows) -> Excesses:
    """Scans T histograms, each against its own background.

    Choudalakis, arXiv:1101.0390, with P(n >= d | b) of equation 9 as the local p-value.

    Args:
        counts: (T, B) events.
        expected: (T, B) of the background, positive.
        windows: to try.
    """
    zeros = np.zeros((len(counts), 1))
    seen = np.concatenate([zeros, np.cumsum(counts, axis=1)], axis=1)
    known = np.concatenate([zeros, np.cumsum(expected, axis=1)], axis=1)
    best = np.zeros(len(counts))
    start = np.zeros(len(counts), dtype=np.int64)
    width = np.full(len(counts), windows.narrowest)
    rows = np.arange(len(counts))
    for size in range(windows.narrowest, min(windows.widest, counts.shape[1]) + 1):
        surprise = _surprise(seen[:, size:] - seen[:, :-size], known[:, size:] - known[:, :-size])
        place = surprise.argmax(axis=1)
        value = surprise[rows, place]
        better = value > best
        best[better], start[better], width[better] = value[better], place[better], size
    return Excesses(best, start, width)


def _surprise(observed: Floats, expected: Floats) -> Floats:
    """-log P(n >= observed | expected) where there is an excess, else 0."""
    surprise = np.zeros(observed.shape)
    excess = observed > expected
    seen, known = observed[excess], expected[excess]
    with np.errstate(divide="ignore"):
        logarithm = -np.log(gammainc(seen, known))
    # Where the probability underflows, its Gaussian tail in the signed root of the deviance.
    squared = 2 * (seen * np.log(seen / known) - (seen - known))
    tail = squared / 2 + 0.5 * np.log(2 * np.pi * np.maximum(squared, 1))
    surprise[excess] = np.where(np.isfinite(logarithm), logarithm, tail)
    return surprise


def scan_data(counts: Floats, expected: Floats, edges: Floats, windows: Windows) -> Bump:
    """Scans one histogram with pyBumpHunter.

    Args:
        counts: (B,) events.
        expected: (B,) of the background, positive.
        edges: (B + 1,) of the bins.
        windows: to try.
    """
    from pyBumpHunter import BumpHunter1D  # noqa: PLC0415 (brings pyplot in)

    hunter = BumpHunter1D(
        rang=[edges[0], edges[-1]],
        bins=edges,
        width_min=windows.narrowest,
        width_max=windows.widest,
        nworker=1,
    )
    # It reports on standard output, which belongs to results, and seeds the global generator.
    state = np.random.get_state()  # noqa: NPY002
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(divide="ignore"):
        hunter.bump_scan(counts, expected, is_hist=True, do_pseudo=False)
    np.random.set_state(state)  # noqa: NPY002
    local_p = float(hunter.min_Pval_ar[0])
    start, width = int(hunter.min_loc_ar[0]), int(hunter.min_width_ar[0])
    if local_p == 0.0:  # underflow, where its first window would win
        excess = scan_batch(counts[None], expected[None], windows)
        start, width = int(excess.start[0]), int(excess.width[0])
    inside = slice(start, start + width)
    return Bump(start, width, int(counts[inside].sum()), float(expected[inside].sum()), local_p)
