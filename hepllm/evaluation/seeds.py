"""Several runs of one recipe: the median over them and the band that holds the middle 68 %."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

METRICS = ("auc", "sic_at_0.1", "sic_at_0.3", "sic_at_0.5", "max_sic", "accuracy")

_PERCENTILES = (16, 50, 84)
_WIDTHS = (17, 27, 25, 25, 25)
_SHOWN = ("auc", "sic_at_0.3", "sic_at_0.5", "max_sic")


@dataclass(frozen=True)
class Spread:
    """A metric over several runs.

    Attributes:
        median: over the runs that have a value; None where none has.
        low: 16th percentile.
        high: 84th percentile.
        n_runs: runs that have a value.
    """

    median: float | None
    low: float | None
    high: float | None
    n_runs: int


def spread(values: Sequence[float | None]) -> Spread:
    """Median and 16-84 % band of the values that exist."""
    defined = [value for value in values if value is not None]
    if not defined:
        return Spread(None, None, None, 0)
    low, median, high = (float(value) for value in np.percentile(defined, _PERCENTILES))
    return Spread(median, low, high, len(defined))


def spread_over_runs(trees: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Spread]]:
    """Every metric of every classifier that all runs have.

    Args:
        trees: one ``metrics.json`` a run, of the same sample.

    Returns:
        Spreads by metric, by name of the classifier, the judged model first.
    """
    by_name = [_classifiers(tree) for tree in trees]
    names = [name for name in by_name[0] if all(name in one for one in by_name)]
    return {
        name: {key: spread([one[name].get(key) for one in by_name]) for key in METRICS}
        for name in names
    }


def format_spread(sample: str, n_runs: int, found: Mapping[str, Mapping[str, Spread]]) -> str:
    """One row a classifier, in lines of at most 120 characters."""
    heads = ("", "AUC", "SIC(0.3)", "SIC(0.5)", "max SIC")
    lines = [
        f"{sample} sample, {n_runs} runs: median [16 %, 84 %] over the runs",
        _row(heads),
        "-" * sum(_WIDTHS),
    ]
    for name, metrics in found.items():
        cells = [_cell(metrics[key], 4 if key == "auc" else 2, n_runs) for key in _SHOWN]
        lines.append(_row((name, *cells)))
    return "\n".join(lines)


def _classifiers(tree: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {tree["classifier"]: tree, **tree["baselines"], **tree["ablation"]}


def _row(cells: Sequence[str]) -> str:
    widths = zip(cells[1:], _WIDTHS[1:], strict=True)
    return cells[0].ljust(_WIDTHS[0]) + "".join(cell.rjust(width) for cell, width in widths)


def _cell(value: Spread, digits: int, n_runs: int) -> str:
    if value.median is None:
        return "-"
    fewer = "" if value.n_runs == n_runs else f" ({value.n_runs})"
    return f"{value.median:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]{fewer}"
