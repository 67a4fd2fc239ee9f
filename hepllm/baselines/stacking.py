"""The combination of model and boosting on validation data, to test whether it gains over each.

A logistic regression combines their two logits (stacked generalisation, Wolpert, Neural Networks 5
(1992) 241). Both were trained on other events than the validation data.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from hepllm.arrays import Floats
from hepllm.evaluation.records import DifferenceRecord

STACK = "stack"
"""Name of the combination in tables."""

_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Stack:
    """A combination of scores; made by ``fit_stack``.

    Attributes:
        classifier: combines the scores.
        validation: (V,) scores of the validation events for the choice of thresholds, each from
            a fit without the event.
    """

    classifier: LogisticRegression
    validation: Floats

    def score(self, scores: Floats) -> Floats:
        """Logits of (N, K) scores, shape (N,)."""
        return np.asarray(self.classifier.decision_function(scores), dtype=np.float64)


def fit_stack(
    scores: Floats, label: NDArray[np.integer], weight: Floats | None, seed: int
) -> Stack:
    """Fits the combination.

    Args:
        scores: (V, K) logits of the validation events.
        label: (V,), at least 5 events of 1 and of 0.
        weight: (V,); a convex fit cannot use negative weights, they count as 0.
        seed: seed of the folds for ``Stack.validation``.
    """
    weights = np.ones(len(label)) if weight is None else np.clip(weight, 0, None)
    out_of_fold = np.empty(len(label))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    for train, rest in folds.split(scores, label):
        fitted = LogisticRegression().fit(scores[train], label[train], weights[train])
        out_of_fold[rest] = fitted.decision_function(scores[rest])
    return Stack(LogisticRegression().fit(scores, label, weights), out_of_fold)


def describe_gain(parts: Mapping[str, DifferenceRecord]) -> str:
    """Describes the gain in AUC of the combination over each of its parts, by name."""
    shown = []
    for name, difference in parts.items():
        low, high = difference.interval or (float("nan"), float("nan"))
        text = "undefined" if difference.estimate is None else f"{difference.estimate:+.4f}"
        shown.append(f"{text} [{low:+.4f}, {high:+.4f}] over {name}")
    helps = all((difference.low or 0.0) > 0 for difference in parts.values())
    verdict = "is better than each part" if helps else "shows no gain over its best part"
    text = f"In this training the combination {verdict}. AUC {'; '.join(shown)}."
    return textwrap.fill(text, 120)
