"""Ensembles of classifiers: each stops early on its own held-out events; their mean is smoother."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hepllm.arrays import Floats
from hepllm.baselines.boosting import fit_boosting
from hepllm.baselines.scorer import Fit, Scorer, TrainingSample
from hepllm.config.weak import WeakClassifier
from hepllm.weak.bins import FeatureBins

MIN_LEAF = 150
"""Fewest events of a leaf: of a signal that is rare in both classes, smaller ones learn noise."""


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Classifiers that were trained on the same events; made by ``fit_ensemble``.

    Attributes:
        members: the classifiers.
        bins: bins of the features that they read; None for the features themselves.
    """

    members: Sequence[Scorer]
    bins: FeatureBins | None = None

    def score(self, features: Floats) -> Floats:
        """Mean probability of class 1, shape (N,), for features (N, F)."""
        if self.bins is not None:
            features = self.bins.codes(features)
        total = np.zeros(len(features))
        for member in self.members:
            total += 1 / (1 + np.exp(-member.score(features)))
        return total / len(self.members)


def fit_ensemble(sample: TrainingSample, classifier: WeakClassifier, members: int) -> Ensemble:
    """Trains classifiers that differ by their seed, so by the events that they stop early on.

    These are drawn from ``sample``: a validation within the events of the training, as the nested
    one of CWoLa (arXiv:1902.02634). The mean of 50 boostings is what arXiv:2309.13111 scores by.

    Raises:
        InputError: for events that no classifier can be trained on.
        ValueError: for a language model, of which there is no ensemble.
    """
    fit, bins = _fit_of(classifier), None
    if classifier == "boosting":
        sample.check()
        bins = FeatureBins.of(sample.features)
        sample = replace(sample, features=bins.codes(sample.features))
    seeds = np.random.SeedSequence([sample.seed, 61]).generate_state(members)
    return Ensemble([fit(replace(sample, seed=int(seed))) for seed in seeds], bins)


def _fit_of(classifier: WeakClassifier) -> Fit:
    if classifier == "model":
        raise ValueError("language models are trained by hepllm.stages.weak_training")
    if classifier == "boosting":
        return partial(fit_boosting, min_leaf=MIN_LEAF)
    from hepllm.baselines.mlp import fit_network  # noqa: PLC0415 (imports torch)

    return fit_network
