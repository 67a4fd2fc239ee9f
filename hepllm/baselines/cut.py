"""A rectangular cut, as by hand, for two heavy jets with two prongs each.

An event passes at threshold t if the mass of the lighter jet is at least m, the masses differ by at
least d, and tau21 of *both* jets is at most t. The training events fix m and d; t is the score, so
that the cut has a ROC curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepllm.arrays import Floats
from hepllm.baselines.scorer import TrainingSample
from hepllm.evaluation.metrics import roc
from hepllm.evaluation.scores import scored_events

CUT_FEATURES = ("jet_mass_light", "jet_mass_delta", "tau21_light", "tau21_heavy")
"""Features that the cut needs."""

_FAILED = -10.0
"""Score of an event that fails the mass cuts or lacks a feature; far below -tau21."""

_QUANTILES = np.arange(0.0, 0.95, 0.1)
_MIN_BACKGROUND_SHARE = 0.002
_MIN_BACKGROUND = 10


@dataclass(frozen=True)
class HandCut:
    """A rectangular cut; made by ``fit_cut``.

    Attributes:
        columns: places of ``CUT_FEATURES`` among the features.
        mass_min: smallest mass of the lighter jet in GeV.
        delta_min: smallest difference of the jet masses in GeV.
    """

    columns: tuple[int, ...]
    mass_min: float
    delta_min: float

    def score(self, features: Floats, hypothesis: NDArray[np.object_] | None = None) -> Floats:
        """Minus the larger tau21 where the masses pass, shape (N,); not a logit."""
        del hypothesis
        mass, delta, tau_light, tau_heavy = features[:, list(self.columns)].T
        tau = np.maximum(tau_light, tau_heavy)
        passes = (mass >= self.mass_min) & (delta >= self.delta_min) & np.isfinite(tau)
        return np.where(passes, -np.where(passes, tau, 0.0), _FAILED)


def fit_cut(sample: TrainingSample) -> HandCut:
    """Chooses the two mass cuts with the largest SIC on the training events.

    The candidates are the deciles of the signal. At least 10 background events, and 0.2 % of
    them, must pass a cut in t. The sample needs all ``CUT_FEATURES``.

    Raises:
        InputError: for events that no classifier can be trained on.
    """
    sample.check()
    columns = tuple(sample.names.index(name) for name in CUT_FEATURES)
    candidates = [
        HandCut(columns, float(mass), float(delta))
        for mass in _deciles(sample, columns[0])
        for delta in _deciles(sample, columns[1])
    ]
    return max(candidates, key=lambda cut: _best_sic(cut, sample))


def _deciles(sample: TrainingSample, column: int) -> Floats:
    values = sample.features[sample.label == 1, column]
    present = values[np.isfinite(values)]
    lowest = np.zeros(1)
    return np.append(lowest, np.quantile(present, _QUANTILES[1:])) if len(present) else lowest


def _best_sic(cut: HandCut, sample: TrainingSample) -> float:
    events = scored_events(cut.score(sample.features), sample.label, sample.weight)
    n_min = max(_MIN_BACKGROUND, round(_MIN_BACKGROUND_SHARE * events.n_background))
    sic = roc(events).sic(n_min)
    return float(np.nanmax(np.append(sic, 0.0)))
