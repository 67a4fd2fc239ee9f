"""Median and band of the middle 68 % over several runs of one recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hepllm.evaluation.records import ResultsRecord
from hepllm.records import FileRecord, Record

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


class SpreadRecord(FileRecord):
    """Results of several runs on the same set."""

    runs: tuple[str, ...]
    """Folders of the runs."""
    sample: str
    """Name of the set."""
    spread: Mapping[str, Mapping[str, Spread]]
    """Metrics over the runs, by classifier and by key."""


def spread(values: Sequence[float | None]) -> Spread:
    """Computes median and 16-84 % band of the values that are not None."""
    defined = [value for value in values if value is not None]
    if not defined:
        return Spread(median=None, low=None, high=None, n_runs=0)
    low, median, high = (float(value) for value in np.percentile(defined, _PERCENTILES))
    return Spread(median=median, low=low, high=high, n_runs=len(defined))


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
