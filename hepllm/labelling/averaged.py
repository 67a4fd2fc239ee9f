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
from functools import cached_property

import numpy as np
from scipy.special import logsumexp

from hepllm.arrays import Floats
from hepllm.labelling.predictions import Request


class HypothesisAverage:
    """Predicts labels by the average over hypotheses.

    Args:
        score: log-odds of the M items under each of G hypotheses, which are equally probable
            before any labelled event, shape (G, M); asked once, when a prediction is needed.
        wrong_share: share of the labels that may be wrong, below one half.
    """

    def __init__(self, score: Callable[[], Floats], wrong_share: float) -> None:
        self._score = score
        self._wrong_share = wrong_share

    def log_odds(self, requests: Sequence[Request]) -> list[Floats]:
        """Returns log P(1) / P(0) of the targets of each request."""
        return [
            np.asarray(
                logsumexp(
                    self.log_weights(request)[:, None] + self._scores[:, list(request.targets)],
                    axis=0,
                )
            )
            for request in requests
        ]

    def check_fit(self, size: int) -> None:
        """Any number of labelled events fits."""

    def log_weights(self, request: Request) -> Floats:
        """Log-probabilities of the hypotheses after the labelled events, shape (G,)."""
        items, labels = (np.array(part, dtype=np.int64) for part in request.context)
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
