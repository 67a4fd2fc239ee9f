"""Records of ``submission.json``, the results of a search."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from hepllm.config.evaluation import SearchConfig
from hepllm.data.dataset import SourceFile
from hepllm.records import Events, FileRecord, Gev, Pair, Record, Whole

EXCESS_P = 0.01
"""Global p-value below which an excess is reported."""

EventNumber = Annotated[float, Field(json_schema_extra={"unit": "events"})]
GevRange = Annotated[tuple[float, float], Field(json_schema_extra={"unit": "GeV"})]

AT_LIMIT = "minos, at limit"
HESSE = "hesse"
"""Methods of intervals that end at a limit of the fit, and of those that Minos did not find."""


class Measurement(Record):
    """A number with its 68 % interval, statistical and systematic."""

    # A fit that does not converge may have an infinite error.
    model_config = ConfigDict(allow_inf_nan=True)

    value: float
    """Best estimate."""
    below: float
    """Distance to the lower end of the statistical interval."""
    above: float
    """Distance to the upper end of the statistical interval."""
    method: str
    """How the statistical interval was found, such as ``minos``, ``hesse`` or ``bootstrap``."""
    systematics: dict[str, float] = Field(default_factory=dict)
    """Systematic errors of one standard deviation, by source."""

    @property
    def systematic(self) -> float:
        """Systematic error: all sources in quadrature."""
        return math.hypot(*self.systematics.values())

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the interval with both errors in quadrature."""
        below, above = (math.hypot(one, self.systematic) for one in (self.below, self.above))
        return self.value - below, self.value + above

    @property
    def at_limit(self) -> bool:
        """Whether an end of the interval is a limit of the fit, where Minos stopped."""
        return self.method.startswith(AT_LIMIT)

    @property
    def is_rough(self) -> bool:
        """Whether the interval comes from the covariance only, without confirmation by Minos."""
        return self.method.startswith(HESSE)

    def scaled(self, factor: float) -> Measurement:
        """Returns the number and its errors multiplied by a factor."""
        return Measurement(
            value=self.value * factor,
            below=self.below * factor,
            above=self.above * factor,
            method=self.method,
            systematics={source: one * factor for source, one in self.systematics.items()},
        )

    def with_systematics(self, **errors: float) -> Measurement:
        """Returns the number with further systematic errors; 0 is left out."""
        more = {source: error for source, error in errors.items() if error > 0}
        return self.model_copy(update={"systematics": {**self.systematics, **more}})

    def __str__(self) -> str:
        """Writes two digits of the largest error, and as many decimals for all numbers.

        The statistical error comes first, then the systematic one.
        """
        errors = (self.below, self.above, self.systematic)
        error = max(errors)
        decimals = max(0, 1 - math.floor(math.log10(error))) if 0 < error < math.inf else 2
        value, below, above, systematic = (f"{one:.{decimals}f}" for one in (self.value, *errors))
        text = f"{value} -{below} +{above}"
        return f"{text} +-{systematic} (syst)" if self.systematics else text


MeasuredGev = Annotated[Measurement, Field(json_schema_extra={"unit": "GeV"})]
MeasuredEvents = Annotated[Measurement, Field(json_schema_extra={"unit": "events"})]


class SignalEfficiency(Record):
    """The share of a simulated signal in the m_jj range that passes a cut on the score."""

    value: float
    """Best estimate, from 0 to 1."""
    low: float
    """Lower end of the 68 % interval (Clopper and Pearson)."""
    high: float
    """Upper end of the 68 % interval."""
    n_events: EventNumber
    """Effective number of simulated events that it is counted with."""
    of: str
    """Description of the signal."""


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


class Limit(Record):
    """An upper limit: observed, and its quantiles in spectra without signal."""

    observed: float
    """The limit of the data."""
    expected: float
    """Median of the limits of spectra without signal."""
    expected_68: Pair
    """Their 16 % and 84 % quantiles."""
    expected_95: Pair | None
    """Their 2.5 % and 97.5 % quantiles; null in files of former versions."""


class LeastEfficient(Record):
    """The limit for the jets, among those of the signal grid, that pass the cut least often."""

    m_jets_gev: GevRange
    """Masses of X and Y."""
    efficiency: float
    """Share of such signal in the box that passes the cut in the m_jj range."""
    observed: EventNumber
    """Observed limit on the signal events in the box, at the lower end of the efficiency."""


class UpperLimit(Record):
    """Upper limits on a signal of one mass."""

    mass_gev: Gev
    """Mass of the resonance."""
    selection: float
    """The selection, as the share of events that it keeps."""
    selected: Annotated[Limit, Field(json_schema_extra={"unit": "events"})]
    """Signal events that pass the cut, in the m_jj range."""
    signal_efficiency: SignalEfficiency | None
    """Share of the signal in the box that passes the cut in the m_jj range; null: not known."""
    box: Annotated[Limit | None, Field(json_schema_extra={"unit": "events"})]
    """Signal events in the box, with the error of the efficiency; null where that is not known."""
    least_efficient: LeastEfficient | None = None
    """The same for the jets that pass the cut least often; needs a signal grid."""
    trigger_efficiency: float | None = None
    """Share of generated signal events that trigger and so are in the box; needs a signal grid."""
    cross_section_fb: Annotated[Limit | None, Field(json_schema_extra={"unit": "fb"})] = None
    """Cross section times branching fraction; needs a signal grid and a luminosity."""

    @model_validator(mode="before")
    @classmethod
    def _read_former(cls, tree: Any) -> Any:
        """Reads limits of the time before they had a band of 95 %."""
        if not isinstance(tree, dict) or "n_signal_selected" not in tree:
            return tree
        observed, in_box = tree["n_signal_selected"], tree.get("n_signal_box")
        band = {
            "expected": tree["expected"],
            "expected_68": (tree["expected_16"], tree["expected_84"]),
            "expected_95": None,
        }
        factor = None if in_box is None or not observed else in_box / observed
        scaled = factor and {
            "observed": in_box,
            "expected": factor * band["expected"],
            "expected_68": [factor * one for one in band["expected_68"]],
            "expected_95": None,
        }
        return {
            "mass_gev": tree["mass_gev"],
            "selection": tree["efficiency"],
            "selected": {"observed": observed, **band},
            "signal_efficiency": None,
            "box": scaled,
        }


class UpperLimits(Record):
    """Upper limits over the mass range."""

    confidence: float
    """Confidence level of the limits."""
    method: str
    """Statistical method of the limits."""
    n_toys: int | None = None
    """Pseudo-experiments for each hypothesis and number of events."""
    efficiency_of: str | None = None
    """The signal whose efficiency the limits on the box use; null where it is not known."""
    efficiency_by_mass: bool = False
    """Whether the efficiency is that at each mass, from a signal grid, or the same at all."""
    luminosity_ifb: Annotated[float | None, Field(json_schema_extra={"unit": "1/fb"})] = None
    """Integrated luminosity of the box, as the user stated it."""
    by_mass: list[UpperLimit]
    """In rising order of the mass."""


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
