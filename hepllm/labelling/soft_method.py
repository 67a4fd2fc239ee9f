"""Method ``soft``: where its predictions come from, and what it starts from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Floats, Ints, Labels
from hepllm.config import LabelConfig
from hepllm.errors import InputError
from hepllm.evaluation.calibration import expit, fit_calibration, logit
from hepllm.evaluation.scores import scored_events
from hepllm.labelling.peers import mean_by_event, zero_shot
from hepllm.labelling.predictions import BudgetSpentError, Predictions
from hepllm.labelling.soft_labels import SoftLabels, fit_each_term, fit_soft_labels
from hepllm.labelling.tuples import Tuples, join_tuples, predict_tuples
from hepllm.schema import BACKGROUND, SIGNAL, UNKNOWN

LOG = logging.getLogger(__name__)

_FAR = 0.2
"""Beyond it a share is not that of pools that are half signal, in which runs call 44 to 56 %."""

_FOR_PLATT = 5
"""Landmarks of each class from which two parameters are fitted; from fewer, one."""


@dataclass(frozen=True, eq=False)
class SoftResult:
    """Soft labels of N events, and what they came from.

    Attributes:
        start: shape (N,), log-odds of the prior, with which the optimisation begins.
        together: all terms.
        alone: each term alone.
    """

    start: Floats
    together: SoftLabels
    alone: Mapping[str, SoftLabels]


def soft_labels(
    predictions: Predictions,
    event: Ints,
    landmarks: Labels,
    config: LabelConfig,
    seed: int,
) -> SoftResult:
    """Labels events by the differentiable version.

    Args:
        predictions: asks the model: each item once without a context, the rest in tuples.
        event: shape (M,), event of each item.
        landmarks: shape (N,), a few known labels, -1 elsewhere.
        config: ``context``, ``soft`` and what is known of the share of signal.
        seed: seed of all draws.

    Raises:
        BudgetSpentError: not even one round of tuples fits into the budget.
    """
    soft, share = config.soft, config.expected_share
    n_events = int(event.max()) + 1
    unseen = mean_by_event(zero_shot(predictions, len(event)), event)
    _doubt_share(unseen, config)
    start = calibrated_prior(unseen, landmarks, share)
    wanted = min(soft.tuples * n_events, predictions.left)
    several, probability = list[Tuples](), expit(start)
    for number in range(soft.rounds):
        try:
            drawn = predict_tuples(
                predictions,
                event,
                probability,
                wanted // soft.rounds,
                size=config.context,
                per_context=soft.per_context,
                seed=(seed, 9, number),
            )
        except BudgetSpentError:
            if not several:
                raise
            break
        several.append(drawn)
        tuples = join_tuples(several)
        together = fit_soft_labels(tuples, start, soft, share, seed)
        probability = expit(together.logits)
    alone = fit_each_term(tuples, start, soft, share, seed)
    for name, one in {"all terms": together, **alone}.items():
        LOG.info(
            "%s: held-out log-likelihood %.4f after %d epochs, %.4f before%s",
            name,
            one.held_out,
            one.epochs,
            one.start_held_out,
            ", all probabilities nearly equal" if one.is_trivial else "",
        )
    return SoftResult(start, together, alone)


def _doubt_share(log_odds: Floats, config: LabelConfig) -> None:
    """Warns where a half is held because nothing was stated, and the model alone says otherwise."""
    called = float((log_odds > 0).mean())
    if config.prior is None and config.soft.share is None and abs(called - 0.5) > _FAR:
        LOG.warning(
            "the model alone calls %.0f %% of the events signal, and soft labels hold their mean "
            "probability at 50 %%: if the share of signal is known, state it with label.prior",
            100 * called,
        )


def calibrated_prior(log_odds: Floats, landmarks: Labels, share: float) -> Floats:
    """Turns log-odds without a context into a prior, shape (N,).

    With landmarks by Platt's map, or by one factor where a class has few; without, the log-odds are
    shifted and scaled to the mean ``share`` and a standard deviation of 1: their order is trusted,
    but neither their level nor their size.

    Args:
        log_odds: shape (N,).
        landmarks: shape (N,), known labels, -1 elsewhere.
        share: fraction of signal.

    Raises:
        InputError: the landmarks are of one class, or say that the log-odds are upside down.
    """
    centre, spread = np.quantile(log_odds, 1 - share), float(log_odds.std())
    standard = np.asarray((log_odds - centre) / (spread or 1.0))
    known = landmarks != UNKNOWN
    if not known.any():
        return standard
    labels = landmarks[known]
    fewest = min(np.count_nonzero(labels == one) for one in (SIGNAL, BACKGROUND))
    if not fewest:
        raise InputError(
            f"label.soft.landmarks: the {len(labels)} landmarks of the pool have one class; give "
            "some of each"
        )
    events = scored_events(standard[known], labels)
    try:
        fitted = fit_calibration(events, "platt" if fewest >= _FOR_PLATT else "temperature", share)
    except InputError:
        raise InputError(
            "label.soft.landmarks: the model gives background landmarks the larger log-odds "
            f"({len(labels)} landmarks); exchange label.names, use another backend, or set "
            "label.soft.landmarks=null"
        ) from None
    return fitted.logits(standard) + logit(share) - logit(fitted.prior)
