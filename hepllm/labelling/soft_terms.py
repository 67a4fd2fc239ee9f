"""Terms of the loss of soft labels, as functions of the labels' logits.

How far a context agrees with the soft labels is the mean log-probability of the labels in it, one
product with a sparse matrix. All terms are in log-space and bounded: logits by ``LARGEST_LOGIT``,
predictions by a share of ``FLOOR`` that is spread evenly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hepllm.arrays import Floats
from hepllm.labelling.tuples import Tuples

LARGEST_LOGIT = 12.0
FLOOR = 0.02
TERMS = ("mutual", "ranking", "prior", "direct", "entropy")
_NEWTON_STEPS, _EXACT = 60, 1e-10


@dataclass(frozen=True, eq=False)
class TupleMatrix:
    """Tuples as tensors.

    Attributes:
        labels: sparse, shape (C, 2 N): shares of the contexts' labels, of signal and then of
            background, so that its product with log-probabilities is their mean.
        context: shape (M,).
        target: shape (M,).
        probability: shape (M,), predictions between FLOOR / 2 and 1 - FLOOR / 2.
        counts: shape (N,), predictions of each event.
    """

    labels: Tensor
    context: Tensor
    target: Tensor
    probability: Tensor
    counts: Tensor

    @classmethod
    def of(cls, tuples: Tuples) -> TupleMatrix:
        """Makes the tensors, in double precision."""
        column = np.where(tuples.label == 1, tuples.event, tuples.n_events + tuples.event)
        sizes = np.bincount(tuples.row, minlength=tuples.n_contexts)
        matrix = torch.sparse_coo_tensor(
            torch.from_numpy(np.stack([tuples.row, column])),
            torch.from_numpy(1.0 / sizes[tuples.row]),
            (tuples.n_contexts, 2 * tuples.n_events),
            check_invariants=False,
        ).coalesce()
        target = torch.from_numpy(tuples.target)
        bounded = (1 - FLOOR) * torch.from_numpy(tuples.log_odds).sigmoid() + FLOOR / 2
        counts = torch.bincount(target, minlength=tuples.n_events)
        return cls(matrix, torch.from_numpy(tuples.context), target, bounded, counts)

    def match(self, logits: Tensor) -> Tensor:
        """Mean log-probability of the labels of each context, shape (C,)."""
        both = torch.cat([functional.logsigmoid(logits), functional.logsigmoid(-logits)])
        found: Tensor = torch.sparse.mm(self.labels, both.unsqueeze(1)).squeeze(1)
        return found

    def weights(self, logits: Tensor, sharpness: float) -> Tensor:
        """Weights of the tuples of each target, which sum to 1, shape (M,)."""
        scores = sharpness * self.match(logits)[self.context]
        top = torch.full_like(logits, -torch.inf)
        top = top.scatter_reduce(0, self.target, scores.detach(), "amax")
        raised = (scores - top[self.target]).exp()
        sums = torch.zeros_like(logits).index_add(0, self.target, raised)
        return raised / sums[self.target]

    def predicted(self, logits: Tensor, sharpness: float) -> Tensor:
        """Predictions of the events, weighted by how well contexts agree with the labels, (N,)."""
        weighted = self.weights(logits, sharpness) * self.probability
        return torch.zeros_like(logits).index_add(0, self.target, weighted)

    def log_likelihood(self, logits: Tensor, sharpness: float) -> Tensor:
        """Mean over predicted events of the expected log-likelihood of their label."""
        weights = self.weights(logits, sharpness)
        signal = logits.sigmoid()[self.target]
        each = signal * self.probability.log() + (1 - signal) * (-self.probability).log1p()
        return (weights * each).sum() / (self.counts > 0).sum()


def balanced(raw: Tensor, share: float) -> Tensor:
    """Bounds logits, and shifts them so that the mean probability is ``share``; shape (N,).

    The shift is found by Newton's method within brackets, and one more step with gradients makes
    it the implicit function of the logits that it is.
    """
    bounded = LARGEST_LOGIT * torch.tanh(raw / LARGEST_LOGIT)
    with torch.no_grad():
        low = torch.full((), -3 * LARGEST_LOGIT, dtype=raw.dtype)
        high, shift = -low, torch.zeros((), dtype=raw.dtype)
        for _ in range(_NEWTON_STEPS):
            signal = (bounded + shift).sigmoid()
            excess = signal.mean() - share
            if abs(float(excess)) < _EXACT:
                break
            low, high = (low, shift) if excess > 0 else (shift, high)
            step = shift - excess / (signal * (1 - signal)).mean().clamp_min(1e-12)
            shift = step if low < step < high else (low + high) / 2
    signal = (bounded + shift).sigmoid()
    slope = (signal * (1 - signal)).mean().detach().clamp_min(1e-12)
    return bounded + shift - (signal.mean() - share) / slope


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the terms compare soft labels with.

    Attributes:
        tuples: predictions after contexts.
        direct: shape (N,), mean prediction after all contexts, whatever their labels.
        prior: shape (N,), calibrated prediction without a context.
        pairs: shape (P, 2), targets of one context, of which the first is predicted the higher.
        pair_context: shape (P,), their context.
        pair_weight: shape (P,), by how much, at most 1.
        sharpness: how much better a context that agrees counts.
    """

    tuples: TupleMatrix
    direct: Tensor
    prior: Tensor
    pairs: Tensor
    pair_context: Tensor
    pair_weight: Tensor
    sharpness: float

    @classmethod
    def of(
        cls, tuples: Tuples, prior: Floats, sharpness: float, n_pairs: int, seed: int
    ) -> Evidence:
        """Collects the evidence.

        Args:
            tuples: predictions.
            prior: shape (N,), calibrated log-odds without a context.
            sharpness: as in the class.
            n_pairs: most pairs for the ranking.
            seed: seed of the pairs.
        """
        matrix = TupleMatrix.of(tuples)
        sums = torch.zeros(tuples.n_events, dtype=torch.float64)
        sums = sums.index_add(0, matrix.target, matrix.probability)
        direct = torch.where(matrix.counts > 0, sums / matrix.counts.clamp_min(1), 0.5)
        first, second = _pairs_within(tuples.context, n_pairs, seed)
        gap = tuples.log_odds[first] - tuples.log_odds[second]
        ordered = np.where(
            gap[:, None] > 0, np.stack([first, second], 1), np.stack([second, first], 1)
        )
        return cls(
            matrix,
            direct,
            (1 - FLOOR) * torch.from_numpy(prior).sigmoid() + FLOOR / 2,
            torch.from_numpy(tuples.target[ordered]),
            torch.from_numpy(tuples.context[first]),
            torch.from_numpy(np.minimum(np.abs(gap), 1.0)),
            sharpness,
        )

    def terms(self, logits: Tensor) -> dict[str, Tensor]:
        """The terms, each a number that a better labelling has smaller.

        - ``mutual``: cross-entropy between a label and its prediction from the others' labels;
        - ``ranking``: pairs of targets that stand in another order than after a context, weighted
          by how well the context agrees with the labels;
        - ``prior``: cross-entropy with the calibrated prediction without a context;
        - ``direct``: the same with the mean prediction after all contexts;
        - ``entropy``: that of the labels, which makes them decide.
        """
        predicted = self.tuples.predicted(logits, self.sharpness)
        known = self.tuples.counts > 0
        signal = logits.sigmoid()
        own = signal * functional.logsigmoid(logits) + (1 - signal) * functional.logsigmoid(-logits)
        return {
            "mutual": _cross_entropy(logits[known], predicted[known]),
            "ranking": self._ranking(logits),
            "prior": _cross_entropy(logits, self.prior),
            "direct": _cross_entropy(logits[known], self.direct[known]),
            "entropy": -own.mean(),
        }

    def _ranking(self, logits: Tensor) -> Tensor:
        if not len(self.pairs):
            return logits.sum() * 0.0
        match = self.sharpness * self.tuples.match(logits)
        weight = (match - match.detach().max()).exp()[self.pair_context] * self.pair_weight
        higher, lower = logits[self.pairs].unbind(1)
        return (weight * functional.softplus(lower - higher)).sum() / weight.sum().clamp_min(1e-12)


def _cross_entropy(logits: Tensor, predicted: Tensor) -> Tensor:
    signal = logits.sigmoid()
    return -(signal * predicted.log() + (1 - signal) * (-predicted).log1p()).mean()


def _pairs_within(context: np.ndarray, n_pairs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws pairs of different tuples of one context; two arrays of positions."""
    random = np.random.default_rng([seed, 7])
    order = np.argsort(context, kind="stable")
    starts = np.searchsorted(context[order], np.arange(int(context.max(initial=-1)) + 2))
    sizes = np.diff(starts)
    first = random.integers(len(context), size=n_pairs)
    row = context[order[first]]
    second = starts[row] + random.integers(0, sizes[row])
    differs = first != second
    return order[first[differs]], order[second[differs]]
