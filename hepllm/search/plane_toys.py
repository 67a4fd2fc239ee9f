"""P-values of a scan over the masses of X and Y, whose points select the same events over and over.

Points share most of what they select, so their excesses come together. A pseudo-experiment
therefore draws new masses for the events, not new spectra for the points: each event that passes
anywhere appears a Poisson number of times, with mean 1, and keeps which points it passes. Its m_jj
follows the smooth spectra that were fitted to these points. All spectra are then fitted and scanned
anew, as those of the data. The spectra of rejected events, which have hundreds of times as many
events, stay as they are.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
from scipy.sparse import csr_array

from hepllm.arrays import Bools, Floats
from hepllm.config.evaluation import SearchConfig
from hepllm.errors import RunError
from hepllm.executor import run_tasks
from hepllm.logs import progress_bar
from hepllm.search.hunt import prepare_background, under_hypothesis
from hepllm.search.mass_plane import PlaneSpectra
from hepllm.search.poisson import BatchFit
from hepllm.search.scan import Bump, scan_batch, scan_data
from hepllm.search.smooth import FittedSpectra, SmoothBackground
from hepllm.search.toys import NullHypothesis, PValue, rare_p_value_of

LOG = logging.getLogger(__name__)

_BLOCK = 200
"""Pseudo-experiments that are made together."""

_MIN_EXCEEDING = 20
"""Pseudo-experiments exceeding the data below which more are made."""

_RARE_TOYS = 4000
"""Weighted pseudo-experiments for the most significant point."""

_FOR_TRIALS = 100
"""Pseudo-experiments whose largest excess defines the level at which trials are counted."""


@dataclass(frozen=True, eq=False)
class PlaneNull:
    """The background of all points, from which pseudo-experiments are drawn.

    Attributes:
        background: model that is fitted to spectra.
        rejected: (K, B) expected events that fail the loosest cut of a point.
        passing: (K S, E) which of E events pass.
        cumulative: (E, B) probability of each event to be in a bin or a lower one.
    """

    background: SmoothBackground
    rejected: Floats
    passing: csr_array
    cumulative: Floats

    def throw(self, n_toys: int, random: np.random.Generator) -> Floats:
        """Draws selected events of T pseudo-experiments, shape (K S, T, B)."""
        n_rows, n_events = self.passing.shape
        n_bins = self.cumulative.shape[1]
        n_drawn = int(random.poisson(n_toys * n_events))
        event = random.integers(n_events, size=n_drawn)
        toy = random.integers(n_toys, size=n_drawn)
        # One sorted list of all events' distributions, each shifted by its number.
        shifted = (self.cumulative + np.arange(n_events)[:, None]).ravel()
        place = np.searchsorted(shifted, event + random.random(n_drawn), side="right")
        drawn = np.minimum(place - event * n_bins, n_bins - 1)
        counts = csr_array(
            (np.ones(n_drawn), (event, toy * n_bins + drawn)), shape=(n_events, n_toys * n_bins)
        )
        return np.asarray((self.passing @ counts).toarray()).reshape(n_rows, n_toys, n_bins)


@dataclass(frozen=True, eq=False)
class PlaneOutcome:
    """Scans of T spectra of K points, the best of all selections.

    Attributes:
        statistic: (T, K).
        failed: (T, K) where a fit did not converge.
    """

    statistic: Floats
    failed: Bools


@dataclass(frozen=True)
class Extrapolation:
    """The global p-value where too few pseudo-experiments exceed the data.

    It is the p-value of the most significant point alone, from weighted pseudo-experiments, times
    the number of independent points. That number grows slowly with the significance, so it is a
    little too small; all points are as many as can be.

    Attributes:
        p_point: p-value of the most significant point.
        p_value: best estimate of the global one.
        upper: the number of all points times the upper end of the 68 % interval of ``p_point``.
    """

    p_point: float
    p_value: float
    upper: float


@dataclass(frozen=True, eq=False)
class PointResult:
    """The most significant window of a point.

    Attributes:
        selection: position of the selection that has it.
        bump: the window.
        statistic: -log of its local p-value.
        p_value: for any window of any selection of this point.
        n_parameters: of the background fit.
    """

    selection: int
    bump: Bump
    statistic: float
    p_value: PValue
    n_parameters: int


@dataclass(frozen=True, eq=False)
class PlaneResult:
    """Results of a scan over the mass plane.

    Attributes:
        points: K results.
        best: position of the most significant point.
        overall: p-value of its window; accounts for all windows, selections and points.
        n_failed: pseudo-experiments in which a fit failed, which count as extreme.
        n_trials: independent points, at the largest excess of 100 pseudo-experiments.
        extrapolation: where too few pseudo-experiments exceed the data; None elsewhere.
        fits: fits of the rejected (K), and of the selected events (K, by selection).
    """

    spectra: PlaneSpectra
    points: Sequence[PointResult]
    best: int
    overall: PValue
    n_failed: int
    n_trials: float
    extrapolation: Extrapolation | None
    background: SmoothBackground
    fits: FittedSpectra


def scan_plane(spectra: PlaneSpectra, config: SearchConfig, seed: int) -> PlaneResult:
    """Scans the spectra of all points, and compares them with pseudo-experiments.

    Args:
        spectra: spectra of the points.
        config: rules of the search.
        seed: seed of the pseudo-experiments.

    Raises:
        RunError: if a background cannot be fitted.
    """
    background = prepare_background(spectra.edges, under_hypothesis(config))
    rejected = background.fit_rejected(spectra.rejected)
    n_selections = spectra.shape[1]
    selected = [
        background.fit_selected(spectra.selected[:, place], rejected)
        for place in range(n_selections)
    ]
    fits = FittedSpectra(rejected, selected)
    if not fits.converged.all():
        text = spectra.hypotheses[int(np.argmin(fits.converged))].text
        raise RunError(f"{text}: the background fit does not converge; use more events")
    statistic = np.stack(
        [
            scan_batch(spectra.selected[:, place], fitted.expected, background.windows).statistic
            for place, fitted in enumerate(selected)
        ]
    )
    null = _null(spectra, background, fits)
    observed = statistic.max(axis=0)
    toys = _compared(null, observed, config, seed)
    best = int(observed.argmax())
    extreme = _is_extreme(toys.statistic, observed) | toys.failed
    overall = _p_value(_is_extreme(toys.statistic.max(axis=1), observed[best]) | _any(toys.failed))
    n_trials = _trials(toys.statistic)
    points = [
        _point(spectra, fits, background, (place, int(statistic[:, place].argmax())), own)
        for place, own in enumerate(map(_p_value, extreme.T))
    ]
    extrapolation = None
    if overall.n_exceeding < _MIN_EXCEEDING:
        extrapolation = _extrapolated(null, selected, (best, float(observed[best])), n_trials, seed)
    return PlaneResult(
        spectra=spectra,
        points=points,
        best=best,
        overall=overall,
        n_failed=int(_any(toys.failed).sum()),
        n_trials=n_trials,
        extrapolation=extrapolation,
        background=background,
        fits=fits,
    )


def _null(spectra: PlaneSpectra, background: SmoothBackground, fits: FittedSpectra) -> PlaneNull:
    shapes = np.stack([one.expected for one in fits.selected], axis=1)
    shapes = shapes.reshape(spectra.passing.shape[0], -1)
    shapes = shapes / shapes.sum(axis=1, keepdims=True)
    passing = spectra.passing
    # The mean of the spectra of what an event passes: each point keeps its shape nearly.
    probability = (passing.T @ shapes) / passing.sum(axis=0)[:, None]
    cumulative = np.cumsum(probability, axis=1)
    return PlaneNull(background, fits.rejected.expected, passing, cumulative / cumulative[:, -1:])


def run_block(null: PlaneNull, seed: int, block: int) -> PlaneOutcome:
    """Makes one block of pseudo-experiments, which depends only on seed and block number."""
    counts = null.throw(_BLOCK, np.random.default_rng([seed, 41, block]))
    n_rows, n_toys, n_bins = counts.shape
    n_points = len(null.rejected)
    by_point = counts.reshape(n_points, n_rows // n_points, n_toys, n_bins)
    template = _repeated(null.rejected, n_toys)
    statistics, failed = [], []
    for place in range(by_point.shape[1]):
        spectra = by_point[:, place].reshape(-1, n_bins)
        fitted = null.background.fit_selected(spectra, template)
        scanned = scan_batch(spectra, fitted.expected, null.background.windows)
        statistics.append(scanned.statistic.reshape(n_points, n_toys).T)
        failed.append(~fitted.converged.reshape(n_points, n_toys).T)
    return PlaneOutcome(np.max(statistics, axis=0), np.any(failed, axis=0))


def _repeated(rejected: Floats, n_toys: int) -> BatchFit:
    """Fits with these expectations, (K, B), each of them so often."""
    expected = np.repeat(rejected, n_toys, axis=0)
    n_fits = len(expected)
    return BatchFit(
        expected=expected,
        deviance=np.zeros(n_fits),
        n_parameters=np.zeros(n_fits, dtype=np.int64),
        converged=np.ones(n_fits, dtype=bool),
        used=np.ones(expected.shape, dtype=bool),
    )


def _compared(null: PlaneNull, observed: Floats, config: SearchConfig, seed: int) -> PlaneOutcome:
    """Makes pseudo-experiments until enough exceed the data, or the largest number is made."""
    blocks: list[PlaneOutcome] = []
    target, workers = config.plane.toys, config.workers
    while True:
        wanted = range(len(blocks), -(-target // _BLOCK))
        block = partial(run_block, null, seed)
        done = run_tasks(block, wanted, kind="sooner", workers=workers, ordered=True)
        bar = progress_bar(target, "scan", "pseudo-experiments", initial=len(blocks) * _BLOCK)
        with closing(done), bar:
            for _, outcome in done:
                blocks.append(outcome)
                bar.update(_BLOCK)
        joined = PlaneOutcome(
            *(
                np.concatenate([getattr(one, field.name) for one in blocks])
                for field in fields(PlaneOutcome)
            )
        )
        largest = joined.statistic.max(axis=1)
        n_exceeding = int((_is_extreme(largest, observed.max()) | _any(joined.failed)).sum())
        if n_exceeding >= _MIN_EXCEEDING or target >= config.plane.max_toys:
            return joined
        target = min(10 * target, config.plane.max_toys)
        LOG.info(
            "%d of %d pseudo-experiments exceed the data; continuing to %d",
            n_exceeding,
            len(largest),
            target,
        )


def _is_extreme(toys: Floats, observed: Floats | float) -> Bools:
    # A histogram equal to that of the data has the same statistic up to rounding.
    return np.asarray(toys >= observed - 1e-9 * np.maximum(1.0, np.abs(observed)))


def _any(failed: Bools) -> Bools:
    return np.asarray(failed.any(axis=1))


def _p_value(extreme: Bools) -> PValue:
    return PValue(int(extreme.sum()), len(extreme))


def _trials(statistic: Floats) -> float:
    """How many independent points there are: P(any exceeds) over P(a given one exceeds).

    Args:
        statistic: (T, K) of pseudo-experiments.
    """
    largest = np.sort(statistic.max(axis=1))
    level = largest[-min(_FOR_TRIALS, len(largest))]
    return float((largest >= level).mean() / (statistic >= level).mean())


def _point(
    spectra: PlaneSpectra,
    fits: FittedSpectra,
    background: SmoothBackground,
    at: tuple[int, int],
    p_value: PValue,
) -> PointResult:
    """The result for a point, from its most significant selection."""
    place, selection = at
    fitted = fits.selected[selection]
    counts = spectra.selected[place, selection]
    bump = scan_data(counts, fitted.expected[place], spectra.edges, background.windows)
    statistic = scan_batch(counts[None], fitted.expected[place][None], background.windows)
    return PointResult(
        selection=selection,
        bump=bump,
        statistic=float(statistic.statistic[0]),
        p_value=p_value,
        n_parameters=int(fitted.n_parameters[place]),
    )


def _extrapolated(
    null: PlaneNull,
    selected: Sequence[BatchFit],
    most_significant: tuple[int, float],
    n_trials: float,
    seed: int,
) -> Extrapolation | None:
    """Extrapolates the p-value of the most significant point, and its statistic."""
    best, observed = most_significant
    expected = np.stack([one.expected[best] for one in selected])
    alone = NullHypothesis(null.background, null.rejected[best], expected)
    found = rare_p_value_of(alone, observed, seed=seed, n_toys=_RARE_TOYS)
    if found is None:
        return None
    return Extrapolation(
        p_point=found.value,
        p_value=-math.expm1(n_trials * math.log1p(-min(found.value, 0.5))),
        upper=min(1.0, len(null.rejected) * found.interval[1]),
    )
