"""SIC and rejection curves of one sample, recorded so that reports can draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats
from hepllm.evaluation.censoring import censored_percentiles
from hepllm.evaluation.sculpting_records import SpectraRecord
from hepllm.records import Events, FileRecord, Quantity, Record

_PERCENTILES = (16, 50, 84)


@dataclass(frozen=True, eq=False)
class Band:
    """A curve against the signal efficiency, with its interval; NaN where undefined.

    Attributes:
        eps_s: (E,) signal efficiencies.
        value: (E,) the curve.
        low: (E,) lower end of the interval.
        high: (E,) upper end of the interval; infinite where it is open.
        lower_bound: (E,) one-sided lower bound where the curve has no value; NaN elsewhere.
    """

    eps_s: Floats
    value: Floats
    low: Floats
    high: Floats
    lower_bound: Floats


@dataclass(frozen=True, eq=False)
class Curves:
    """The curves of one classifier as arrays.

    Attributes:
        role: as in ``ClassifierCurves``.
        sic: SIC.
        rejection: background rejection 1 / eps_b.
    """

    role: str
    sic: Band
    rejection: Band


class CurveRecord(Quantity):
    """A curve against the signal efficiency; null where too little background passes."""

    value: tuple[float | None, ...]
    """The curve."""
    low: tuple[float | None, ...]
    """Lower end of its bootstrap interval at each signal efficiency."""
    high: tuple[float | None, ...]
    """Upper end of its bootstrap interval at each signal efficiency."""
    lower_bound: tuple[float | None, ...] = ()
    """One-sided lower bound of the same confidence, where the curve is null and null elsewhere."""

    def band(self, eps_s: Sequence[float]) -> Band:
        """The curve as arrays, at these signal efficiencies."""
        bounds = self.lower_bound or (None,) * len(eps_s)
        parts = (eps_s, self.value, self.low, self.high, bounds)
        return Band(*(np.array(part, dtype=np.float64) for part in parts))


class ClassifierCurves(Record):
    """The curves of one classifier."""

    role: str
    """Role: llm for the evaluated model, baseline, retrained or ablation."""
    eps_s: tuple[float, ...]
    """The signal efficiencies of all curves."""
    sic: CurveRecord
    """Significance improvement eps_S / sqrt(eps_B)."""
    inverse_eps_b: CurveRecord
    """Background rejection 1 / eps_B."""


class CurvesRecord(FileRecord):
    """The curves of all classifiers on one sample."""

    sample: str
    """Name of the set."""
    n_signal: Events
    """Signal events of the sample."""
    n_background: Events
    """Background events of the sample."""
    min_background: Events
    """Background events that must pass a cut for the curve to have a value."""
    confidence: float
    """Probability content of the intervals."""
    classifiers: Mapping[str, ClassifierCurves]
    """Curves by classifier, the evaluated model first."""
    spectra: SpectraRecord | None = None
    """The background's m_jj before and after cuts; absent where sculpting is not measured."""

    def curves(self) -> dict[str, Curves]:
        """The curves of each classifier as arrays."""
        return {
            name: Curves(one.role, one.sic.band(one.eps_s), one.inverse_eps_b.band(one.eps_s))
            for name, one in self.classifiers.items()
        }


def band_over_runs(bands: Sequence[Band]) -> Band:
    """Computes median and 16-84 % band of a curve over several runs, without their intervals.

    A run with too little background rejects more than the others, so it lies above them: the median
    has no value, but a lower bound, only where half of the runs have too little.

    Raises:
        ValueError: if the signal efficiencies differ.
    """
    grid = bands[0].eps_s
    if any(not np.array_equal(band.eps_s, grid) for band in bands):
        raise ValueError("the curves were read at different signal efficiencies")
    values, bounds = (
        np.array([getattr(band, part) for band in bands]) for part in ("value", "lower_bound")
    )
    found = censored_percentiles(values, bounds, _PERCENTILES)
    low, median, high = found.value
    is_open = np.isnan(high) & ~np.isnan(found.lower_bound[2])
    return Band(grid, median, low, np.where(is_open, np.inf, high), found.lower_bound[1])


def curves_over_runs(runs: Sequence[CurvesRecord]) -> dict[str, Curves]:
    """Computes median and band for each classifier that all runs have, without ablations."""
    first, *others = (run.curves() for run in runs)
    return {
        name: Curves(
            found.role,
            band_over_runs([run[name].sic for run in (first, *others)]),
            band_over_runs([run[name].rejection for run in (first, *others)]),
        )
        for name, found in first.items()
        if found.role != "ablation" and all(name in run for run in others)
    }
