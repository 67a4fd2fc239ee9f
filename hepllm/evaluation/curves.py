"""SIC and rejection curves of one sample as ``curves.json``, from which reports are drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hepllm.arrays import Floats
from hepllm.evaluation.results import Band, EvaluationResults

_PERCENTILES = (16, 50, 84)
_ENDS = ("", "_low", "_high")


@dataclass(frozen=True, eq=False)
class Curves:
    """The curves of one classifier.

    Attributes:
        role: as in ``ScoreResult``.
        sic: with its interval.
        rejection: 1 / eps_b with its interval.
    """

    role: str
    sic: Band
    rejection: Band


@dataclass(frozen=True, eq=False)
class SampleCurves:
    """All curves of one sample.

    Attributes:
        sample: its name.
        n_signal: number of signal events.
        n_background: number of background events.
        n_min: background events that must pass for a value.
        confidence: of the intervals.
        classifiers: curves by name, the judged model first.
    """

    sample: str
    n_signal: int
    n_background: int
    n_min: int
    confidence: float
    classifiers: Mapping[str, Curves]


def curves_of(results: EvaluationResults) -> SampleCurves:
    """The curves of an evaluation."""
    events = results.model.events
    return SampleCurves(
        sample=results.sample,
        n_signal=events.n_signal,
        n_background=events.n_background,
        n_min=results.n_min,
        confidence=results.config.confidence,
        classifiers={
            name: Curves(result.role, result.sic_band, result.rejection_band)
            for name, result in results.scores.items()
        },
    )


def curves_tree(curves: SampleCurves) -> dict[str, Any]:
    """The content of ``curves.json``; null where a curve has no value."""
    return {
        "sample": curves.sample,
        "n_signal": curves.n_signal,
        "n_background": curves.n_background,
        "min_background": curves.n_min,
        "confidence": curves.confidence,
        "classifiers": {
            name: {
                "role": found.role,
                "eps_s": found.sic.eps_s.tolist(),
                **_band_tree("sic", found.sic),
                **_band_tree("inverse_eps_b", found.rejection),
            }
            for name, found in curves.classifiers.items()
        },
    }


def curves_from_tree(tree: Mapping[str, Any]) -> SampleCurves:
    """Reads back what ``curves_tree`` made.

    Raises:
        KeyError, TypeError, ValueError: if it is something else.
    """
    return SampleCurves(
        sample=str(tree["sample"]),
        n_signal=int(tree["n_signal"]),
        n_background=int(tree["n_background"]),
        n_min=int(tree["min_background"]),
        confidence=float(tree["confidence"]),
        classifiers={
            name: Curves(str(found["role"]), _band(found, "sic"), _band(found, "inverse_eps_b"))
            for name, found in tree["classifiers"].items()
        },
    )


def band_over_runs(bands: Sequence[Band]) -> Band:
    """Median and 16-84 % band of a curve over several runs.

    Blank where any run has too little background: those with a value there are the runs that
    reject less, and their median would be too low.

    Args:
        bands: of the same efficiencies; their own intervals do not count.

    Raises:
        ValueError: if the efficiencies differ.
    """
    grid = bands[0].eps_s
    if any(not np.array_equal(band.eps_s, grid) for band in bands):
        raise ValueError("the curves were read at different signal efficiencies")
    low, median, high = np.percentile([band.value for band in bands], _PERCENTILES, axis=0)
    return Band(grid, median, low, high)


def curves_over_runs(runs: Sequence[SampleCurves]) -> dict[str, Curves]:
    """Median and band over runs for each classifier that all of them have, but for ablations."""
    first = runs[0].classifiers
    return {
        name: Curves(
            found.role,
            band_over_runs([run.classifiers[name].sic for run in runs]),
            band_over_runs([run.classifiers[name].rejection for run in runs]),
        )
        for name, found in first.items()
        if found.role != "ablation" and all(name in run.classifiers for run in runs)
    }


def _band_tree(key: str, band: Band) -> dict[str, list[float | None]]:
    parts = zip(_ENDS, (band.value, band.low, band.high), strict=True)
    return {
        f"{key}{end}": [None if np.isnan(value) else float(value) for value in values]
        for end, values in parts
    }


def _band(tree: Mapping[str, Any], key: str) -> Band:
    def numbers(name: str) -> Floats:
        return np.array([np.nan if value is None else value for value in tree[name]], dtype=float)

    return Band(numbers("eps_s"), *(numbers(f"{key}{end}") for end in _ENDS))
