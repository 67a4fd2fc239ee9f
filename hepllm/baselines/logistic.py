"""Logistic regression on standardised features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from hepllm.arrays import Floats
from hepllm.baselines.scorer import TrainingSample
from hepllm.model.adapter.embedding import Standardizer

_MAX_ITERATIONS = 2000


@dataclass(frozen=True, eq=False)
class Logistic:
    """A linear classifier; made by ``fit_logistic``.

    Attributes:
        standardizer: the model's own transform and standardisation of each feature.
        classifier: the linear classifier.
    """

    standardizer: Standardizer
    classifier: LogisticRegression

    def score(self, features: Floats, hypothesis: NDArray[np.object_] | None = None) -> Floats:
        """Logits of (N, F) features, shape (N,)."""
        del hypothesis
        design = _design(self.standardizer, features)
        return np.asarray(self.classifier.decision_function(design), dtype=np.float64)


def fit_logistic(sample: TrainingSample) -> Logistic:
    """Trains a logistic regression with a weak ridge penalty (C = 1).

    Each feature is standardised as in the adapter, 0 where missing; another column says whether it
    is missing. A convex fit cannot use negative weights; they count as 0.

    Raises:
        InputError: for events that no classifier can be trained on.
    """
    sample.check()
    standardizer = Standardizer(sample.names)
    standardizer.fit(np.ascontiguousarray(sample.features, dtype=np.float64))
    classifier = LogisticRegression(max_iter=_MAX_ITERATIONS)
    weight = None if sample.weight is None else np.clip(sample.weight, 0, None)
    classifier.fit(_design(standardizer, sample.features), sample.label, sample_weight=weight)
    return Logistic(standardizer, classifier)


def _design(standardizer: Standardizer, features: Floats) -> Floats:
    values = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float64))
    standard, missing = standardizer(values)
    return torch.cat([standard, missing.float()], dim=1).double().numpy()
