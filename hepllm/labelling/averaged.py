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

HEAVIER, LIGHTER, STEP, SHARE = (
    f"likeliest hypothesis: {what}"
    for what in (
        "mass of the heavier particle",
        "mass of the lighter particle",
        "ratio of neighbouring masses",
        "share of the likelihood",
    )
)
"""Names of details on the hypothesis that explains the labels best; masses in GeV.

The share is no probability: the true masses are none of the hypotheses', and scores are not exact
ratios, so it comes near to 1 with many labelled events, whichever hypothesis is the nearest one.
"""


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
        self.points = points

    def log_odds(self, requests: Sequence[Request]) -> list[Floats]:
        """Returns log P(1) / P(0) of the targets of each request."""
        return [
            np.asarray(
                logsumexp(
                    self.log_weights(context)[:, None] + self.scores[:, list(targets)], axis=0
                )
            )
            for context, targets in requests
        ]

    def check_fit(self, size: int) -> None:
        """Any number of labelled events fits."""

    def likeliest(self, context: Context) -> tuple[Hypothesis, float]:
        """Returns the hypothesis that explains labelled events best, and its weight.

        The weight is its share of the sum of all likelihoods; see ``SHARE``.
        """
        weights = self.log_weights(context)
        best = int(weights.argmax())
        return self.points[best], float(np.exp(weights[best]))

    def log_weights(self, context: Context) -> Floats:
        """Logarithms of the weights of the hypotheses after labelled events, shape (G,); sum 1."""
        items, labels = (np.array(part, dtype=np.int64) for part in context)
        scores, wrong = self.scores[:, items], self._wrong_share
        right = np.log1p(-wrong)
        not_right = np.log(wrong) if wrong else -np.inf
        as_signal = np.logaddexp(right + scores, not_right)
        as_background = np.logaddexp(right, not_right + scores)
        total = np.where(labels == 1, as_signal, as_background).sum(axis=1)
        return np.asarray(total - logsumexp(total))

    @cached_property
    def scores(self) -> Floats:
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
    best, share = model.likeliest(Context(tuple(items.tolist()), tuple(labels[items].tolist())))
    heavier, lighter = best.masses
    masses = np.unique([one.masses for one in model.points])
    step = float((masses[1:] / masses[:-1]).max())
    further = {HEAVIER: heavier, LIGHTER: lighter, STEP: step, SHARE: share}
    return replace(found, details={**found.details, **further})
