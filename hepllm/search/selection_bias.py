"""What the choice of the most significant selection adds to the events of a peak.

The largest of several fluctuations is above the mean of each: the number of events is measured in
that selection, and so is too large on average. Pseudo-experiments with the fitted signal, in which
the same choice is made, tell by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats
from hepllm.search.toys import NullHypothesis, examine, throw

_N_TOYS = 500
_MIN_CHOSEN = 50


@dataclass(frozen=True, eq=False)
class PeakEstimator:
    """A linear estimate of the events of a peak of known shape in one selection.

    One step of Fisher's scoring from the fitted spectrum, with a free background: (weights .
    (counts - expected)) is the estimate minus the fitted number.

    Attributes:
        expected: (B,) events of background and peak.
        weights: (B,) weights of the bins.
        size: fitted events of the peak.
        error: standard deviation of the estimate.
    """

    expected: Floats
    weights: Floats
    size: float
    error: float

    @classmethod
    def of(cls, counts: Floats, background: Floats, basis: Floats, shape: Floats) -> PeakEstimator:
        """Makes the estimator of a spectrum.

        Args:
            counts: (B,) events.
            background: (B,) events of the background fit.
            basis: (B, P) columns of the background fit.
            shape: (B,) share of the peak in each bin.
        """
        expected = background
        size = 0.0
        for _ in range(6):
            columns = np.column_stack([shape, background[:, None] * basis])
            information = (columns / expected[:, None]).T @ columns
            covariance = np.linalg.pinv(information, hermitian=True)
            weights = covariance[0] @ (columns / expected[:, None]).T
            change = covariance @ ((columns / expected[:, None]).T @ (counts - expected))
            size = max(size + float(change[0]), 0.0)
            background = background * np.exp(np.clip(basis @ change[1:], -1, 1))
            expected = background + size * shape
        return cls(expected, np.asarray(weights), size, float(np.sqrt(covariance[0, 0])))

    def estimate(self, counts: Floats) -> Floats:
        """Estimates minus the fitted number, over the error, for T spectra, shape (T,)."""
        return np.asarray((counts - self.expected) @ self.weights / self.error)


def selection_bias(
    null: NullHypothesis, estimators: Sequence[PeakEstimator], best: int, seed: int
) -> float:
    """Mean excess, in standard deviations, of the peak's events in the selection that is chosen.

    Args:
        null: background of all selections.
        estimators: one for each selection, the loosest first.
        best: index of the selection that the data chose.
        seed: seed of the pseudo-experiments.
    """
    if len(estimators) == 1:
        return 0.0
    with_signal = np.stack([one.expected for one in estimators])
    truth = NullHypothesis(null.background, null.rejected, with_signal)
    random = np.random.default_rng([seed, 36])
    rejected, selected = throw(truth, _N_TOYS, random)
    statistic = examine(null.background, rejected, selected)[1].statistic
    chosen = statistic.argmax(axis=1)
    excess = np.stack(
        [one.estimate(counts) for one, counts in zip(estimators, selected, strict=True)], axis=1
    )
    alike = chosen == best
    if alike.sum() < _MIN_CHOSEN:
        alike = np.ones(_N_TOYS, dtype=bool)
    return float(excess[alike, chosen[alike]].mean())
