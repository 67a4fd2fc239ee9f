"""Several runs of one recipe: the median over them and the band that holds the middle 68 %."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hepllm.evaluation.records import ResultsRecord, ScoreRecord
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
    """What several runs have found on the same set."""

    runs: tuple[str, ...]
    """Folders of the runs."""

    sample: str
    """Name of the set."""

    spread: Mapping[str, Mapping[str, Spread]]
    """Each metric over the runs, by classifier and then by key."""


def spread(values: Sequence[float | None]) -> Spread:
    """Median and 16-84 % band of the values that exist."""
    defined = [value for value in values if value is not None]
    if not defined:
        return Spread(median=None, low=None, high=None, n_runs=0)
    low, median, high = (float(value) for value in np.percentile(defined, _PERCENTILES))
    return Spread(median=median, low=low, high=high, n_runs=len(defined))


def spread_over_runs(results: Sequence[ResultsRecord]) -> dict[str, dict[str, Spread]]:
    """Every metric of every classifier that all runs have.

    Args:
        results: of each run, on the same sample.

    Returns:
        Spreads by metric, by name of the classifier, the judged model first.
    """
    by_name = [one.classifiers for one in results]
    names = [name for name in by_name[0] if all(name in one for one in by_name)]
    return {
        name: {key: spread([_value(one[name], key) for one in by_name]) for key in METRICS}
        for name in names
    }


def _value(score: ScoreRecord, key: str) -> float | None:
    found = score.metrics.get(key)
    return None if found is None else found.value
