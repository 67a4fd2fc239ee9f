"""Records of several runs on the same set, and median and band over the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hepllm.evaluation.records import BootstrapRecord, ResultsRecord
from hepllm.records import Events, FileRecord, Pair, Record

METRICS = ("auc", "sic_at_0.1", "sic_at_0.3", "sic_at_0.5", "max_sic", "accuracy")

_PERCENTILES = (16, 50, 84)


class Spread(Record):
    """A metric over several runs."""

    median: float | None
    """Median over the runs that have a value; null where none has."""
    low: float | None
    """16th percentile."""
    high: float | None
    """84th percentile."""
    n_runs: int
    """Runs that have a value."""
    values: tuple[float | None, ...]
    """The value of each run."""


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


def spread(values: Sequence[float | None]) -> Spread:
    """Computes median and 16-84 % band of the values that are not None."""
    defined = [value for value in values if value is not None]
    low, median, high = None, None, None
    if defined:
        low, median, high = (float(value) for value in np.percentile(defined, _PERCENTILES))
    return Spread(median=median, low=low, high=high, n_runs=len(defined), values=tuple(values))


def spread_over_runs(results: Sequence[ResultsRecord]) -> dict[str, dict[str, Spread]]:
    """Computes the spread of each metric, by classifier that all runs have and by key.

    Args:
        results: results of each run on the same sample.
    """
    by_name = [{name: one.metrics for name, one in run.classifiers.items()} for run in results]
    return {
        name: {key: spread([run[name][key].value for run in by_name]) for key in METRICS}
        for name in by_name[0]
        if all(name in run for run in by_name)
    }
