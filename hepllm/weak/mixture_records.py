"""Records of ``mixture.json``: masses and fraction of a signal fitted to unlabelled data."""

from __future__ import annotations

import math

import numpy as np

from hepllm.config.evaluation import SearchConfig
from hepllm.hypotheses.trained_range import TrainedRange
from hepllm.records import Events, Record, Whole
from hepllm.search.measurements import GevRange
from hepllm.search.records import EXCESS_P, SearchedBox
from hepllm.weak.mixture_fit import FittedMixture, FittedValue, MixturePoints
from hepllm.weak.mixture_toys import NullToys

_LEAST_EVENTS = 10
"""Fitted signal events below which intervals are only rough."""


class MixturePoint(Record):
    """The fit under the masses of one hypothesis."""

    hypothesis: str
    """The hypothesis under which events were scored."""
    m_jets_gev: GevRange
    """Its masses of X and Y, the heavier first."""
    fraction: float
    """Most likely fraction of such a signal in the data."""
    statistic: float
    """Twice the logarithm of its likelihood over that without a signal."""
    p_value: float | None
    """Probability of such a statistic at this point, without a signal; null at refined points."""

    @property
    def significance_local(self) -> float:
        """Root of the statistic, in standard deviations; no trials count."""
        return math.sqrt(self.statistic)


class FittedRange(Record):
    """A fitted number, with intervals of 68 and 95 %."""

    value: float
    """The most likely value."""
    interval_68: tuple[float, float]
    """Interval of 68 %."""
    interval_95: tuple[float, float]
    """Interval of 95 %."""


class MixtureFindings(Record):
    """The fit of a mixture of background and of one signal to data."""

    n_data: Events
    """Events of the data in the region."""
    n_template: Events
    """Events of the template of the background."""
    region_gev: GevRange
    """The region of the mass."""
    best: str
    """The most likely hypothesis that events were scored under."""
    m_heavy_gev: FittedRange
    """Mass of the heavier of X and Y in GeV."""
    m_light_gev: FittedRange
    """Mass of the lighter one in GeV."""
    fraction: FittedRange
    """Fraction of signal among the data."""
    n_signal: FittedRange
    """Signal events among the data."""
    statistic: float
    """Largest twice the logarithm of the likelihood over that without a signal, of all points."""
    p_value: float
    """Probability of such a statistic at any point of the scan, without a signal."""
    significance_global: float | None
    """The p-value in one-sided Gaussian standard deviations; null for p = 1."""
    n_toys: int
    """Divisions of the events into data and template that the p-value is counted in."""
    n_toys_exceeding: int
    """Those at least as extreme as the data."""
    points: list[MixturePoint]
    """The points of the scan, then the refined ones around the best."""
    warnings: list[str]
    """Warnings about the numbers."""

    @property
    def is_excess(self) -> bool:
        """Whether the data differ enough from background to speak of a signal."""
        return self.p_value < EXCESS_P


class MixtureScan(MixtureFindings, SearchedBox):
    """The content of ``mixture.json``; no label of the data is read for it."""

    run: str
    """Name of the run."""
    classifier: str
    """The classifier that gave the ratios: ``llm``, or a baseline of the run."""
    template: str
    """Where the template comes from."""
    calibration: tuple[float, float]
    """Slope and offset that make scores the logarithm of a ratio, from validation events."""
    trained_on: str | None
    """Digest of the dataset that the run was trained on."""
    features: list[str]
    """Features of an event that the classifier uses."""
    trained_range: TrainedRange
    """Signals that it was trained on."""
    select: str | None = None
    """Event filter that all events pass; absent without."""
    seed: int
    """Seed of pseudo-experiments."""
    config: Whole[SearchConfig]
    """The settings of the search, ``evaluation.search``."""
    versions: dict[str, str]
    """Versions of hepllm and of the packages that the fit relies on."""


def mixture_findings(
    points: MixturePoints,
    hypotheses: list[str],
    fitted: FittedMixture,
    null: NullToys,
    *,
    sizes: tuple[int, int],
    region: tuple[float, float],
) -> MixtureFindings:
    """Writes down a fit.

    Args:
        points: the fit at K hypotheses; the refined ones come last.
        hypotheses: their K texts.
        fitted: the most likely fraction and masses.
        null: p-values, for the points before the refined ones.
        sizes: events of data and of template.
        region: region of the mass in GeV.
    """
    n_data, n_template = sizes
    best = points.best
    p_values = [*null.p_point.tolist(), *[None] * (len(hypotheses) - len(null.p_point))]
    return MixtureFindings(
        n_data=n_data,
        n_template=n_template,
        region_gev=region,
        best=hypotheses[best],
        m_heavy_gev=_range(fitted.heavy),
        m_light_gev=_range(fitted.light),
        fraction=_range(fitted.fraction),
        n_signal=_range(fitted.fraction, n_data),
        statistic=float(points.statistic[best]),
        p_value=null.p_value.value,
        significance_global=null.p_value.significance,
        n_toys=null.p_value.n_toys,
        n_toys_exceeding=null.p_value.n_exceeding,
        points=[
            MixturePoint(
                hypothesis=text,
                m_jets_gev=(float(masses[0]), float(masses[1])),
                fraction=float(share),
                statistic=float(statistic),
                p_value=p_value,
            )
            for text, masses, share, statistic, p_value in zip(
                hypotheses, points.masses, points.fraction, points.statistic, p_values, strict=True
            )
        ],
        warnings=_warnings(points, n_data),
    )


def _range(found: FittedValue, factor: float = 1.0) -> FittedRange:
    narrow, wide = ((factor * low, factor * high) for low, high in found.intervals)
    return FittedRange(value=factor * found.value, interval_68=narrow, interval_95=wide)


def _warnings(points: MixturePoints, n_data: int) -> list[str]:
    warnings = []
    best = points.masses[points.best]
    ends = np.array([points.masses.min(axis=0), points.masses.max(axis=0)])
    if (best == ends).any():
        warnings.append(
            "the most likely masses are at the edge of the scan, so that intervals end there"
        )
    n_signal = n_data * points.fraction[points.best]
    if 0 < n_signal < _LEAST_EVENTS:
        warnings.append(f"the fit rests on {n_signal:.1f} signal events, so intervals are rough")
    return warnings
