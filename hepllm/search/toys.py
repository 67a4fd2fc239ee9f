"""Global p-values from pseudo-experiments, each with a fit of its own background."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.stats import norm

from hepllm.arrays import Bools, Floats
from hepllm.executor import run_tasks
from hepllm.logs import progress_bar
from hepllm.search.poisson import fit
from hepllm.search.rare import RareP, RareToys, rare_p_value
from hepllm.search.region import after_trials
from hepllm.search.scan import scan_batch
from hepllm.search.smooth import FittedSpectra, SmoothBackground, fit_spectra
from hepllm.search.spectra import BoxSpectra

LOG = logging.getLogger(__name__)

_BLOCK = 1000
_MIN_FREE_BINS = 4
_MIN_EXCEEDING = 20
"""Number of pseudo-experiments exceeding the data below which more are made."""

_PILOTS = 3
"""Blocks of weighted pseudo-experiments that only tell which excesses matter."""

_RARE_TOYS = 10_000
"""Largest number of weighted pseudo-experiments; about half of them exceed the data."""


@dataclass(frozen=True, eq=False)
class NullHypothesis:
    """Expected spectra without a resonance.

    Attributes:
        background: model that is fitted to spectra.
        rejected: (B,) expected events that fail the loosest selection.
        selected: (S, B) expected events of each selection, the loosest first.
    """

    background: SmoothBackground
    rejected: Floats
    selected: Floats


@dataclass(frozen=True, eq=False)
class Outcome:
    """Scans and fits of T sets of spectra.

    Attributes:
        statistic: (T, S) statistic of the scan of each selection.
        deviance: (T, S) deviance of the fit of each selection.
        rejected_deviance: (T,) deviance of the fit of the rejected events.
        failed: (T,) sets in which a fit did not converge.
    """

    statistic: Floats
    deviance: Floats
    rejected_deviance: Floats
    failed: Bools


@dataclass(frozen=True)
class PValue:
    """A p-value: ``n_exceeding`` of ``n_toys`` toys are at least as extreme as the data.

    It is the smallest of so many as there were ``trials``.
    """

    n_exceeding: int
    n_toys: int
    trials: int = 1

    @property
    def value(self) -> float:
        """(k + 1) / (n + 1), which is valid for any number of pseudo-experiments.

        Phipson and Smyth, arXiv:1603.05766, section 2; among several, as ``after_trials`` has it.
        """
        return after_trials((self.n_exceeding + 1) / (self.n_toys + 1), self.trials)

    @property
    def significance(self) -> float | None:
        """One-sided Gaussian standard deviations; None where they are infinite (p = 1)."""
        sigma = float(norm.isf(self.value))
        return sigma if math.isfinite(sigma) else None


@dataclass(frozen=True)
class ToyResult:
    """P-values of the data.

    Attributes:
        overall: for the most significant window of all selections; accounts for the trials in
            windows, widths and selections.
        by_selection: for each selection alone.
        goodness: for the fit of each selection, from the same pseudo-experiments.
        rejected_goodness: for the fit of the rejected events.
        n_failed: pseudo-experiments in which a fit failed. They count as extreme for ``overall``
            and ``by_selection``, and as well described for the goodness of fits, so that they
            neither create a claim nor hide a bad fit.
        rare: the p-value ``overall`` from weighted pseudo-experiments; None where enough others
            exceed the data.
    """

    overall: PValue
    by_selection: list[PValue]
    goodness: list[PValue]
    rejected_goodness: PValue
    n_failed: int
    rare: RareP | None = None

    def among(self, trials: int) -> ToyResult:
        """The same where the data have the smallest of several p-values."""
        rare = None if self.rare is None else self.rare.among(trials)
        return replace(self, overall=replace(self.overall, trials=trials), rare=rare)


def examine(
    background: SmoothBackground, rejected: Floats, selected: Sequence[Floats]
) -> tuple[FittedSpectra, Outcome]:
    """Fits and scans T sets of spectra: rejected (T, B), and (T, B) for each selection."""
    fits = fit_spectra(background, rejected, selected)
    scans = [
        scan_batch(counts, fitted.expected, background.windows).statistic
        for counts, fitted in zip(selected, fits.selected, strict=True)
    ]
    outcome = Outcome(
        statistic=np.stack(scans, axis=1),
        deviance=np.stack([fitted.deviance for fitted in fits.selected], axis=1),
        rejected_deviance=fits.rejected.deviance,
        failed=~fits.converged,
    )
    return fits, outcome


def null_hypothesis(background: SmoothBackground, fits: FittedSpectra) -> NullHypothesis:
    """Returns the fitted background of one set of spectra, as the truth of pseudo-experiments."""
    selected = np.stack([fitted.expected[0] for fitted in fits.selected])
    return NullHypothesis(background, fits.rejected.expected[0], selected)


def throw(
    null: NullHypothesis, n_toys: int, random: np.random.Generator
) -> tuple[Floats, list[Floats]]:
    """Draws spectra, in which the events of a tighter selection also pass the looser ones.

    Returns:
        Rejected events (T, B), and selected events (T, B) of each selection.
    """
    rejected = random.poisson(null.rejected, (n_toys, len(null.rejected))).astype(np.float64)
    counts = np.zeros_like(rejected)
    selected: list[Floats] = []
    for expected in shells(null)[::-1]:
        counts = counts + random.poisson(expected, counts.shape)
        selected.append(counts)
    return rejected, selected[::-1]


def shells(null: NullHypothesis) -> Floats:
    """Expected events that pass a selection and not the next tighter one, shape (S, B)."""
    # Two fits may cross where there are hardly any events.
    at_least = np.maximum.accumulate(null.selected[::-1], axis=0)
    return np.diff(at_least, axis=0, prepend=0.0)[::-1]


def run_block(null: NullHypothesis, seed: int, block: int) -> Outcome:
    """Makes one block of pseudo-experiments, which depends only on seed and block number."""
    random = np.random.default_rng([seed, 32, block])
    rejected, selected = throw(null, _BLOCK, random)
    return examine(null.background, rejected, selected)[1]


def global_p_value(
    null: NullHypothesis, data: Outcome, *, seed: int, n_toys: int, max_toys: int, workers: int = 1
) -> ToyResult:
    """Compares data with pseudo-experiments, and makes more of them where few are as extreme.

    Their number grows tenfold from ``n_toys`` up to ``max_toys`` while fewer than 20 exceed the
    data. P(p <= alpha) <= alpha still holds under the null hypothesis: for every alpha one
    p-value decides, that of the first stage above 0.02 and that of the last stage below.

    Args:
        null: distribution of the pseudo-experiments.
        data: outcome of one set of spectra.
        seed: seed of the pseudo-experiments.
        n_toys: number to start with; rounded up to whole blocks of 1,000.
        max_toys: largest number.
        workers: number of processes; the result does not depend on it.
    """
    blocks: list[Outcome] = []
    target = n_toys
    while True:
        wanted = range(len(blocks), -(-target // _BLOCK))
        block = partial(run_block, null, seed)
        done = run_tasks(block, wanted, kind="sooner", workers=workers, ordered=True)
        bar = progress_bar(target, "search", "pseudo-experiments", initial=len(blocks) * _BLOCK)
        with closing(done), bar:
            for _, outcome in done:
                blocks.append(outcome)
                bar.update(_BLOCK)
        result = _compare(data, blocks)
        found = result.overall
        if found.n_exceeding >= _MIN_EXCEEDING:
            return result
        if target >= max_toys:
            n_rare = min(max_toys, _RARE_TOYS)
            observed = float(data.statistic[0].max())
            rare = rare_p_value_of(null, observed, seed=seed, n_toys=n_rare, workers=workers)
            return replace(result, rare=rare)
        target = min(10 * target, max_toys)
        text = "%d of %d pseudo-experiments exceed the data; continuing to %d"
        LOG.info(text, found.n_exceeding, found.n_toys, target)


def rare_p_value_of(
    null: NullHypothesis, observed: float, *, seed: int, n_toys: int, workers: int = 1
) -> RareP | None:
    """The probability that a spectrum without a signal is at least as extreme as ``observed``.

    From weighted pseudo-experiments; those whose fit fails count as extreme.

    Args:
        null: distribution of the pseudo-experiments.
        observed: largest statistic of all selections of the data.
        seed: seed of the pseudo-experiments.
        n_toys: their number; rounded up to whole blocks of 1,000.
        workers: number of processes; the result does not depend on it.

    Returns:
        The p-value; None where no pseudo-experiment is as extreme.
    """
    toys = RareToys.of(null.rejected, shells(null), null.background, observed)
    for pilot in range(_PILOTS):
        thrown = toys.throw(_BLOCK, np.random.default_rng([seed, 37, pilot]))
        toys = toys.adapted(*thrown[:2], thrown[2] * _extreme(null.background, thrown, observed))
    block = partial(_rare_block, toys, null.background, observed, seed)
    wanted = range(-(-n_toys // _BLOCK))
    with closing(run_tasks(block, wanted, kind="sooner", workers=workers, ordered=True)) as done:
        blocks = [found for _, found in done]
    weights, extreme = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return rare_p_value(weights, extreme)


def _rare_block(
    toys: RareToys, background: SmoothBackground, observed: float, seed: int, block: int
) -> tuple[Floats, Bools]:
    thrown = toys.throw(_BLOCK, np.random.default_rng([seed, 36, block]))
    return thrown[2], _extreme(background, thrown, observed)


def _extreme(
    background: SmoothBackground, thrown: tuple[Floats, list[Floats], Floats], observed: float
) -> Bools:
    outcome = examine(background, *thrown[:2])[1]
    return _is_extreme(outcome.statistic.max(axis=1), observed) | outcome.failed


def _is_extreme(toys: Floats, observed: float) -> Bools:
    # A histogram equal to that of the data has the same statistic up to rounding.
    return np.asarray(toys >= observed - 1e-9 * max(1.0, abs(observed)))


def _compare(data: Outcome, blocks: Sequence[Outcome]) -> ToyResult:
    def joined(name: str) -> Floats:
        return np.concatenate([getattr(block, name) for block in blocks])

    failed = joined("failed").astype(bool)

    def p_value(toys: Floats, observed: float, *, of_fit: bool = False) -> PValue:
        extreme = _is_extreme(toys, observed)
        extreme = extreme & ~failed if of_fit else extreme | failed
        return PValue(int(extreme.sum()), len(toys))

    statistic, deviance = joined("statistic"), joined("deviance")
    selections = range(statistic.shape[1])
    rejected, observed = joined("rejected_deviance"), float(data.rejected_deviance[0])
    return ToyResult(
        overall=p_value(statistic.max(axis=1), float(data.statistic[0].max())),
        by_selection=[p_value(statistic[:, i], data.statistic[0, i]) for i in selections],
        goodness=[p_value(deviance[:, i], data.deviance[0, i], of_fit=True) for i in selections],
        rejected_goodness=p_value(rejected, observed, of_fit=True),
        n_failed=int(failed.sum()),
    )


def goodness_outside(
    counts: Floats, basis: Floats, offset: Floats, used: Bools, seed: int
) -> PValue | None:
    """Tests by pseudo-experiments how well a background describes bins away from a resonance.

    ``counts``, ``offset`` and ``used``, the bins that count, have shape (B,); ``basis`` (B, P).

    Returns:
        The p-value; None where hardly more bins than parameters are left, or the fit fails.
    """
    if used.sum() < basis.shape[1] + _MIN_FREE_BINS:
        return None
    fitted = fit(counts[None], basis, offset, used[None])
    if not fitted.converged[0]:
        return None
    random = np.random.default_rng([seed, 35])
    # Bins that do not count are ignored, but their extrapolation must not overflow the draws.
    expected = np.where(used, fitted.expected[0], 0.0)
    drawn = random.poisson(expected, (_BLOCK, len(counts))).astype(np.float64)
    toys = fit(drawn, basis, offset, np.broadcast_to(used, drawn.shape))
    extreme = (toys.deviance >= fitted.deviance[0] - 1e-9) & toys.converged
    return PValue(int(extreme.sum()), _BLOCK)


def observed_spectra(spectra: BoxSpectra) -> tuple[Floats, list[Floats]]:
    """Returns one set of spectra in the form of T sets: (1, B), and (1, B) for each selection."""
    return spectra.rejected[None], [counts[None] for counts in spectra.selected]
