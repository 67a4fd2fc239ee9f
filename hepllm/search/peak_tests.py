"""Tests for a peak: its local significance, and the signal that a misfit of the background makes.

Both fit a peak of the shape of a narrow resonance at many masses over the range.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from hepllm.arrays import Floats, Ints
from hepllm.search.joint_model import JointModel
from hepllm.search.peak_shape import PeakShape
from hepllm.search.poisson import fit
from hepllm.search.region import MassRegion
from hepllm.search.resonance import RESOLUTION

_MARGIN = 2.0
"""Smallest distance of a mass from the ends of the m_jj range, in widths of the peak."""

_PER_WIDTH = 2.0
"""Masses in one width of the peak."""

_N_EXACT = 4
"""Local maxima of the linear significance at which a peak is fitted."""

_NOISE = 3.0
"""Standard deviations of a spurious signal that the events which measure it may make."""


@dataclass(frozen=True, eq=False)
class PeakShapes:
    """Shapes of a narrow resonance at M masses, of the response of simulated signal.

    Attributes:
        mass: (M,) in GeV.
        share: (M, B) share of the peak in each bin; sums to 1.
    """

    mass: Floats
    share: Floats

    @classmethod
    def over(cls, edges: Floats) -> PeakShapes:
        """Returns the shapes at masses well inside a range with edges (B + 1,) in GeV."""
        low, high = edges[0] / (1 - _MARGIN * RESOLUTION), edges[-1] / (1 + _MARGIN * RESOLUTION)
        number = int(np.ceil(np.log(high / low) / RESOLUTION * _PER_WIDTH)) + 1
        return cls.at(edges, np.geomspace(low, high, number))

    def within(self, region: MassRegion) -> PeakShapes:
        """Returns the shapes at masses in a region; the nearest where it has none."""
        inside = (self.mass >= region.low) & (self.mass <= region.high)
        if not inside.any():
            inside[np.abs(np.log(self.mass**2 / (region.low * region.high))).argmin()] = True
        return PeakShapes(self.mass[inside], self.share[inside])

    @classmethod
    def at(cls, edges: Floats, masses: Floats) -> PeakShapes:
        """Returns the shapes at given masses, shape (M,) in GeV."""
        shape = PeakShape.shipped()
        share = np.array([shape.shares(edges, float(mass)) for mass in masses])
        return cls(masses, share / share.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class LocalPeak:
    """The most significant peak of a spectrum.

    Attributes:
        mass: its mass in GeV.
        n_signal: its events.
        significance: square root of the profile likelihood ratio q0, standard deviations.
    """

    mass: float
    n_signal: float
    significance: float

    @property
    def p_value(self) -> float:
        """Probability of such a peak at this mass without a signal."""
        return float(norm.sf(self.significance))


@dataclass(frozen=True, eq=False)
class PeakScan:
    """Local significance of a peak at M masses, with all parameters profiled.

    Attributes:
        mass: (M,) in GeV.
        significance: (M,) square root of the profile likelihood ratio q0; 0 for a deficit.
    """

    mass: Floats
    significance: Floats


@dataclass(frozen=True, eq=False)
class SpuriousSignal:
    """The signal that the misfit of the background makes at M masses.

    Attributes:
        mass: (M,) in GeV.
        n_signal: (M,) events.
        error: (M,) standard deviation of the events of a peak in the selected events.
        noise: (M,) standard deviation of ``n_signal``.
    """

    mass: Floats
    n_signal: Floats
    error: Floats
    noise: Floats

    @property
    def beyond_noise(self) -> Floats:
        """Least size of the spurious signal over the error, shape (M,): beyond 3 of its own."""
        size = np.maximum(np.abs(self.n_signal) - _NOISE * self.noise, 0.0)
        return np.asarray(size / self.error)

    def systematic_at(self, mass: float) -> float:
        """Spurious events at a mass in GeV; 0 where their own error explains them."""
        place = int(np.abs(np.log(self.mass / mass)).argmin())
        return float(abs(self.n_signal[place])) if self.beyond_noise[place] > 0 else 0.0


def local_peak(
    model: JointModel,
    rejected: Floats,
    selected: Floats,
    edges: Floats,
    region: MassRegion | None = None,
) -> LocalPeak:
    """Finds the most significant peak of one selection, with all parameters profiled.

    Candidates are the largest local maxima of the score test; there, and between the neighbours of
    the best, the peak is fitted.

    Args:
        model: background of both spectra.
        rejected: (B,) events that fail the loosest selection.
        selected: (B,) events that pass the selection.
        edges: (B + 1,) in GeV.
        region: masses of the peak; None for the whole range.
    """
    counts = model.joined(rejected[None], selected[None])
    without = fit(counts, model.basis, model.offset).expected[0]
    scan = PeakShapes.over(edges)
    if region is not None:
        scan = scan.within(region)
    tests = _LinearPeaks.of(model.shapes(scan.share), without, model.basis)
    score = tests.size(counts[0] - without) / tests.error

    def fitted(masses: Floats) -> list[LocalPeak]:
        shapes = model.shapes(PeakShapes.at(edges, masses).share)
        fits = [model.fit_peak(counts, shape) for shape in shapes]
        return [
            LocalPeak(float(mass), float(size[0]), float(sigma[0]))
            for mass, (size, sigma) in zip(masses, fits, strict=True)
        ]

    first = max(fitted(scan.mass[_highest(score)]), key=lambda one: one.significance)
    near = first.mass * np.exp(np.linspace(-1, 1, 7) * RESOLUTION / _PER_WIDTH)
    inside = np.clip(near, scan.mass[0], scan.mass[-1])
    return max([first, *fitted(inside)], key=lambda one: one.significance)


def peak_scan(model: JointModel, rejected: Floats, selected: Floats, edges: Floats) -> PeakScan:
    """Fits a peak at each mass of the range; arguments as for ``local_peak``."""
    counts, shapes = model.joined(rejected[None], selected[None]), PeakShapes.over(edges)
    fits = [model.fit_peak(counts, shape) for shape in model.shapes(shapes.share)]
    return PeakScan(shapes.mass, np.array([float(sigma[0]) for _, sigma in fits]))


def _highest(values: Floats) -> Ints:
    """Places of the largest local maxima of values, shape (M,)."""
    padded = np.pad(values, 1, constant_values=-np.inf)
    maxima = np.flatnonzero((values >= padded[:-2]) & (values >= padded[2:]))
    return np.asarray(maxima[np.argsort(-values[maxima])[:_N_EXACT]])


def spurious_signal(
    rejected: Floats,
    fit_of_rejected: Floats,
    fit_of_selected: Floats,
    basis: Floats,
    edges: Floats,
) -> SpuriousSignal:
    """Fits a peak and the background to the rejected events, scaled to the selected ones.

    Such spectra have no signal and the statistics of a large sample; what a peak gets is due to
    the misfit of the background, and to a signal that fails the cut (ATLAS, arXiv:1207.7214,
    section 5.2). A fit that is linear in the small misfit is enough.

    Args:
        rejected: (B,) events that fail the loosest selection.
        fit_of_rejected: (B,) events of their fit.
        fit_of_selected: (B,) events of the fit of the selected events.
        basis: (B, P) columns of that fit.
        edges: (B + 1,) in GeV.
    """
    shapes = PeakShapes.over(edges)
    scale = fit_of_selected / np.maximum(fit_of_rejected, 1e-12)
    tests = _LinearPeaks.of(shapes.share, fit_of_selected, basis)
    return SpuriousSignal(
        mass=shapes.mass,
        n_signal=tests.size(scale * (rejected - fit_of_rejected)),
        error=tests.error,
        noise=np.sqrt(np.square(tests.weights) @ (scale**2 * fit_of_rejected)),
    )


@dataclass(frozen=True, eq=False)
class _LinearPeaks:
    """Fits of a peak and a background to a small difference of a spectrum from the background.

    Attributes:
        weights: (M, N) weights of the bins whose sum is the events of each peak.
        error: (M,) standard deviation of these events.
    """

    weights: Floats
    error: Floats

    @classmethod
    def of(cls, shapes: Floats, background: Floats, basis: Floats) -> _LinearPeaks:
        """Prepares peaks (M, N) over a background (N,) with free parameters of columns (N, P)."""
        information = basis.T @ (background[:, None] * basis)
        mixed = shapes @ basis
        taken = np.linalg.solve(information, mixed.T).T
        of_peak = np.square(shapes) @ (1 / background) - (mixed * taken).sum(axis=1)
        of_peak = np.maximum(of_peak, 1e-12)
        weights = (shapes / background - taken @ basis.T) / of_peak[:, None]
        return cls(weights, 1 / np.sqrt(of_peak))

    def size(self, difference: Floats) -> Floats:
        """Events of each peak, shape (M,), for a difference (N,)."""
        return np.asarray(self.weights @ difference)
