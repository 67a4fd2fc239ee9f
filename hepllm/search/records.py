"""Records of ``submission.json``, the results of a search."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hepllm.config.evaluation import SearchConfig
from hepllm.data.manifest import SourceFile
from hepllm.records import Events, FileRecord, Gev, Record, Whole
from hepllm.search.limit_records import UpperLimits
from hepllm.search.measurements import (
    EventNumber,
    GevRange,
    MeasuredEvents,
    MeasuredGev,
    Measurement,
    SignalEfficiency,
)

EXCESS_P = 0.01
"""Global p-value below which an excess is reported."""


class ShapeDistance(Record):
    """Difference of the m_jj spectra of the events that pass a cut and of those that fail it."""

    ks: float
    """Kolmogorov-Smirnov distance."""
    ks_p: float
    """Probability of a distance at least as large for equal shapes."""
    js: Annotated[float, Field(json_schema_extra={"unit": "bits"})]
    """Jensen-Shannon divergence in ten bins of equal content."""
    js_95: Annotated[float, Field(json_schema_extra={"unit": "bits"})]
    """95 % quantile of the divergence of random selections of as many events."""


class BumpWindow(Record):
    """The window of a spectrum with the least probable excess."""

    m_jj_gev: GevRange
    """Lower and upper end of the window."""
    n_observed: Events
    """Events in the window."""
    n_expected: EventNumber
    """Events of the background fit in the window."""
    local_p: float
    """Poisson probability of at least as many events in this window alone."""


class LocalPeakFindings(Record):
    """The most significant peak of one selection; all parameters of the background are free."""

    mass_gev: Gev
    """Its mass."""
    n_signal: EventNumber
    """Its events."""
    significance_local: float
    """Root of the profile likelihood ratio at this mass, in standard deviations."""
    p_value_local: float
    """Probability of such a peak at this mass, without a signal."""


class SpuriousSignalFindings(Record):
    """The largest signal that the misfit of the background makes, over the range of masses."""

    mass_gev: Gev
    """Mass at which it is largest in units of the error of a signal."""
    n_signal: EventNumber
    """Events of a peak that the scaled spectrum of rejected events has there."""
    noise: EventNumber
    """Standard deviation of this number, by the number of rejected events."""
    over_error: float
    """This number over the error of the signal of the selection."""
    over_error_beyond_noise: float
    """The same for what is left of its size without three standard deviations of noise."""
    n_signal_at_resonance: EventNumber
    """Systematic error of the events of the resonance; 0 where noise explains the number."""


class ExtrapolatedSignificance(Record):
    """A global significance beyond what pseudo-experiments can count.

    It comes from pseudo-experiments that are drawn with an excess in one window, and weighted.
    """

    value: float
    """One-sided Gaussian standard deviations."""
    low: float
    """Lower end of the 68 % interval, by the number of pseudo-experiments."""
    high: float
    """Upper end of the 68 % interval."""
    p_value: float
    """The same as probability."""
    n_toys: int
    """Weighted pseudo-experiments."""
    n_toys_exceeding: int
    """Those at least as extreme as the data, without weights."""


class FitQuality(Record):
    """How well a background fit describes a spectrum."""

    n_parameters: int
    """Number of parameters of the fit."""
    goodness_p: float
    """Probability of a fit at least as bad, from pseudo-experiments."""


class SelectionFitQuality(FitQuality):
    """How well a background fit describes the events that pass a cut."""

    goodness_p_without_resonance: float | None
    """The same without three widths around the resonance; null where too few bins are left."""


class SelectionFindings(Record):
    """Findings among the events that pass one cut on the score."""

    efficiency: float
    """Share of the events in the m_jj range that the cut is meant to keep."""
    score_threshold: float
    """Score above which events pass."""
    n_selected: Events
    """Events that pass."""
    bump: BumpWindow
    """The window with the least probable excess."""
    p_value: float
    """Probability of such an excess in any window of this selection, without a signal."""
    significance_global: float | None
    """The p-value in one-sided Gaussian standard deviations; null for p = 1."""
    n_toys: int
    """Pseudo-experiments that the p-value is counted in."""
    n_toys_exceeding: int
    """Pseudo-experiments at least as extreme as the data."""
    fit: SelectionFitQuality
    """The background fit."""
    shape_after_against_before: ShapeDistance | None
    """Effect of the cut on the spectrum; null where fewer than 10 events pass or fail."""
    shape_without_resonance: ShapeDistance | None
    """The same without three widths around the resonance."""
    local_peak: LocalPeakFindings | None = None
    """The most significant peak; null in files of former versions."""
    spurious_signal: SpuriousSignalFindings | None = None
    """Signal that the misfit of the background makes; null in files of former versions."""


class JetMasses(Record):
    """Masses of the two particles that the resonance decays to, each to one jet."""

    light: MeasuredGev | None
    """Mass of the lighter one; null where there are too few events."""
    heavy: MeasuredGev | None
    """Mass of the heavier one; null where there are too few events."""
    after_soft_drop: bool = False
    """Whether they were measured after soft drop; otherwise, from whole jets."""


class SelectionTruth(Record):
    """True content of the events that pass one cut, by the key of the box."""

    efficiency: float
    """The selection, as the share of events that it keeps."""
    n_signal: Events
    """Signal events that pass the cut and are in the m_jj range."""
    eps_s: float | None
    """Share of all signal events; null where there are none."""
    eps_b: float
    """Share of all background events."""


class Truth(Record):
    """True content of a box, by its key, which is read after the search only."""

    n_signal_box: Events
    """Signal events."""
    n_signal_in_range: Events
    """Signal events in the m_jj range."""
    signal_over_background: float
    """Signal over background events."""
    median_m_jj_of_signal_gev: Gev | None
    """Median of the signal in the m_jj range; null where there is no signal."""
    selections: list[SelectionTruth]
    """By selection, the loosest first."""


class SearchFindings(Record):
    """Findings of a search in one box."""

    mass: str = "m_jj"
    """Name of the mass that was searched, which keys with ``m_jj`` are about; m_jj if absent."""
    n_events: Events
    """Events of the box."""
    m_jj_range_gev: GevRange
    """Range in which a resonance is searched."""
    region_gev: GevRange | None = None
    """Part of the range in which excesses count, one of ``n_regions``; absent where all of it."""
    n_regions: int = 1
    """Regions that were scanned, which the p-value over all counts as trials; 1 if absent."""
    n_in_range: Events
    """Events in this range."""
    p_value: float
    """Probability of such an excess in any window of any selection, without a signal."""
    significance_global: float | None
    """The p-value in one-sided Gaussian standard deviations; null for p = 1."""
    n_toys: int
    """Pseudo-experiments that the p-value is counted in."""
    n_toys_exceeding: int
    """Pseudo-experiments at least as extreme as the data."""
    n_toys_failed: int
    """Pseudo-experiments in which a fit failed; they count as extreme."""
    significance_global_extrapolated: ExtrapolatedSignificance | None = None
    """Global significance from weighted pseudo-experiments; null where enough others exceed."""
    significance_local: float | None = None
    """That of the best selection's ``local_peak``; null in files of former versions."""
    resonance_mass_gev: MeasuredGev
    """Mass of the resonance."""
    resonance_relative_width: Measurement
    """Standard deviation of the core of the peak over its mass, where the fit leaves it free."""
    resonance_width_at_limit: bool
    """Whether the width is the smallest or the largest that the fit allows."""
    resonance_fit_valid: bool
    """Whether the fit of the peak converged."""
    jet_masses_gev: JetMasses
    """Masses of the jets near the resonance."""
    n_signal_selected: MeasuredEvents
    """Events of the peak that pass the cut of the best selection, in the m_jj range."""
    n_signal_box: MeasuredEvents | None
    """``n_signal_selected`` over the efficiency; null without an excess or an efficiency."""
    signal_over_background: float | None
    """Signal over background events of the box; null where ``n_signal_box`` is."""
    signal_efficiency: SignalEfficiency | None
    """Efficiency of the best selection for simulated signal; null where it is not known."""
    upper_limits: UpperLimits | None
    """Limits on the signal, with and without an excess; null where no limit was found."""
    best_selection: float
    """The selection with the most significant bump, as the share of events that it keeps."""
    selections: list[SelectionFindings]
    """By selection, the loosest first."""
    spectrum_before_cut: FitQuality
    """The background fit to the events that fail the loosest cut."""
    warnings: list[str]
    """Warnings about the numbers."""

    @property
    def is_excess(self) -> bool:
        """Whether the data differ enough from background to state numbers for a signal."""
        return self.p_value < EXCESS_P


class Blackbox(Record):
    """A dataset that was searched."""

    name: str
    """Name of the dataset."""
    digest: str
    """Digest of its contents."""
    sources: list[Whole[SourceFile]]
    """Files that its events come from."""
    n_excluded_as_seen: Events
    """Events left out because the run was trained or validated on them."""


class SearchedBox(FileRecord):
    """The box that a submission is about."""

    blackbox: Blackbox
    """Dataset that was searched."""


class ScoreSource(Record):
    """Files and columns of scores that no run of hepllm computed at the time of the search."""

    files: list[Whole[SourceFile]]
    """The files; empty for arrays that were given in Python."""
    score: str
    """Column of the scores."""
    mass: str
    """Column of the mass."""
    jet_masses: list[str]
    """Columns of the masses of the two leading jets; empty where there are none."""
    energy_unit: str
    """Unit of the masses in the files."""


class Submission(SearchFindings, SearchedBox):
    """The content of ``submission.json``, which is written before any label of the box is read."""

    run: str | None
    """Name of the run whose classifier computed the scores; null for scores from files."""
    trained_on: str | None
    """Digest of the dataset that the run was trained on; null without a run."""
    features: list[str] | None
    """Features of an event that the classifier uses; null without a run."""
    scores: ScoreSource | None = None
    """Where the scores come from; absent where a run computed them."""
    cascade: float | None
    """Share of background that the boosting passes on to the model; null without a cascade."""
    select: str | None = None
    """Event filter that all events of the box pass; absent without."""
    weak: str | None = None
    """Template of the background that classifiers were trained against on the box; see weak.json.

    Absent where the scores are not from weak supervision.
    """
    hypothesis: str | None = None
    """Text under which the run scored the events; absent where nothing was stated."""
    seed: int
    """Seed of pseudo-experiments and replicas."""
    config: Whole[SearchConfig]
    """The settings of the search, ``evaluation.search``."""
    versions: dict[str, str]
    """Versions of hepllm and of the packages that the search relies on."""


class Unblinding(FileRecord):
    """The content of ``unblinding.json``: what the key of a box says about a submission."""

    submission_sha256: str
    """SHA-256 of ``submission.json``, as it was on the disk before the labels were read."""
    submission_written: str
    """When it was written: UTC, in the form of ISO 8601."""
    labels_read: str
    """When the labels were read, in the same form."""
    truth: Truth
    """True content of the box."""


class NoSearch(Record):
    """Why a box was not searched."""

    problem: str
    """Reason, and what to do about it."""
