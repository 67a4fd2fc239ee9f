"""Records of several runs on the same set, and median and band over the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hepllm.evaluation.censoring import censored_percentiles
from hepllm.evaluation.records import BootstrapRecord, Bounded, Estimate, ResultsRecord
from hepllm.records import Events, FileRecord, Pair, Record

METRICS = ("auc", "sic_at_0.1", "sic_at_0.3", "sic_at_0.5", "max_sic", "accuracy")

_PERCENTILES = (16, 50, 84)


class Spread(Record):
    """A metric over several runs; a run with a lower bound alone counts as above the others."""

    median: float | None
    """Median over the runs; null where too many have no value."""
    low: float | None
    """16th percentile."""
    high: float | None
    """84th percentile."""
    n_runs: int
    """Runs that have a value."""
    values: tuple[float | None, ...]
    """The value of each run."""
    lower_bound: float | None = None
    """What the median exceeds, where the runs without a value decide it; absent otherwise."""


class SeedEstimate(Record):
    """A mean over runs, or a difference of means, with the uncertainty of seeds and events."""

    estimate: float | None = None
    """Mean over the runs, or difference of the means; null where a run has no value."""
    low: float | None = None
    """Lower end of the interval from the variance of trainings and of events."""
    high: float | None = None
    """Upper end of the interval."""
    seed_error: float | None = None
    """Standard error of the estimate from the standard deviation over the runs."""
    event_error: float | None = None
    """Standard deviation of the estimate in replicas of the events."""
    reason: str | None = None
    """Why the estimate or its interval is null."""
    by_run: tuple[float | None, ...] = ()
    """The same in each run; absent for two groups of runs, which are not paired."""

    @property
    def interval(self) -> Pair | None:
        """Lower and upper end; None where the interval is undefined."""
        return None if self.low is None or self.high is None else (self.low, self.high)


class SeedGroup(Record):
    """Several runs of one recipe, which differ in their seed."""

    name: str
    """Name of the recipe, from the names of the runs."""
    runs: tuple[str, ...]
    """Folders of the runs."""
    seeds: tuple[int, ...]
    """Seeds of the runs, in the same order."""
    spread: Mapping[str, Mapping[str, Spread]]
    """Metrics over the runs, by classifier and by key."""
    means: Mapping[str, Mapping[str, SeedEstimate]]
    """Their means with intervals, by classifier and by key."""


class SpreadRecord(SeedGroup, FileRecord):
    """Results of several runs on the same set."""

    sample: str
    """Name of the set."""
    classifier: str
    """Name of the evaluated model."""
    baselines: tuple[str, ...]
    """Names of its baselines."""
    n_signal: Events
    """Signal events of the set."""
    n_background: Events
    """Background events of the set."""
    bootstrap: BootstrapRecord
    """How the intervals were computed."""
    differences: Mapping[str, Mapping[str, SeedEstimate]]
    """The model minus each other classifier, paired by run: by ``first - second`` and by key."""
    other: SeedGroup | None = None
    """The runs that these are compared with; absent without --against."""
    against: Mapping[str, Mapping[str, SeedEstimate]] = {}
    """Each classifier of these runs minus the same of the others, by classifier and by key."""


def spread(values: Sequence[float | None], bounds: Sequence[float | None] | None = None) -> Spread:
    """Computes median and 16-84 % band over runs.

    To leave out the runs in which too little background passes, which reject more than the others,
    would make the median too low. They count as above the others, as far as the median is known.

    Args:
        values: the metric of each run; None where it has none.
        bounds: lower bounds, read where there is no value; None for no bounds.
    """
    known = np.array(values, dtype=np.float64)
    least = np.array([None] * len(values) if bounds is None else bounds, dtype=np.float64)
    found = censored_percentiles(known, least, _PERCENTILES)
    low, median, high = (_number(value) for value in found.value)
    return Spread(
        median=median,
        low=low,
        high=high,
        n_runs=int(np.isfinite(known).sum()),
        values=tuple(values),
        lower_bound=_number(found.lower_bound[_PERCENTILES.index(50)]),
    )


def spread_over_runs(results: Sequence[ResultsRecord]) -> dict[str, dict[str, Spread]]:
    """Computes the spread of each metric, by classifier that all runs have and by key.

    Args:
        results: results of each run on the same sample.
    """
    by_name = [{name: one.metrics for name, one in run.classifiers.items()} for run in results]
    return {
        name: {key: _spread([run[name][key] for run in by_name]) for key in METRICS}
        for name in by_name[0]
        if all(name in run for run in by_name)
    }


def _spread(found: Sequence[Estimate]) -> Spread:
    bounds = [one.lower_bound if isinstance(one, Bounded) else None for one in found]
    return spread([one.value for one in found], bounds)


def _number(value: np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
