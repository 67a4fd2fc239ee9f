"""Soft labels by gradients: the differentiable version of a coherent labelling.

Predictions of tuples are computed once; then the probability of each event is optimised under the
terms of ``soft_terms``. The mean probability is held at a stated share, so that one label for all
events is no solution. The optimisation stops where the likelihood of predictions that were held out
turns, and each term is also optimised alone, so that it is seen what comes from which.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hepllm.arrays import Floats
from hepllm.config import SoftLabelConfig
from hepllm.errors import RunError
from hepllm.labelling.soft_terms import TERMS, Evidence, TupleMatrix, balanced
from hepllm.labelling.tuples import Tuples

LOG = logging.getLogger(__name__)

_WIDEST = 4.0
"""Largest factor by which a learned weight may differ from its setting, so that none vanishes."""
_TRIVIAL = 0.02
"""Standard deviation of probabilities below which they say nothing of the events."""
_LEAST_GAIN = 1e-5


@dataclass(frozen=True, eq=False)
class SoftLabels:
    """Optimised labels of N events.

    Attributes:
        logits: shape (N,), log-odds of signal.
        epochs: epochs until the best held-out likelihood.
        held_out: expected log-likelihood of predictions that were held out, at the best epoch.
        start_held_out: the same at the start.
        terms: the terms at the end.
        weights: their weights, learned or as set.
        is_trivial: whether the probabilities are nearly the same for all events.
    """

    logits: Floats
    epochs: int
    held_out: float
    start_held_out: float
    terms: Mapping[str, float]
    weights: Mapping[str, float]
    is_trivial: bool


def fit_soft_labels(
    tuples: Tuples,
    prior: Floats,
    config: SoftLabelConfig,
    share: float,
    seed: int,
    *,
    only: str | None = None,
    start: Floats | None = None,
) -> SoftLabels:
    """Optimises soft labels.

    Args:
        tuples: predictions after contexts.
        prior: shape (N,), calibrated log-odds without a context.
        config: weights of terms, optimiser, stopping.
        share: mean probability of signal.
        seed: decides what is held out, and pairs for the ranking.
        only: optimise this term alone.
        start: shape (N,), first log-odds; None for ``prior``.

    Raises:
        RunError: a term is not finite, which the bounds exclude.
    """
    is_held = np.random.default_rng([seed, 8]).random(len(tuples)) < config.held_out
    evidence = Evidence.of(tuples.take(~is_held), prior, config.sharpness, config.pairs, seed)
    held = TupleMatrix.of(tuples.take(is_held) if is_held.any() else tuples)
    raw = torch.from_numpy(np.array(prior if start is None else start, dtype=np.float64))
    raw = raw.clone().requires_grad_()
    weights = _Weights(config, only)
    step = _stepper(raw, weights, evidence, config, share)

    def measure() -> float:
        with torch.no_grad():
            return float(held.log_likelihood(balanced(raw, share), config.sharpness))

    best, best_epoch, kept = measure(), 0, raw.detach().clone()
    first = best
    for epoch in range(1, config.epochs + 1):
        step()
        present = measure()
        if not np.isfinite(present):
            raise RunError(
                "soft labels: the held-out likelihood is not finite; lower label.soft.lr"
            )
        if present > best + _LEAST_GAIN:
            best, best_epoch, kept = present, epoch, raw.detach().clone()
        elif epoch - best_epoch >= config.patience:
            break
    with torch.no_grad():
        logits = balanced(kept, share)
        terms = {name: float(value) for name, value in evidence.terms(logits).items()}
        spread = float(logits.sigmoid().std())
    return SoftLabels(
        logits.numpy(), best_epoch, best, first, terms, weights.values(), spread < _TRIVIAL
    )


def fit_each_term(
    tuples: Tuples, prior: Floats, config: SoftLabelConfig, share: float, seed: int
) -> dict[str, SoftLabels]:
    """Optimises each term of positive weight alone, the entropy's excepted: alone it says nothing.

    The arguments are those of ``fit_soft_labels``.
    """
    chosen = [name for name in TERMS if name != "entropy" and getattr(config, name) > 0]
    return {name: fit_soft_labels(tuples, prior, config, share, seed, only=name) for name in chosen}


class _Weights:
    """Weights of the terms; learned ones stay within a factor of their settings.

    A learned weight w pays -log w for a smaller loss (Kendall et al., arXiv:1705.07115). Without
    bounds, the term that any labelling can make small would end with all the weight.
    """

    def __init__(self, config: SoftLabelConfig, only: str | None) -> None:
        names = TERMS if only is None else (only,)
        self.base = {name: float(getattr(config, name)) for name in names}
        self.base = {name: value for name, value in self.base.items() if value > 0}
        self.is_learned = config.learn_weights and only is None
        self.free = torch.zeros(len(self.base), dtype=torch.float64, requires_grad=self.is_learned)

    def loss(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum, with what learned weights pay."""
        found = torch.stack([terms[name] for name in self.base])
        total = (self._tensor() * found).sum()
        return total - self._tensor().log().sum() if self.is_learned else total

    def values(self) -> dict[str, float]:
        """The weights by name."""
        return dict(zip(self.base, self._tensor().detach().tolist(), strict=True))

    def _tensor(self) -> Tensor:
        base = torch.tensor(list(self.base.values()), dtype=torch.float64)
        return base * _WIDEST ** torch.tanh(self.free)


def _stepper(
    raw: Tensor, weights: _Weights, evidence: Evidence, config: SoftLabelConfig, share: float
) -> Callable[[], None]:
    """Makes the function that does one epoch."""
    free = [raw, weights.free] if weights.is_learned else [raw]
    optimizer: torch.optim.Optimizer
    if config.optimizer == "lbfgs":
        optimizer = torch.optim.LBFGS(free, lr=1.0, max_iter=1, line_search_fn="strong_wolfe")
    else:
        optimizer = torch.optim.AdamW(free, lr=config.lr, weight_decay=0.0)

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = weights.loss(evidence.terms(balanced(raw, share)))
        found.backward()  # type: ignore[no-untyped-call]
        return found

    def step() -> None:
        optimizer.step(loss)  # type: ignore[no-untyped-call,unused-ignore]

    return step
