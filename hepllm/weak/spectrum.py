"""The m_jj spectrum of the sidebands, fitted smoothly and interpolated into the region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.polynomial.chebyshev import chebvander

from hepllm.arrays import Bools, Floats
from hepllm.errors import InputError
from hepllm.search.poisson import count_parameters, fit_sizes, orthonormal

_N_BINS = 60
"""Bins in log m_jj; the curvature of a dijet spectrum within one of them is negligible."""

_N_PARAMETERS = (2, 5)
"""Smallest and largest number of parameters of the logarithm of the spectrum."""

_PARAMETER_P = 0.05
"""p-value below which another parameter is added."""

_MIN_EVENTS = 100
"""Events on either side of the region: with fewer, an interpolation is a guess."""


class Window(Protocol):
    """A range of masses; every signal region is one."""

    @property
    def low(self) -> float:
        """Lower end in GeV, which belongs to the range."""
        ...

    @property
    def high(self) -> float:
        """Upper end in GeV, which does not."""
        ...


@dataclass(frozen=True, eq=False)
class RegionSpectrum:
    """The background's spectrum in a region as its sidebands predict it.

    Attributes:
        edges: (B + 1,) edges of the bins of the region in GeV.
        expected: (B,) background events per bin.
        n_parameters: parameters of the fit to the sidebands.
    """

    edges: Floats
    expected: Floats
    n_parameters: int

    def draw(self, count: int, generator: np.random.Generator) -> Floats:
        """Draws m_jj, shape (count,) in GeV; the spectrum is flat in log m_jj within a bin."""
        share = self.expected / self.expected.sum()
        place = generator.choice(len(share), count, p=share) + generator.random(count)
        log_edges = np.log(self.edges)
        return np.asarray(np.exp(np.interp(place, np.arange(len(log_edges)), log_edges)))


def in_region(m_jj: Floats, region: Window) -> Bools:
    """Whether events are inside, shape (N,)."""
    return np.asarray((m_jj >= region.low) & (m_jj < region.high))


def interpolate_spectrum(m_jj: Floats, region: Window) -> RegionSpectrum:
    """Fits the spectrum on both sides of a region and reads the fit inside.

    The logarithm of the spectrum is a polynomial in log m_jj of as many terms as the sidebands
    need, two to five: the dijet function (CDF, arXiv:0812.4036) without the kinematic limit. Events
    inside the region are not looked at.

    Args:
        m_jj: (N,) in GeV, above 0.
        region: the signal region.

    Raises:
        InputError: if the region is empty or fewer than 100 events are on either side of it.
    """
    low, high = region.low, region.high
    check_sidebands(m_jj, region)
    edges, inside = _edges(float(m_jj.min()), low, high, float(m_jj.max()))
    counts = np.histogram(m_jj, edges)[0].astype(np.float64)[None]
    centre = 0.5 * (np.log(edges[1:]) + np.log(edges[:-1]))
    scaled = np.interp(centre, [centre[0], centre[-1]], [-1.0, 1.0])
    basis = orthonormal(np.asarray(chebvander(scaled, _N_PARAMETERS[1] - 1)))
    offset = np.log(np.diff(edges))
    used = ~inside[None]
    sizes = count_parameters(
        counts, basis, offset, n_min=_N_PARAMETERS[0], parameter_p=_PARAMETER_P, used=used
    )
    fitted = fit_sizes(counts, basis, offset, sizes, used)
    if not fitted.converged[0]:
        raise InputError(
            f"the m_jj spectrum beside {low:g} to {high:g} GeV cannot be fitted by a smooth "
            "function; choose another region or a narrower range of m_jj"
        )
    bins = np.flatnonzero(inside)
    return RegionSpectrum(
        edges=edges[bins[0] : bins[-1] + 2],
        expected=fitted.expected[0, bins],
        n_parameters=int(sizes[0]),
    )


def check_sidebands(m_jj: Floats, region: Window) -> None:
    """Refuses masses that cannot be fitted and regions without sidebands.

    Raises:
        InputError: for masses that are no positive numbers, an empty region, or fewer than 100
            events on either side of it.
    """
    low, high = region.low, region.high
    bad = np.flatnonzero(~(np.isfinite(m_jj) & (m_jj > 0)))
    if len(bad):
        raise InputError(
            f"m_jj is no positive number in {len(bad)} rows, the first is {bad[0]}; leave them out"
        )
    if not 0 < low < high:
        raise InputError(f"the region from {low:g} to {high:g} GeV is empty")
    for side, count in (("below", (m_jj < low).sum()), ("above", (m_jj >= high).sum())):
        if count < _MIN_EVENTS:
            raise InputError(
                f"{count} events are {side} the region from {low:g} to {high:g} GeV, but a "
                f"template from its sidebands needs {_MIN_EVENTS} on either side; choose another "
                "region"
            )


def _edges(least: float, low: float, high: float, largest: float) -> tuple[Floats, Bools]:
    """Edges of bins in log m_jj, some of them the region's, and which bins are inside it."""
    ends = np.log([least, low, high, np.nextafter(largest, np.inf)])
    numbers = np.maximum(4, np.round(_N_BINS * np.diff(ends) / (ends[-1] - ends[0]))).astype(int)
    parts = [
        np.linspace(start, stop, number, endpoint=False)
        for start, stop, number in zip(ends[:-1], ends[1:], numbers, strict=True)
    ]
    edges = np.exp(np.concatenate([*parts, ends[-1:]]))
    edges[[0, numbers[0], numbers[0] + numbers[1], -1]] = least, low, high, np.exp(ends[-1])
    edges[-1] = max(edges[-1], largest)
    inside = np.repeat([False, True, False], numbers)
    return edges, inside
