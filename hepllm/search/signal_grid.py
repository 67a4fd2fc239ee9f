"""Efficiency of cuts for simulated signal, as a function of its masses."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern

from hepllm.arrays import Floats, Ints
from hepllm.errors import InputError
from hepllm.search.measurements import SignalEfficiency
from hepllm.search.spectra import ScoreCut

_LENGTHS = (0.15, 100.0)
"""Range of the correlation lengths in the logarithm of a mass."""

_UNUSED = (1e4, 1.0001e4)
"""Range of the correlation length of a mass that a factor of the kernel does not depend on."""

_SIZES = (0.01, 100.0)
"""Range of the variance of the logit of an efficiency between masses."""

_MIN_POINTS = 8

_N_FACTORS = 21


@dataclass(frozen=True, eq=False)
class EfficiencyByMass:
    """The efficiency of a selection as a smooth function of the masses.

    The logit of the efficiencies of the points is a Gaussian process in the logarithms of the
    three masses (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapter 2)
    with the binomial error of each point as noise. Correlation lengths and size are those of the
    largest marginal likelihood. The error of a prediction is binomial near the points and grows
    with the distance from them. The process has one derivative in the mass of Z' (Matern, nu = 3/2)
    and none in the masses of the jets (nu = 1/2), because the efficiency of a classifier changes
    abruptly around the jet masses that it was trained on.

    Attributes:
        process: fitted process.
        middle: mean of the logits.
        n_events: events of all points.
        of: description of the signal.
    """

    process: GaussianProcessRegressor
    middle: float
    n_events: float
    of: str

    @classmethod
    def of_counts(
        cls,
        masses: Floats,
        passing: Ints,
        total: Ints,
        of: str,
        like: EfficiencyByMass | None = None,
    ) -> EfficiencyByMass:
        """Fits the efficiencies of K points.

        Args:
            masses: (K, 3) masses of Z', X and Y in GeV, X >= Y.
            passing: (K,) events that pass.
            total: (K,) events.
            of: description of the signal.
            like: a fit of a similar cut, whose correlation lengths and size are used again.
        """
        # Half an event on both sides keeps logit and error finite where all or none pass.
        values = np.log((passing + 0.5) / (total - passing + 0.5))
        noise = 1 / (passing + 0.5) + 1 / (total - passing + 0.5)
        middle = float(np.average(values, weights=1 / (noise + values.var())))
        kernel = _kernel()
        optimizer = "fmin_l_bfgs_b" if like is None else None
        kernel = kernel if like is None else like.process.kernel_
        process = GaussianProcessRegressor(kernel, alpha=noise, optimizer=optimizer)
        with warnings.catch_warnings():
            # A length at its limit is an efficiency that does not depend on a mass.
            warnings.simplefilter("ignore", ConvergenceWarning)
            process.fit(np.log(masses), values - middle)
        return cls(process, middle, float(total.sum()), of)

    def at(self, masses: Floats) -> list[SignalEfficiency]:
        """Returns the efficiencies for masses of Z', X and Y in GeV, shape (M, 3), X >= Y."""
        values, errors = self.process.predict(np.log(masses), return_std=True)
        values = values + self.middle
        return [
            SignalEfficiency(
                value=float(expit(value)),
                low=float(expit(value - error)),
                high=float(expit(value + error)),
                n_events=self.n_events,
                of=f"{self.of}, Z' {one[0]:.0f}, X {one[1]:.0f}, Y {one[2]:.0f} GeV",
            )
            for value, error, one in zip(values, errors, masses, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class SignalGrid:
    """Simulated signals of many masses that the classifier was not trained on.

    Attributes:
        score: (N,) scores of their events.
        m_jj: (N,) in GeV.
        masses: (N, 3) masses of Z', X and Y in GeV.
        points: (K, 3) masses of all points.
        triggering: (K,) events of each point that trigger, all of which were in the sample.
        generated: (K,) events generated for them.
        description: where the events come from.
    """

    score: Floats
    m_jj: Floats
    masses: Floats
    points: Floats
    triggering: Ints
    generated: Ints
    description: str

    def __post_init__(self) -> None:
        if len(self.points) < _MIN_POINTS:
            raise InputError(
                f"{self.description}: {len(self.points)} points of masses, fewer than the "
                f"{_MIN_POINTS} that an interpolation needs; use hepllm simulate --grid"
            )

    def covers(self, m_zprime: float) -> bool:
        """Whether a mass of Z' is within those of the points."""
        return bool(self.points[:, 0].min() <= m_zprime <= self.points[:, 0].max())

    def pairs_at(self, m_zprime: float) -> Floats:
        """The pairs of masses of X and Y, the heavier first, shape (P, 2), for a mass of Z'.

        These are all that occur in the grid and are, over the mass of Z', within its range.
        """
        pairs = np.unique(_ordered(self.points)[:, 1:], axis=0)
        largest = (self.points[:, 1:].max(axis=1) / self.points[:, 0]).max()
        return np.asarray(pairs[pairs[:, 0] <= largest * m_zprime])

    def efficiency(
        self,
        cut: ScoreCut,
        m_jj_range: tuple[float, float],
        like: EfficiencyByMass | None = None,
    ) -> EfficiencyByMass:
        """The share of the events that are in the m_jj range and pass a cut.

        ``like`` is the efficiency of a similar cut, whose correlation lengths are used again.
        """
        low, high = m_jj_range
        passes = (self.m_jj >= low) & (self.m_jj < high) & (self.score > cut.threshold)
        masses, place = np.unique(_ordered(self.masses), axis=0, return_inverse=True)
        place = place.ravel()
        passing = np.bincount(place, weights=passes).astype(np.int64)
        return EfficiencyByMass.of_counts(
            masses, passing, np.bincount(place), self.description, like
        )

    def trigger_efficiency(self) -> EfficiencyByMass:
        """The share of generated events that trigger."""
        return EfficiencyByMass.of_counts(
            _ordered(self.points), self.triggering, self.generated, self.description
        )


def _kernel() -> Kernel:
    z = Matern([1.0, *_UNUSED[:1] * 2], [_LENGTHS, _UNUSED, _UNUSED], nu=1.5)
    jets = Matern([_UNUSED[0], 1.0, 1.0], [_UNUSED, _LENGTHS, _LENGTHS], nu=0.5)
    return ConstantKernel(1.0, _SIZES) * z * jets


def _ordered(masses: Floats) -> Floats:
    """The masses with the heavier of X and Y before the lighter one, shape (N, 3)."""
    jets = np.sort(masses[:, 1:], axis=1)[:, ::-1]
    return np.column_stack([masses[:, 0], jets])


def factors_of(efficiency: SignalEfficiency | None) -> Floats:
    """Possible efficiencies over the best estimate, equally probable, as ``PeakTest`` needs them.

    The logit of an efficiency is Gaussian, with the two halves of the interval as its errors.
    """
    if efficiency is None:
        return np.ones(1)
    tiny = 1e-6
    value, low, high = (
        float(logit(np.clip(one, tiny, 1 - tiny)))
        for one in (efficiency.value, efficiency.low, efficiency.high)
    )
    z = norm.ppf((np.arange(_N_FACTORS) + 0.5) / _N_FACTORS)
    found = expit(value + np.where(z < 0, value - low, high - value) * z)
    return np.asarray(found / found[_N_FACTORS // 2])


def masses_at(m_zprime: Sequence[float], jets: tuple[float, float]) -> Floats:
    """Masses of Z', X and Y for each mass of Z', shape (M, 3)."""
    heavy, light = max(jets), min(jets)
    return np.array([(one, heavy, light) for one in m_zprime])
