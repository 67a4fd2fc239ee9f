"""Ensembles: the mean of calibrated logits of several classifiers, and how far these differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np

from hepllm.arrays import Floats
from hepllm.errors import InputError
from hepllm.evaluation.calibration import Calibration, Method
from hepllm.records import Record

ENSEMBLE = "ensemble"
"""Name of the mean among its members."""

SPREAD = "spread"
"""Column of the standard deviation of the members' logits."""


class LogitMap(Record):
    """A map from scores to logits, as ``hepllm.evaluation.calibration`` fits it."""

    method: Method
    """How the map was fitted to validation data; none: not at all."""
    prior: float
    """Signal fraction for which its logits are valid."""
    slope: float = 1.0
    """Slope of a linear map, or that of a beta map at large scores."""
    offset: float = 0.0
    """Offset of such a map."""
    slope_below: float | None = None
    """Slope of a beta map at scores far below 0; absent for other maps."""
    steps: tuple[tuple[float, float], ...] = ()
    """Scores and logits of an isotonic map; absent for other maps."""

    @classmethod
    def of(cls, found: Calibration) -> Self:
        """The record of a map."""
        return cls(
            method=found.method,
            prior=found.prior,
            slope=found.slope,
            offset=found.offset,
            slope_below=found.slope_below,
            steps=tuple(zip(*(part.tolist() for part in found.steps), strict=True)),
        )

    def calibration(self) -> Calibration:
        """The map."""
        places, values = np.array(self.steps, dtype=np.float64).reshape(-1, 2).T
        return Calibration(
            self.method,
            self.prior,
            self.slope,
            self.offset,
            self.slope_below,
            (places.copy(), values.copy()),
        )


class MemberRecord(Record):
    """A classifier of an ensemble."""

    name: str
    """Its name in tables."""
    run: str
    """Folder of the run, relative to that of the ensemble; of a baseline: whose events it has."""
    baseline: str | None = None
    """Baseline that was fitted to the training events of the run; absent for the run itself."""
    sha256: str
    """Digest of the weights of the run, or of the file of the baseline."""
    features: tuple[str, ...]
    """Features that it reads, in its order."""
    constituents: int = 0
    """Constituents of each leading jet that it reads; absent where it reads none."""
    reads_hypotheses: bool = False
    """Whether it reads hypotheses."""
    logits: LogitMap
    """Map from its scores to logits, fitted to validation events."""
    validation_auc: float | None = None
    """AUC of the validation events of the ensemble; absent where a class is missing."""


def combine(logits: Mapping[str, Floats]) -> tuple[Floats, Floats]:
    """Averages calibrated logits of N events over members.

    The mean logit is the normalised geometric mean of the odds. The spread is that of one member:
    the mean of K independent members varies by spread / sqrt(K).

    Args:
        logits: shape (N,) by member, all valid for one signal fraction.

    Returns:
        The mean, and the standard deviation with K - 1 degrees of freedom, shape (N,) each.

    Raises:
        InputError: for fewer than two members.
    """
    if len(logits) < 2:
        raise InputError("an ensemble has at least two members: name another RUN, or --with NAME")
    joined = np.stack(list(logits.values()))
    return joined.mean(axis=0), np.asarray(joined.std(axis=0, ddof=1))
