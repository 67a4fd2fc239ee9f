"""The BumpHunter statistic: the least probable excess in any window of a histogram.

pyBumpHunter scans the data. Its own pseudo-experiments are drawn from, and compared to, one fixed
background, which ignores that a fit follows the fluctuations; so this module computes the same
statistic for whole batches of refitted histograms.
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
    """Windows of a scan: every ``narrowest`` to ``widest`` neighbouring bins.

    Attributes:
        narrowest: bins of the narrowest window.
        widest: bins of the widest window.
        first: first bin that a window may have.
        end: the one after the last that it may have; None: the end of the spectrum.
    """

    narrowest: int
    widest: int
    first: int = 0
    end: int | None = None

    def inside(self, n_bins: int) -> tuple[int, int]:
        """The first bin, and the one after the last, of the scanned part of a spectrum."""
        return self.first, n_bins if self.end is None else min(self.end, n_bins)

    def widths(self, n_bins: int) -> range:
        """Numbers of bins of a window, for a spectrum with ``n_bins``."""
        first, end = self.inside(n_bins)
        return range(self.narrowest, min(self.widest, end - first) + 1)


@dataclass(frozen=True, eq=False)
class Excesses:
    """The least probable excess of each of T histograms.

    Attributes:
        statistic: (T,) -log of its local p-value; 0 where nothing exceeds the background.
        start: (T,) first bin of its window.
        width: (T,) number of bins of its window.
    """

    statistic: Floats
    start: Ints
    width: Ints


@dataclass(frozen=True)
class Bump:
    """The least probable excess of the data.

    Attributes:
        start: first bin of its window.
        width: number of bins of its window.
        n_observed: events in the window.
        n_expected: events of the background fit in the window.
        local_p: Poisson probability of at least as many events in this window alone.
    """

    start: int
    width: int
    n_observed: int
    n_expected: float
    local_p: float


def scan_batch(counts: Floats, expected: Floats, windows: Windows) -> Excesses:
    """Scans T histograms, counts (T, B), each against its own positive background (T, B).

    Choudalakis, arXiv:1101.0390, with P(n >= d | b) of equation 9 as the local p-value.
    """
    seen, known = (
        np.pad(np.cumsum(events, axis=1), ((0, 0), (1, 0))) for events in (counts, expected)
    )
    first, end = windows.inside(counts.shape[1])
    seen, known = seen[:, first : end + 1], known[:, first : end + 1]
    best = np.zeros(len(counts))
    start = np.full(len(counts), first)
    width = np.full(len(counts), windows.narrowest)
    rows = np.arange(len(counts))
    for size in windows.widths(counts.shape[1]):
        observed, background = (one[:, size:] - one[:, :-size] for one in (seen, known))
        least, most = _bounds(observed, background)
        # The exact probability is needed only of windows that may be the least probable one.
        candidates = most > np.maximum(best, least.max(axis=1) - 1e-9)[:, None]
        surprise = np.zeros(observed.shape)
        surprise[candidates] = surprise_of(observed[candidates], background[candidates])
        place = surprise.argmax(axis=1)
        value = surprise[rows, place]
        better = value > best
        best[better], start[better], width[better] = value[better], first + place[better], size
    return Excesses(best, start, width)


def _bounds(observed: Floats, expected: Floats) -> tuple[Floats, Floats]:
    """Bounds -log P(n >= observed | expected) from below and above; 0 without an excess.

    With n = observed + k for k = 1, 2, ... the probability falls by expected / (observed + k). Sums
    of this series with a factor that is smaller or larger are the bounds, with n! between those of
    Robbins (Amer. Math. Monthly 62 (1955) 26).
    """
    least, most = np.zeros(observed.shape), np.zeros(observed.shape)
    excess = observed > expected
    seen, known = observed[excess], expected[excess]
    of_one = seen * np.log(seen / known) - (seen - known) + 0.5 * np.log(2 * np.pi * seen)
    ratio = known / (seen + 4)
    least[excess] = of_one + np.log1p(-known / (seen + 1))
    most[excess] = of_one + 1 / (12 * seen) - np.log1p(ratio * (1 + ratio * (1 + ratio)))
    return least, most


def surprise_of(observed: Floats, expected: Floats) -> Floats:
    """Computes -log P(n >= observed | expected) of excesses."""
    with np.errstate(divide="ignore"):
        logarithm = -np.log(gammainc(observed, expected))
    # Where the probability underflows, use its Gaussian tail in the signed root of the deviance.
    squared = 2 * (observed * np.log(observed / expected) - (observed - expected))
    tail = squared / 2 + 0.5 * np.log(2 * np.pi * np.maximum(squared, 1))
    return np.where(np.isfinite(logarithm), logarithm, tail)


def scan_data(counts: Floats, expected: Floats, edges: Floats, windows: Windows) -> Bump:
    """Scans counts (B,) with bin edges (B + 1,) against a positive background (B,)."""
    from pyBumpHunter import BumpHunter1D  # noqa: PLC0415 (imports pyplot)

    first, end = windows.inside(len(counts))
    hunter = BumpHunter1D(
        rang=[edges[first], edges[end]],
        bins=edges[first : end + 1],
        width_min=windows.narrowest,
        width_max=windows.widest,
        nworker=1,
    )
    # It prints on standard output, which is for results, and seeds the global generator.
    state = np.random.get_state()  # noqa: NPY002
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(divide="ignore"):
        part = slice(first, end)
        hunter.bump_scan(counts[part], expected[part], is_hist=True, do_pseudo=False)
    np.random.set_state(state)  # noqa: NPY002
    local_p = float(hunter.min_Pval_ar[0])
    start, width = first + int(hunter.min_loc_ar[0]), int(hunter.min_width_ar[0])
    if local_p == 0.0:  # underflow: pyBumpHunter reports its first window
        excess = scan_batch(counts[None], expected[None], windows)
        start, width = int(excess.start[0]), int(excess.width[0])
    inside = slice(start, start + width)
    return Bump(start, width, int(counts[inside].sum()), float(expected[inside].sum()), local_p)
