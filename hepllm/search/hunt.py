"""The search for a resonance in one box, from scores and masses to a p-value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hepllm.arrays import Floats
from hepllm.config.evaluation import SearchConfig
from hepllm.errors import InputError, RunError
from hepllm.search.box import BoxEvents, SearchResult, SelectionResult
from hepllm.search.jet_masses import JetMass, JetResponse, fit_jet_masses
from hepllm.search.joint_model import JointModel
from hepllm.search.peak_shape import PeakShape
from hepllm.search.peak_tests import (
    local_peak,
    peak_scan,
    spurious_signal,
)
from hepllm.search.poisson import BatchFit
from hepllm.search.records import ShapeDistance
from hepllm.search.region import MassRegion
from hepllm.search.resonance import (
    Resonance,
    SmoothSpectrum,
    fit_background,
    fit_resonance,
    modes_of,
)
from hepllm.search.response import shipped_response
from hepllm.search.scan import Bump, Windows, scan_data
from hepllm.search.selection_bias import PeakEstimator, selection_bias
from hepllm.search.smooth import FittedSpectra, SmoothBackground, smooth_background
from hepllm.search.spectra import (
    BoxSpectra,
    ScoreCut,
    bin_edges,
    choose_cuts,
    make_spectra,
    shape_distance,
)
from hepllm.search.toys import (
    Outcome,
    ToyResult,
    examine,
    global_p_value,
    goodness_outside,
    null_hypothesis,
    observed_spectra,
)

_WINDOW = 2.0
"""Half width of the window that jet masses are taken from, in widths of the peak."""

_MIN_SIDEBAND = 30
"""Events away from the peak that the density of background jet masses is made of."""

_FACTORS_OF_HYPOTHESIS = 3
"""Fewest parameters of the factor on the template where a hypothesis is stated."""

_GAP = 3.0
"""Distance of the side-bands from the peak, in its widths."""


def search(
    events: BoxEvents, config: SearchConfig, seed: int, *, region: MassRegion | None = None
) -> SearchResult:
    """Searches a box for a resonance.

    Args:
        events: events of the box.
        config: rules, all fixed before anybody looks at the box.
        seed: seed of pseudo-experiments and replicas.
        region: masses of the excesses that count; None for the whole range.

    Raises:
        InputError: if a score is not finite, or the box has too few events in the m_jj range.
        RunError: if the background cannot be fitted.
    """
    fitted = fit_box(events, config, seed, region=region)
    inside, cuts, spectra, toys = fitted.events, fitted.cuts, fitted.spectra, fitted.toys
    background, fits, edges = fitted.background, fitted.fits, spectra.edges
    best, bump = fitted.best, fitted.bump
    counts = spectra.selected[best]
    description = _description(background, fits.selected[best], fits.rejected)
    smooth = SmoothSpectrum(*description, _open_modes(background, fits.rejected))
    shape = PeakShape.shipped()
    first = fit_resonance(counts, edges, smooth, bump, shape)
    jet_masses = _jet_masses(inside, cuts[: best + 1], first, edges, seed)
    resonance = fit_resonance(counts, edges, smooth, bump, shape.with_jets(*_masses_of(jet_masses)))
    peaks = fitted.peaks(resonance, shape)
    excess = selection_bias(null_hypothesis(background, fits), peaks, best, seed)
    resonance = resonance.less_chosen(excess)
    selections = [
        replace(fitted.judge(i, cut, resonance, seed), n_peak=(peak.size, peak.error))
        for i, (cut, peak) in enumerate(zip(cuts, peaks, strict=True))
    ]
    spurious = selections[best].spurious.systematic_at(resonance.mass.value)
    n_signal = resonance.n_signal.with_systematics(spurious=spurious)
    n = len(inside.score)
    return SearchResult(
        n_events=len(events.score),
        n_in_range=n,
        spectra=spectra,
        selections=selections,
        best=best,
        toys=toys,
        rejected=fits.rejected,
        background=background,
        resonance=replace(resonance, n_signal=n_signal),
        jet_masses=jet_masses,
        tied=[one for one in choose_cuts(inside.score, config.efficiencies) if one.is_tied(n)],
        mass=config.mass,
        is_groomed=events.groomed is not None,
        region=region,
    )


def fit_box(
    events: BoxEvents, config: SearchConfig, seed: int, *, region: MassRegion | None = None
) -> FittedBox:
    """Fits the background of a box and computes p-values: what is enough to compare searches.

    Args and errors are those of ``search``.
    """
    check_scores(events.score)
    edges = bin_edges(config.m_jj_min, config.m_jj_max, config.bin_width)
    inside = events.take((events.m_jj >= edges[0]) & (events.m_jj < edges[-1]))
    cuts = usable_cuts(inside.score, config)
    spectra = make_spectra(inside.m_jj, inside.score, cuts, edges)
    background = prepare_background(edges, config, region)
    fits, data = examine(background, *observed_spectra(spectra))
    if data.failed[0]:
        raise RunError("the background fit does not converge; use more events or other bins")
    null = null_hypothesis(background, fits)
    toys = global_p_value(
        null, data, seed=seed, n_toys=config.toys, max_toys=config.max_toys, workers=config.workers
    )
    if region is not None:
        toys = toys.among(region.trials)
    return FittedBox(inside, cuts, spectra, background, fits, data, toys, region)


def check_scores(scores: Floats) -> None:
    """Raises InputError if one of N scores is not finite."""
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise InputError(
            f"{len(bad)} of {len(scores)} scores are not finite, the first is {scores[bad[0]]} in "
            f"row {bad[0]}; repair or remove these events"
        )


def prepare_background(
    edges: Floats, config: SearchConfig, region: MassRegion | None = None
) -> SmoothBackground:
    """Returns the background of a binning, by the rules of a search, maybe in a region.

    Raises:
        InputError: if the region is narrower than the narrowest window.
    """
    first, end = (0, len(edges) - 1) if region is None else region.bins(edges)
    windows = Windows(config.narrowest, config.widest, first, end)
    if region is not None and not windows.widths(len(edges) - 1):
        raise InputError(
            f"the region {region.low:g} to {region.high:g} GeV has {end - first} bins, fewer than "
            f"evaluation.search.narrowest = {config.narrowest}; make it wider"
        )
    background = smooth_background(
        edges, windows, config.background, config.parameter_p, config.sqrt_s
    )
    return replace(background, least_factors=config.factor_parameters)


def under_hypothesis(config: SearchConfig) -> SearchConfig:
    """The rules of a search in scores under a hypothesis, whose background has another shape.

    A hypothesis of heavy jets selects background with heavy jets, which sets in at a higher m_jj. A
    factor with two parameters does not follow that, and after a tight cut too few events are left
    to ask for a third.
    """
    least = max(config.factor_parameters, _FACTORS_OF_HYPOTHESIS)
    return config.model_copy(update={"factor_parameters": least})


@dataclass(frozen=True, eq=False)
class FittedBox:
    """A box with its spectra, their fits and pseudo-experiments; made by ``fit_box``.

    Attributes:
        events: events in the m_jj range.
        cuts: selections, the loosest first.
        spectra: their spectra, and that of the rejected events.
        background: model of the background.
        fits: fits of the spectra.
        data: statistics of the scans.
        toys: p-values.
        region: masses of the excesses that count; None for the whole range.
    """

    events: BoxEvents
    cuts: list[ScoreCut]
    spectra: BoxSpectra
    background: SmoothBackground
    fits: FittedSpectra
    data: Outcome
    toys: ToyResult
    region: MassRegion | None

    @property
    def best(self) -> int:
        """Index of the selection with the most significant bump."""
        return int(self.data.statistic[0].argmax())

    @property
    def bump(self) -> Bump:
        """The most significant bump of that selection."""
        counts, expected = self.spectra.selected[self.best], self.fits.selected[self.best].expected
        return scan_data(counts, expected[0], self.spectra.edges, self.background.windows)

    def peaks(self, resonance: Resonance, shape: PeakShape) -> list[PeakEstimator]:
        """Returns estimators of the events of a peak at the resonance, by selection."""
        shares = shape.shares(self.spectra.edges, resonance.mass.value)
        return [
            PeakEstimator.of(
                counts,
                fitted.expected[0],
                _description(self.background, fitted, self.fits.rejected)[0],
                shares,
            )
            for counts, fitted in zip(self.spectra.selected, self.fits.selected, strict=True)
        ]

    def judge(self, place: int, cut: ScoreCut, resonance: Resonance, seed: int) -> SelectionResult:
        """Returns the results for one selection."""
        fitted, counts = self.fits.selected[place], self.spectra.selected[place]
        description = _description(self.background, fitted, self.fits.rejected)
        rejected, edges = self.fits.rejected, self.spectra.edges
        n_parameters = int(fitted.n_parameters[0])
        joint = JointModel.of(self.background, rejected, n_parameters)
        low, high = resonance.window(_GAP)
        outside = self.events.take((self.events.m_jj < low) | (self.events.m_jj >= high))
        off = (edges[1:] <= low) | (edges[:-1] >= high)
        return SelectionResult(
            cut=cut,
            bump=scan_data(counts, fitted.expected[0], edges, self.background.windows),
            p_value=self.toys.by_selection[place],
            goodness=self.toys.goodness[place],
            goodness_outside=goodness_outside(counts, *description, off, seed),
            n_parameters=n_parameters,
            background=fit_background(counts, *description),
            basis=description[0],
            offset=description[1],
            shape=_sculpting(self.events, cut, seed),
            shape_outside=_sculpting(outside, cut, seed),
            local=local_peak(joint, self.spectra.rejected, counts, edges, self.region),
            scan=peak_scan(joint, self.spectra.rejected, counts, edges),
            spurious=spurious_signal(
                self.spectra.rejected,
                rejected.expected[0],
                fitted.expected[0],
                description[0],
                edges,
            ),
        )


def usable_cuts(scores: Floats, config: SearchConfig) -> list[ScoreCut]:
    """Returns the cuts that keep enough of the events in the m_jj range.

    Raises:
        InputError: if no cut does, or the range has too few events.
    """
    where = f"{config.m_jj_min:g} < {config.mass} < {config.m_jj_max:g} GeV"
    if len(scores) < config.min_events:
        raise InputError(
            f"a search needs {config.min_events} events with {where}, found {len(scores)}; "
            "use a larger box, or another range in evaluation.search"
        )
    cuts = choose_cuts(scores, config.efficiencies)
    usable = [one for one in cuts if one.n_selected >= config.min_selected]
    if not usable:
        loosest = cuts[0]
        msg = (
            f"the selection of {loosest.efficiency:g} keeps {loosest.n_selected} of {len(scores)} "
            f"events with {where}, fewer than {config.min_selected}; "
        )
        if loosest.is_tied(len(scores)):
            msg += "many events have equal scores, which no threshold can separate"
        else:
            msg += "use a larger box, or a larger share in evaluation.search.efficiencies"
        raise InputError(msg)
    return usable


def _description(
    background: SmoothBackground, fitted: BatchFit, rejected: BatchFit
) -> tuple[Floats, Floats]:
    """Returns basis and offset of the fit to a selection."""
    n_parameters = int(fitted.n_parameters[0])
    if background.method == "dijet":
        return background.shape[:, :n_parameters], background.log_width
    return background.factor[:, :n_parameters], background.template(rejected)[0]


def _sculpting(events: BoxEvents, cut: ScoreCut, seed: int) -> ShapeDistance | None:
    passes = events.score > cut.threshold
    return shape_distance(events.m_jj[passes], events.m_jj[~passes], seed)


def _open_modes(background: SmoothBackground, rejected: BatchFit) -> Floats:
    """Returns what the fit of the rejected events leaves open of the offset, shape (B, M)."""
    expected = rejected.expected[0]
    if background.method == "dijet":
        return np.empty((len(expected), 0))
    # Bins that the fit leaves out tell nothing.
    known = expected * rejected.used[0]
    return modes_of(background.shape[:, : int(rejected.n_parameters[0])], known)


def _jet_masses(
    events: BoxEvents, cuts: Sequence[ScoreCut], resonance: Resonance, edges: Floats, seed: int
) -> dict[str, JetMass]:
    """Fits the jet masses of the events that pass the last, tightest of some cuts.

    Where hardly any of its events are away from the peak, side-bands are those of a looser cut.
    """
    selected = events.take(events.score > cuts[-1].threshold)
    (low, high), (outer_low, outer_high) = resonance.window(_WINDOW), resonance.window(_GAP)
    near = (selected.m_jj >= low) & (selected.m_jj < high)
    away = events.take((events.m_jj < outer_low) | (events.m_jj >= outer_high))
    sidebands = [away.jets.take(np.flatnonzero(away.score > cut.threshold)) for cut in cuts[::-1]]
    enough = [one for one in sidebands if len(one) >= _MIN_SIDEBAND]
    n_background = _within(edges, resonance.background, low, high)
    shipped = shipped_response()
    model = shipped.jet if events.groomed is None else shipped.groomed_jet
    selection = model.selection_error(cuts[-1].efficiency)
    return fit_jet_masses(
        selected.jets.take(np.flatnonzero(near)),
        enough[0] if enough else sidebands[-1],
        JetResponse(model, resonance.mass.value, selection=selection),
        n_background=n_background,
        background_error=np.sqrt(max(n_background, 1.0) / 3),
        seed=seed,
    )


def _masses_of(jets: dict[str, JetMass]) -> tuple[float | None, float | None]:
    light, heavy = (jets[name].peak for name in ("light", "heavy"))
    return (None if light is None else light.value), (None if heavy is None else heavy.value)


def _within(edges: Floats, counts: Floats, low: float, high: float) -> float:
    """Sums a histogram between two values; a bin that is only partly inside counts in part."""
    cumulative = np.concatenate([[0.0], np.cumsum(counts)])
    return float(np.diff(np.interp([low, high], edges, cumulative))[0])
