"""Predictions after labelled events by a model that is told hypotheses: their average.

A model of P(signal | event, hypothesis) needs no training to read labelled events. They say which
hypothesis holds, and a prediction is the average over hypotheses h, by Bayes' theorem. With
e^s = p(x | signal of h) / p(x | background), which is what the model's score s says for classes
of equal size, and labels of which a share w is wrong,

    P(h | labelled events) ~ prod_i ((1 - w) e^{s_i} + w)   over those labelled signal
                             prod_j (w e^{s_j} + 1 - w)     over those labelled background
    P(signal | x) / P(background | x) = sum_h P(h | labelled events) e^{s_h(x)}

This is what in-context learning amounts to where it works (Xie et al., arXiv:2111.02080), with the
sum done exactly. The background is the same under all hypotheses, which is why it says little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from scipy.special import logsumexp

from hepllm.arrays import Floats, Ints
from hepllm.hypotheses.hypothesis import Hypothesis
from hepllm.labelling.methods import EventLabels
from hepllm.labelling.predictions import Context, Request
from hepllm.schema import UNKNOWN

HEAVIER, LIGHTER, PROBABILITY = (
    f"likeliest hypothesis: {what}"
    for what in ("mass of the heavier particle", "mass of the lighter particle", "probability")
)
"""Names of details on the hypothesis that explains the labels best; masses in GeV."""


class HypothesisAverage:
    """Predicts labels by the average over hypotheses.

    Args:
        score: log-odds of the M items under each of G hypotheses, which are equally probable
            before any labelled event, shape (G, M); asked once, when a prediction is needed.
        wrong_share: share of the labels that may be wrong, below one half.
        points: the G hypotheses.
    """

    def __init__(
        self, score: Callable[[], Floats], wrong_share: float, points: Sequence[Hypothesis]
    ) -> None:
        self._score = score
        self._wrong_share = wrong_share
        self._points = points

    def log_odds(self, requests: Sequence[Request]) -> list[Floats]:
        """Returns log P(1) / P(0) of the targets of each request."""
        return [
            np.asarray(
                logsumexp(
                    self.log_weights(context)[:, None] + self._scores[:, list(targets)], axis=0
                )
            )
            for context, targets in requests
        ]

    def check_fit(self, size: int) -> None:
        """Any number of labelled events fits."""

    def likeliest(self, context: Context) -> tuple[Hypothesis, float]:
        """Returns the hypothesis that explains labelled events best, and its probability."""
        weights = self.log_weights(context)
        best = int(weights.argmax())
        return self._points[best], float(np.exp(weights[best]))

    def log_weights(self, context: Context) -> Floats:
        """Log-probabilities of the hypotheses after the labelled events, shape (G,)."""
        items, labels = (np.array(part, dtype=np.int64) for part in context)
        scores, wrong = self._scores[:, items], self._wrong_share
        right = np.log1p(-wrong)
        not_right = np.log(wrong) if wrong else -np.inf
        as_signal = np.logaddexp(right + scores, not_right)
        as_background = np.logaddexp(right, not_right + scores)
        total = np.where(labels == 1, as_signal, as_background).sum(axis=1)
        return np.asarray(total - logsumexp(total))

    @cached_property
    def _scores(self) -> Floats:
        """Log-odds of the items under each hypothesis, shape (G, M)."""
        return self._score()


def with_likeliest(found: EventLabels, model: HypothesisAverage, event: Ints) -> EventLabels:
    """Adds to the details of a labelling which hypothesis explains it best.

    Args:
        found: labels of N events.
        model: what predicted them.
        event: shape (M,), event of each item.
    """
    labels = found.labels[event]
    (items,) = np.nonzero(labels != UNKNOWN)
    best, probability = model.likeliest(
        Context(tuple(items.tolist()), tuple(labels[items].tolist()))
    )
    heavier, lighter = best.masses
    further = {HEAVIER: heavier, LIGHTER: lighter, PROBABILITY: probability}
    return replace(found, details={**found.details, **further})
