"""The map from scores to probabilities that validation data support, chosen by cross-validation.

A map that is fitted to few events can be worse than none, and a fit does not show it: its loss on
the events that it was fitted to always falls. Each candidate is therefore fitted to nine tenths of
the events and judged on the others, and the scores as they are compete with it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from sklearn.model_selection import StratifiedKFold

from hepllm.arrays import Floats
from hepllm.errors import InputError
from hepllm.evaluation.calibration import (
    Calibration,
    MapLoss,
    Method,
    class_weights,
    fit_calibration,
)
from hepllm.evaluation.scores import ScoredEvents

LOG = logging.getLogger(__name__)

Choice = Literal["auto"] | Method
"""A method, or ``auto`` for the one that cross-validation chooses."""

CANDIDATES: tuple[Method, ...] = ("none", "temperature", "platt", "beta", "isotonic")
"""From the simplest to the most flexible."""

_N_FOLDS = 10
_FEWEST = 2
"""Events of each class without which there are no folds."""


def choose_calibration(validation: ScoredEvents, choice: Choice, prior: float) -> Calibration:
    """Fits the stated map, or the one of least loss in cross-validation.

    Of the candidates that are no worse than the best by more than the standard error of their
    difference, ``auto`` takes the simplest (Breiman et al., Classification and Regression Trees,
    1984, section 3.4.3). A stated map is fitted whatever it does, with a warning if the scores as
    they are have the lower loss.

    Args:
        validation: scores of validation events.
        choice: method, or ``auto``.
        prior: signal fraction of the training events.

    Returns:
        The map, with the losses of the candidates.

    Raises:
        InputError: if a class is missing, or background events have the larger scores.
    """
    if choice == "none":
        return fit_calibration(validation, "none", prior)
    # First, so that what cannot be calibrated is refused with the reason.
    stated = fit_calibration(validation, "platt" if choice == "auto" else choice, prior)
    losses = _cross_validate(
        validation, CANDIDATES if choice == "auto" else ("none", choice), prior
    )
    if not losses:
        LOG.warning(
            "%d signal and %d background validation events are too few to choose a map from "
            "scores to probabilities; %s",
            validation.n_signal,
            validation.n_background,
            "scores are not calibrated" if choice == "auto" else f"{choice} is untested",
        )
        return fit_calibration(validation, "none", prior) if choice == "auto" else stated
    weight = class_weights(validation, prior)
    told = tuple(_summary(method, losses, weight) for method in losses)
    if choice == "auto":
        return replace(fit_calibration(validation, _simplest(losses, weight), prior), losses=told)
    _warn_if_worse(told)
    return replace(stated, losses=told)


def _cross_validate(
    validation: ScoredEvents, methods: Sequence[Method], prior: float
) -> dict[Method, Floats]:
    """Loss of each event (N,) by maps fitted to other events; empty if a class is too rare.

    A method that cannot be fitted to a fold is left out.
    """
    validation = replace(validation, weight=np.clip(validation.weight, 0, None))
    n_folds = min(_N_FOLDS, validation.n_signal, validation.n_background)
    if n_folds < _FEWEST:
        return {}
    folds = list(
        StratifiedKFold(n_folds, shuffle=True, random_state=0).split(
            validation.score, validation.is_signal
        )
    )
    sign = np.where(validation.is_signal, -1.0, 1.0)
    losses: dict[Method, Floats] = {}
    for method in methods:
        loss = np.empty(len(validation.score))
        try:
            for fitted, judged in folds:
                used = fit_calibration(validation.take(fitted), method, prior)
                logits = used.logits(validation.score[judged])
                loss[judged] = np.logaddexp(0.0, sign[judged] * logits)
        except InputError as error:
            LOG.info("calibration %s: %s", method, error)
            continue
        losses[method] = loss
    return losses


def _simplest(losses: dict[Method, Floats], weight: Floats) -> Method:
    best = min(losses, key=lambda method: float(np.mean(weight * losses[method])))
    for method, loss in losses.items():
        mean, error = _mean_and_error(weight * (loss - losses[best]))
        if mean <= error:
            return method
    return best


def _summary(method: Method, losses: dict[Method, Floats], weight: Floats) -> MapLoss:
    gain, error = _mean_and_error(weight * (losses["none"] - losses[method]))
    return MapLoss(
        method=method, loss=float(np.mean(weight * losses[method])), gain=gain, gain_error=error
    )


def _mean_and_error(values: Floats) -> tuple[float, float]:
    return float(values.mean()), float(values.std() / np.sqrt(len(values)))


def _warn_if_worse(told: Sequence[MapLoss]) -> None:
    for found in told:
        if found.gain < 0:
            LOG.warning(
                "evaluation.calibration=%s makes probabilities worse than the scores as they are: "
                "its loss on validation events that it was not fitted to is higher by %.2g +- %.1g;"
                " set evaluation.calibration=auto",
                found.method,
                -found.gain,
                found.gain_error,
            )
