"""Intervals of means over trainings and of their differences, with the variance of both levels.

All runs are measured on the same events. So two levels vary: the trainings (seeds), and the events,
which all runs and classifiers share. A bootstrap that resamples both is too narrow for the few
trainings that one can afford: n of them, drawn with replacement, have (n - 1) / n of their variance
and no tails. Instead, each bootstrap replica of the events adds to the mean

    t s / sqrt(n),    t drawn from Student's distribution with n - 1 degrees of freedom,

where s is the standard deviation over the n runs. In a difference between two groups of runs, each
group adds its own term. s also has the part of the fluctuations of events in which runs differ,
which thus counts twice: the interval is a little too wide where that part dominates.
``tools/studies/seed_intervals.py`` measures the coverage of this and of other intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Digests, Floats
from hepllm.config import EvaluationConfig
from hepllm.errors import InputError
from hepllm.evaluation.assessment import EvaluationResults
from hepllm.evaluation.bootstrap import bootstrap, interval
from hepllm.evaluation.crossfit import CrossFit
from hepllm.evaluation.differences import drawn_metrics
from hepllm.evaluation.metrics import SIGNAL_EFFICIENCIES
from hepllm.evaluation.records import ScoreRecord
from hepllm.evaluation.seeds import METRICS, SeedEstimate

Estimates = Mapping[str, Mapping[str, SeedEstimate]]
"""Estimates by classifier, or by ``first - second``, and by key of the metric."""

_DRAWS = 20
"""Values of t for each replica of the events, so that the ends of an interval are not noisy."""


@dataclass(frozen=True, eq=False)
class RunScores:
    """One run on a set of N events.

    Attributes:
        results: metrics, and the scores behind them.
        digests: (N,) digests of the events.
    """

    results: EvaluationResults
    digests: Digests


@dataclass(frozen=True, eq=False)
class OverRuns:
    """A metric of n runs on the same events.

    Attributes:
        values: (n,) the metric of each run; NaN where it is undefined.
        draws: (R, n) the metric in replicas of the events, which all runs share.
        reason: why a value is undefined; None where all are defined.
    """

    values: Floats
    draws: Floats
    reason: str | None = None

    def minus(self, other: OverRuns) -> OverRuns:
        """The difference in each run."""
        reason = self.reason or other.reason
        return OverRuns(self.values - other.values, self.draws - other.draws, reason)


@dataclass(frozen=True, eq=False)
class SeedComparison:
    """Several runs of one recipe, or of two.

    Attributes:
        means: mean of each classifier over the first runs.
        differences: the model minus each other classifier, paired by run.
        other_means: mean of each classifier over the other runs; empty without them.
        against: each classifier of the first runs minus the same of the others; empty without them.
    """

    means: Estimates
    differences: Estimates
    other_means: Estimates
    against: Estimates


def compare_seeds(
    ours: Sequence[RunScores],
    theirs: Sequence[RunScores],
    config: EvaluationConfig,
    seed: int,
) -> SeedComparison:
    """Compares classifiers over several runs, with the uncertainty of trainings and of events.

    Only classifiers that all runs of a group have are compared. Left out are those that are one
    training beside all runs (``retrained``), and those that were scored on a part of the events.

    Args:
        ours: at least 2 runs of one recipe.
        theirs: at least 2 runs of another recipe, or none.
        config: number of replicas, confidence, and share of replicas that may be undefined.
        seed: seed of the draws.

    Raises:
        InputError: if the runs were measured on different events.
    """
    _check_same_events([*ours, *theirs])
    first, second = _measure((ours, theirs), config, seed)
    generator = np.random.default_rng([seed, 6])

    def estimate(plus: OverRuns, minus: OverRuns | None = None) -> SeedEstimate:
        limits = config.confidence, config.max_undefined
        return estimate_mean(plus, minus, *limits, generator=generator)

    model = first[ours[0].results.record.classifier]
    return SeedComparison(
        means={name: {k: estimate(one[k]) for k in METRICS} for name, one in first.items()},
        differences={
            f"{ours[0].results.record.classifier} - {name}": {
                key: estimate(model[key].minus(one[key])) for key in METRICS
            }
            for name, one in first.items()
            if one is not model
        },
        other_means={name: {k: estimate(one[k]) for k in METRICS} for name, one in second.items()},
        against={
            name: {key: estimate(one[key], second[name][key]) for key in METRICS}
            for name, one in first.items()
            if name in second
        },
    )


def estimate_mean(
    plus: OverRuns,
    minus: OverRuns | None,
    confidence: float,
    max_undefined: float,
    *,
    generator: np.random.Generator,
) -> SeedEstimate:
    """Computes the mean over runs, or the difference of two means, and its interval.

    Args:
        plus: a metric, or a difference within each run, of at least 2 runs.
        minus: the metric of other runs on the same events, which is subtracted.
        confidence: probability content of the interval.
        max_undefined: largest share of undefined replicas for which there is an interval.
        generator: draws t.
    """
    groups = [plus] if minus is None else [plus, minus]
    by_run = [None if np.isnan(value) else float(value) for value in plus.values]
    found = SeedEstimate(by_run=tuple(by_run) if minus is None else ())
    reason = next((one.reason for one in groups if one.reason is not None), None)
    if reason is not None:
        return found.model_copy(update={"reason": reason})
    value, of_events = plus.values.mean(), plus.draws.mean(axis=1)
    if minus is not None:
        value, of_events = value - minus.values.mean(), of_events - minus.draws.mean(axis=1)
    errors = [one.values.std(ddof=1) / np.sqrt(len(one.values)) for one in groups]
    draws = np.repeat(of_events, _DRAWS)
    for one, error in zip(groups, errors, strict=True):
        draws = draws + error * generator.standard_t(len(one.values) - 1, size=len(draws))
    of_both = interval(draws, confidence, max_undefined)
    low, high = of_both.pair or (None, None)
    known = {
        "estimate": float(value),
        "low": low,
        "high": high,
        "seed_error": float(np.hypot.reduce(errors)),
        "event_error": None if low is None else float(np.nanstd(of_events, ddof=1)),
        "reason": interval(of_events, confidence, max_undefined).reason,
    }
    return found.model_copy(update=known)


def _measure(
    groups: Sequence[Sequence[RunScores]], config: EvaluationConfig, seed: int
) -> list[dict[str, dict[str, OverRuns]]]:
    """Measures each group of runs in the same replicas, by classifier and by key of the metric."""
    names = [_compared(runs) for runs in groups]
    runs = {
        f"{number} {place} ": (run.results, names[number])
        for number, group in enumerate(groups)
        for place, run in enumerate(group)
    }
    scores = {
        prefix + name: (results.record.classifiers[name], results.events[name])
        for prefix, (results, compared) in runs.items()
        for name in compared
    }
    replicas = bootstrap(
        {label: events for label, (_, events) in scores.items()},
        {label: _thresholds(score) for label, (score, _) in scores.items()},
        SIGNAL_EFFICIENCIES,
        config.bootstrap,
        seed,
        largest=[_largest(prefix, *found, seed) for prefix, found in runs.items()],
    )
    drawn = {label: drawn_metrics(found) for label, found in replicas.items()}

    def over_runs(number: int, name: str, key: str) -> OverRuns:
        labels = [f"{number} {place} {name}" for place in range(len(groups[number]))]
        records = [scores[label][0] for label in labels]
        values = [record.metrics[key].value for record in records]
        lacking = [record for record, value in zip(records, values, strict=True) if value is None]
        reason = None
        if lacking:
            why = lacking[0].undefined.get(key, "undefined")
            reason = f"{name}: no value in {len(lacking)} of {len(values)} runs: {why}"
        draws = np.column_stack([drawn[label][key] for label in labels])
        return OverRuns(np.array(values, dtype=np.float64), draws, reason)

    return [
        {name: {key: over_runs(number, name, key) for key in METRICS} for name in names[number]}
        for number in range(len(groups))
    ]


def _compared(runs: Sequence[RunScores]) -> list[str]:
    """Names the classifiers of all runs that were trained, or used, anew in each run."""
    if not runs:
        return []
    return [
        name
        for name, record in runs[0].results.record.classifiers.items()
        if not record.retrained
        and all(
            name in run.results.events and len(run.results.events[name].label) == len(run.digests)
            for run in runs
        )
    ]


def _largest(prefix: str, results: EvaluationResults, names: Sequence[str], seed: int) -> CrossFit:
    """Chooses the cuts of the largest SIC of one run, under names that begin with ``prefix``."""
    record = results.record
    own = [name for name in names if name not in record.ablation]
    known = results.validation
    return CrossFit(
        {prefix + name: results.events[name] for name in names},
        None if known is None else {prefix + name: known[name] for name in own},
        {prefix + name: prefix + record.classifier for name in names if name not in own},
        record.min_background,
        seed,
    )


def _thresholds(score: ScoreRecord) -> tuple[float]:
    """The cut of the accuracy, which no event passes where it is undefined."""
    cut = score.accuracy.threshold
    return (np.inf if cut is None else cut,)


def _check_same_events(runs: Sequence[RunScores]) -> None:
    for run in runs[1:]:
        ours, theirs = runs[0], run
        if not np.array_equal(ours.digests, theirs.digests):
            shared = int(np.isin(theirs.digests, ours.digests).sum())
            raise InputError(
                f"{ours.results.record.sample}: the runs have different events: {shared} "
                f"of {len(theirs.digests)} are shared; evaluate all of them on one dataset "
                "(--dataset)"
            )
