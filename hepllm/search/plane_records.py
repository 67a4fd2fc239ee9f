"""Records of ``scan.json``, the results of a scan over the masses of X and Y."""

from __future__ import annotations

import math

from scipy.stats import norm

from hepllm.config.evaluation import SearchConfig
from hepllm.hypotheses.trained_range import TrainedRange
from hepllm.records import Events, Gev, Record, Whole
from hepllm.search.limit_records import UpperLimit
from hepllm.search.measurements import GevRange
from hepllm.search.plane_toys import Extrapolation, PlaneResult, PointResult
from hepllm.search.records import EXCESS_P, BumpWindow, SearchedBox


class PointFindings(Record):
    """Findings among the events that pass the cut of one hypothesis."""

    hypothesis: str
    """The hypothesis under which the box was scored."""
    m_jets_gev: GevRange
    """Its masses of X and Y, the heavier first."""
    selection: float
    """The selection with the most significant window, as the share of events that it keeps."""
    score_threshold: float
    """Score above which events pass."""
    n_selected: Events
    """Events that pass."""
    bump: BumpWindow
    """The window with the least probable excess."""
    significance_local: float
    """``local_p`` of this window in one-sided Gaussian standard deviations; no trials count."""
    p_value: float
    """Probability of such an excess in any window of this point alone, without a signal."""
    n_toys_exceeding: int
    """Pseudo-experiments in which this point is at least as extreme."""
    limit: UpperLimit | None
    """Limits on a signal of these masses; null where the data allow none, or it cannot be."""


class ExtrapolatedPlane(Record):
    """The global p-value where too few pseudo-experiments exceed the data."""

    p_value: float
    """That of the best point, from weighted pseudo-experiments, for ``n_trials`` points."""
    significance: float
    """The same in one-sided Gaussian standard deviations."""
    p_point: float
    """p-value of the best point alone."""
    upper: float
    """The p-value for as many independent points as there are points, which it cannot exceed."""


class PlaneFindings(Record):
    """Findings of a scan in one box."""

    mass: str = "m_jj"
    """Name of the mass that was searched."""
    n_events: Events
    """Events of the box."""
    m_jj_range_gev: GevRange
    """Range in which a resonance is searched."""
    n_in_range: Events
    """Events in this range."""
    n_points: int
    """Hypotheses that the box was scored under."""
    n_trials: float
    """Independent points: P(any is extreme) over P(a given one is), of pseudo-experiments."""
    p_value: float
    """Probability of such an excess in any window of any point, without a signal."""
    significance_global: float | None
    """The p-value in one-sided Gaussian standard deviations; null for p = 1."""
    n_toys: int
    """Pseudo-experiments that the p-value is counted in."""
    n_toys_exceeding: int
    """Pseudo-experiments at least as extreme as the data."""
    n_toys_failed: int
    """Pseudo-experiments in which a fit failed; they count as extreme."""
    extrapolated: ExtrapolatedPlane | None = None
    """Beyond what pseudo-experiments can count; absent where enough exceed the data."""
    best: str
    """The hypothesis with the most significant window."""
    limits_at_gev: Gev
    """Mass of the resonance at which every point has a limit."""
    points: list[PointFindings]
    """In rising order of the masses."""
    warnings: list[str]
    """Warnings about the numbers."""

    @property
    def is_excess(self) -> bool:
        """Whether the data differ enough from background to speak of a signal."""
        return self.p_value < EXCESS_P

    @property
    def best_point(self) -> PointFindings:
        """The point with the most significant window."""
        return next(one for one in self.points if one.hypothesis == self.best)


class PlaneScan(PlaneFindings, SearchedBox):
    """The content of ``scan.json``; no label of the box is read for it."""

    run: str | None
    """Name of the run whose classifier computed the scores."""
    trained_on: str | None
    """Digest of the dataset that the run was trained on."""
    features: list[str] | None
    """Features of an event that the classifier uses."""
    trained_range: TrainedRange | None
    """Signals that it was trained on; null where they are not known."""
    cascade: float | None = None
    """Share of background that the boosting passes on to the model; null without a cascade."""
    select: str | None = None
    """Event filter that all events of the box pass; absent without."""
    seed: int
    """Seed of pseudo-experiments."""
    config: Whole[SearchConfig]
    """The settings of the search, ``evaluation.search``."""
    versions: dict[str, str]
    """Versions of hepllm and of the packages that the search relies on."""


def plane_findings(
    result: PlaneResult, mass: float, limits: list[UpperLimit | None], *, name: str = "m_jj"
) -> PlaneFindings:
    """Writes down the findings of a scan.

    Args:
        result: the scan.
        mass: mass of the resonance of the limits in GeV.
        limits: limit of each point.
        name: name of the mass that was searched.
    """
    spectra, overall = result.spectra, result.overall
    return PlaneFindings(
        mass=name,
        n_events=spectra.n_events,
        m_jj_range_gev=(float(spectra.edges[0]), float(spectra.edges[-1])),
        n_in_range=spectra.n_in_range,
        n_points=len(result.points),
        n_trials=result.n_trials,
        p_value=overall.value,
        significance_global=overall.significance,
        n_toys=overall.n_toys,
        n_toys_exceeding=overall.n_exceeding,
        n_toys_failed=result.n_failed,
        extrapolated=None if result.extrapolation is None else _extrapolated(result.extrapolation),
        best=spectra.hypotheses[result.best].text,
        limits_at_gev=mass,
        points=[
            _point(result, place, one, limit)
            for place, (one, limit) in enumerate(zip(result.points, limits, strict=True))
        ],
        warnings=_warnings(result),
    )


def _point(
    result: PlaneResult, place: int, found: PointResult, limit: UpperLimit | None
) -> PointFindings:
    spectra, bump = result.spectra, found.bump
    hypothesis, cut = spectra.hypotheses[place], spectra.cuts[place][found.selection]
    edges = spectra.edges
    return PointFindings(
        hypothesis=hypothesis.text,
        m_jets_gev=hypothesis.masses,
        selection=cut.efficiency,
        score_threshold=cut.threshold,
        n_selected=cut.n_selected,
        bump=BumpWindow(
            m_jj_gev=(float(edges[bump.start]), float(edges[bump.start + bump.width])),
            n_observed=bump.n_observed,
            n_expected=bump.n_expected,
            local_p=bump.local_p,
        ),
        significance_local=_sigma(found.statistic),
        p_value=found.p_value.value,
        n_toys_exceeding=found.p_value.n_exceeding,
        limit=limit,
    )


def _sigma(statistic: float) -> float:
    """Standard deviations of a local p-value, from minus its logarithm; 0 for a half and more."""
    if statistic > 700:  # its p-value underflows
        return math.sqrt(2 * statistic)
    return max(0.0, float(norm.isf(math.exp(-statistic))))


def _extrapolated(found: Extrapolation) -> ExtrapolatedPlane:
    return ExtrapolatedPlane(
        p_value=found.p_value,
        significance=float(norm.isf(found.p_value)),
        p_point=found.p_point,
        upper=found.upper,
    )


def _warnings(result: PlaneResult) -> list[str]:
    warnings = []
    cuts = [cut for cuts in result.spectra.cuts for cut in cuts]
    n_tied = sum(cut.is_tied(result.spectra.n_in_range) for cut in cuts)
    if n_tied:
        warnings.append(
            f"{n_tied} of {len(cuts)} cuts keep less than their share, because many events have "
            "equal scores"
        )
    if result.n_failed:
        warnings.append(f"a fit failed in {result.n_failed} pseudo-experiments")
    return warnings
