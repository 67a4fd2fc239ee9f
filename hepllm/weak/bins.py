"""Bins of features, made once for all boostings that are trained on the same events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats

N_BINS = 255
"""As many as scikit-learn's boosting has, which then takes them as they are."""


@dataclass(frozen=True, eq=False)
class FeatureBins:
    """Edges between the bins of each of F features; made by ``of``.

    scikit-learn makes its bins anew for each boosting, with weighted quantiles one by one: for
    some thousand events with weights, this takes ten times as long as the trees.
    """

    edges: Sequence[Floats]

    @classmethod
    def of(cls, features: Floats) -> FeatureBins:
        """Divides each feature at quantiles of features (N, F), or between all of its values."""
        return cls([_edges(column[np.isfinite(column)]) for column in features.T])

    def codes(self, features: Floats) -> Floats:
        """The number of the bin of each value, (N, F); NaN where it is missing."""
        found = np.empty(features.shape)
        for place, (column, edges) in enumerate(zip(features.T, self.edges, strict=True)):
            code = np.searchsorted(edges, column, side="right")
            found[:, place] = np.where(np.isnan(column), np.nan, code)
        return found


def _edges(values: Floats) -> Floats:
    distinct = np.unique(values)
    if len(distinct) <= N_BINS:
        return np.asarray((distinct[1:] + distinct[:-1]) / 2)
    levels = np.linspace(0, 1, N_BINS + 1)[1:-1]
    return np.unique(np.quantile(values, levels, method="averaged_inverted_cdf"))
