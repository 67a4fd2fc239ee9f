"""The part of a step that learns from events without labels.

It takes two passes. The first scores the events of an estimate without gradients, and the closed
form of ``unsupervised_risk`` gives the derivative of the term with respect to each score. The
second multiplies these with the gradients of the scores, in micro-batches of any size: their sum is
the gradient of the whole estimate, which therefore never needs to be in memory at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from hepllm.arrays import Floats, Ints
from hepllm.config import UnsupervisedConfig
from hepllm.errors import InputError, RunError
from hepllm.learning.distributed import ALONE, Team
from hepllm.learning.unsupervised_risk import (
    LEAST_RARER,
    Estimate,
    NoMixtureError,
    estimate,
    events_needed,
)
from hepllm.model.inputs import ModelInputs

LOG = logging.getLogger(__name__)

_DRAWN = 81
"""Stream of random numbers, beside those of other modules."""

_SPIKES = 10.0
"""Distance of the classes, in their standard deviations, from which scores are two spikes."""

_FACTOR = 5.0
"""Largest factor between the odds of the events that are called signal and of the prior."""


def refuse_few(n_pool: int, config: UnsupervisedConfig) -> None:
    """Refuses estimates in which the rarer class would have too few events.

    Args:
        n_pool: unlabelled events.
        config: settings of the term; without a prior there is none.

    Raises:
        InputError: if so.
    """
    if config.prior is None:
        return
    n_events, needed = _per_estimate(n_pool, config), events_needed(config.prior)
    if n_events < needed:
        rarer = min(config.prior, 1 - config.prior) * n_events
        enlarge = f"set train.unsupervised.events={needed}" if n_pool >= needed else "give more"
        raise InputError(
            f"train.unsupervised: an estimate from {n_events} of {n_pool} unlabelled events with a "
            f"prior of {config.prior:g} has {rarer:.3g} of the rarer class, and needs "
            f"{LEAST_RARER}; {enlarge}"
        )


def _per_estimate(n_pool: int, config: UnsupervisedConfig) -> int:
    return min(config.events or n_pool, n_pool)


@dataclass(frozen=True)
class Passes:
    """How the two passes compute scores, of shape (B,), of some events.

    Attributes:
        score: without gradients.
        logits: with gradients.
        backward: adds the gradient of a scalar to the weights.
        micro_batch: most events at once in the second pass; None: all.
        team: processes that share the events.
    """

    score: Callable[[ModelInputs], Floats]
    logits: Callable[[ModelInputs], Tensor]
    backward: Callable[[Tensor], object]
    micro_batch: int | None = None
    team: Team = ALONE


@dataclass(eq=False)
class UnlabelledTerm:
    """The term of the loss on M unlabelled events.

    Attributes:
        inputs: the events.
        config: its settings.
        seed: seed of the training, which decides the events of each step.
        log_odds: logarithm of signal over background in the labelled loss; scores are shifted from
            these odds to those of the prior, so that both parts of the loss want the same score.
        latest: what TensorBoard shows of the last step that had the term.
    """

    inputs: ModelInputs
    config: UnsupervisedConfig
    seed: int
    log_odds: float
    latest: dict[str, float] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Raises InputError as ``refuse_few``."""
        refuse_few(len(self.inputs), self.config)

    @property
    def prior(self) -> float:
        """Share of signal among the events."""
        if self.config.prior is None:
            raise ValueError("an unlabelled term needs a prior")
        return self.config.prior

    @property
    def n_events(self) -> int:
        """Events per estimate."""
        return _per_estimate(len(self.inputs), self.config)

    def is_due(self, step: int, total_steps: int) -> bool:
        """Whether a step comes after the warm-up, ``step`` of ``total_steps`` being done."""
        return step >= round(self.config.warmup_fraction * total_steps)

    def add_gradient(self, step: int, passes: Passes) -> None:
        """Adds the gradient of the weighted term to the weights, and keeps ``latest``.

        Args:
            step: steps already done; decides the events.
            passes: how scores and gradients are computed.

        Raises:
            RunError: if a score is not finite.
        """
        random = np.random.default_rng([self.seed, _DRAWN, step])
        events = random.permutation(len(self.inputs))[: self.n_events]
        scores = np.zeros(len(events))
        mine = passes.team.part(len(events))
        scores[mine] = passes.score(self.inputs.take(events[mine]))
        scores = passes.team.sum_array(scores) + self._shift
        if not np.isfinite(scores).all():
            raise RunError(
                f"step {step + 1}: scores of unlabelled events are not finite; "
                "lower the learning rates, or train.unsupervised.weight"
            )
        try:
            found = estimate(scores, self.prior, self.config.kind)
        except NoMixtureError as error:
            self._skip(step, str(error))
            return
        self._watch(step, scores, found)
        self._descend(events, found, passes)

    def _descend(self, events: Ints, found: Estimate, passes: Passes) -> None:
        """The second pass, over those events whose gradients count."""
        n_counted = min(self.config.gradient_events or len(events), len(events))
        slopes = found.slope[:n_counted] * (self.config.weight * len(events) / n_counted)
        part = passes.team.part(n_counted)
        size = passes.micro_batch or n_counted
        for start in range(part.start, part.stop, size):
            some = slice(start, min(start + size, part.stop))
            logits = passes.logits(self.inputs.take(events[some]))
            slope = torch.from_numpy(slopes[some]).to(logits.device, logits.dtype)
            passes.backward((slope * logits).sum())

    @property
    def _shift(self) -> float:
        return float(np.log(self.prior) - np.log1p(-self.prior)) - self.log_odds

    def _skip(self, step: int, reason: str) -> None:
        self.latest = {"unsupervised/is_fitted": 0.0}
        self._warn(
            "fit",
            f"step {step + 1}: no unlabelled term, because {reason}: such steps learn from labels "
            "alone (unsupervised/is_fitted is 0); raise train.unsupervised.warmup_fraction",
        )

    def _watch(self, step: int, scores: Floats, found: Estimate) -> None:
        """Keeps what is shown of an estimate, and warns of scores that cannot be right."""
        called = float((scores > 0).mean())
        shown = {
            "loss": found.value,
            "called_signal": called,
            "mean_probability": float(np.exp(-np.logaddexp(0.0, -scores)).mean()),
            "is_fitted": 1.0,
        }
        if found.mixture is not None:
            shown |= _moments(found.mixture.mean, found.mixture.sigma)
            shown["distance"] = found.mixture.distance()
            if shown["distance"] > _SPIKES:
                self._warn(
                    "spikes",
                    f"step {step + 1}: the scores of unlabelled events are two spikes, "
                    f"{shown['distance']:.3g} standard deviations apart: the model is certain of "
                    "each of them, right or wrong; lower train.unsupervised.weight",
                )
        self.latest = {f"unsupervised/{name}": value for name, value in shown.items()}
        at_least = 0.5 / len(scores)
        share = shown["mean_probability"] if self.config.kind == "posterior" else called
        share = float(np.clip(share, at_least, 1 - at_least))
        odds = share / (1 - share) / (self.prior / (1 - self.prior))
        if max(odds, 1 / odds) > _FACTOR:
            self._warn(
                "fraction",
                f"step {step + 1}: the model calls {100 * share:.3g} % of the unlabelled events "
                f"signal, and train.unsupervised.prior is {100 * self.prior:.3g} %: it cannot tell "
                "the classes apart, collapses to one, or the prior is wrong",
            )

    def _warn(self, kind: str, text: str) -> None:
        """Warns once of each kind of trouble."""
        if kind not in self._told:
            self._told.add(kind)
            LOG.warning("%s", text)


def _moments(mean: Floats, sigma: Floats) -> Mapping[str, float]:
    names = ("background", "signal")
    return {
        f"{kind}_{name}": float(value)
        for kind, values in (("mean", mean), ("sigma", sigma))
        for name, value in zip(names, values, strict=True)
    }
