"""Pseudo-labels: which unlabelled events a round of self-training takes, and as what.

Two bands of the scores are offered. The confident one has few wrong labels, but of events that the
model tells apart already. The middle one has events that are typical of what the model takes for
each class: neither the easiest, nor those at the border, whose labels are often wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Bools, Floats, Ints
from hepllm.config import SelfTrainingConfig
from hepllm.errors import InputError

_NOISE = 82
"""Stream of random numbers, beside those of other modules."""

_FEWEST = 10
"""Events of each class that a round needs."""


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """K events with labels that a model gave them; arrays of shape (K,).

    Attributes:
        events: positions in the pool, rising.
        is_signal: the class.
        target: probability of signal in the balance of the training.
        weight: weight in the loss.
        repeats: how often each labelled event is shown beside them in a pass. Few labelled events
            of large weights would each be alone in the loss of its batch.
    """

    events: Ints
    is_signal: Bools
    target: Floats
    weight: Floats
    repeats: int

    def __len__(self) -> int:
        return len(self.events)


def choose_pseudo_labels(
    score: Floats,
    target: Floats,
    labelled: tuple[float, float],
    prior: float,
    config: SelfTrainingConfig,
) -> PseudoLabels:
    """Chooses events of a pool by their scores.

    The prior's share of the highest scores counts as signal. Of each class, the stated share is
    taken: the farthest from the border, or those around the median. Classes have the balance of the
    labelled events, and together ``weight`` times the weight of these and their repetitions.

    Args:
        score: shape (N,).
        target: calibrated probability of signal in the balance of the training, shape (N,).
        labelled: sums of weights of the labelled background and signal.
        prior: share of signal in the pool.
        config: band, share and weight.

    Raises:
        InputError: if a class would have fewer than 10 events.
    """
    order = np.argsort(score, kind="stable")
    n_signal = round(prior * len(score))
    sides = (order[: len(order) - n_signal], order[len(order) - n_signal :][::-1])
    chosen = [_band(side, config) for side in sides]
    fewest = min(len(part) for part in chosen)
    if fewest < _FEWEST:
        raise InputError(
            f"train.self_training: {fewest} pseudo-labelled events of a class from {len(score)} "
            f"unlabelled ones with a prior of {prior:g}, and {_FEWEST} are needed; raise "
            "train.self_training.share, or give more events"
        )
    events = np.concatenate(chosen)
    is_signal = np.repeat([False, True], [len(part) for part in chosen])
    repeats = max(1, round(len(events) / (config.weight * sum(labelled))))
    factors = [
        config.weight * repeats * total / len(part)
        for total, part in zip(labelled, chosen, strict=True)
    ]
    rising = np.argsort(events)
    weight = np.where(is_signal, factors[1], factors[0])
    return PseudoLabels(
        events[rising], is_signal[rising], target[events[rising]], weight[rising], repeats
    )


def with_noise(
    features: Floats, is_rarer: Bools, strength: float, seed: int, number: int
) -> Floats:
    """Adds Gaussian noise to the features of the rarer class's pseudo-labelled events.

    Args:
        features: shape (K, F), NaN where missing, which stays so.
        is_rarer: events that get noise, shape (K,).
        strength: standard deviation of the noise, in that of each feature among the K events.
        seed: seed of the training.
        number: number of the round.

    Returns:
        Shape (K, F).
    """
    spread = np.ma.masked_invalid(features).std(axis=0).filled(0.0)
    drawn = np.random.default_rng([seed, _NOISE, number]).normal(size=features.shape)
    noisy: Floats = features + strength * spread * drawn * is_rarer[:, np.newaxis]
    return noisy


def _band(side: Ints, config: SelfTrainingConfig) -> Ints:
    """Some events of a class, which are ordered from the farthest to the border."""
    n_chosen = round(config.share * len(side))
    start = 0 if config.band == "confident" else (len(side) - n_chosen) // 2
    return side[start : start + n_chosen]
