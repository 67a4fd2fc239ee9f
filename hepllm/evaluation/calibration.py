"""Scores as probabilities: a map fitted on validation data, then a shift to another prior.

Calibrated logits are valid in the balance of the training events. For another signal fraction p the
logit is shifted by logit(p) - logit(p_training), which assumes that the score of each class is
distributed as in the validation data.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from hepllm.arrays import Bools, Floats
from hepllm.errors import InputError
from hepllm.evaluation.scores import ScoredEvents

Method = Literal["none", "temperature", "platt", "isotonic"]

logger = logging.getLogger(__name__)

_NO_PENALTY = 1e9

_LEAST_PRIOR = 1e-12
"""Lower limit of a prior, because an estimate may be 0, which has no logit."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """A rising map of scores to logits; made by ``fit_calibration``.

    Attributes:
        method: method of the fit.
        prior: signal fraction for which the logits are valid.
        slope: slope of a linear map.
        offset: offset of a linear map.
        steps: scores and logits of an isotonic map, interpolated linearly; empty for other maps.
    """

    method: Method
    prior: float
    slope: float = 1.0
    offset: float = 0.0
    steps: tuple[Floats, Floats] = field(default_factory=lambda: (np.empty(0), np.empty(0)))

    def logits(self, score: Floats, prior: float | None = None) -> Floats:
        """Computes calibrated logits (N,).

        Args:
            score: (N,) scores of the classifier.
            prior: signal fraction of the events; None for that of the training events.
        """
        places, values = self.steps
        if len(places):
            calibrated = np.interp(score, places, values)
        else:
            calibrated = self.slope * score + self.offset
        if prior is not None:
            prior = float(np.clip(prior, _LEAST_PRIOR, 1 - _LEAST_PRIOR))
        shift = 0.0 if prior is None else logit(prior) - logit(self.prior)
        return calibrated + shift

    def probabilities(self, score: Floats, prior: float | None = None) -> Floats:
        """Computes probabilities of signal (N,), with the arguments of ``logits``."""
        return expit(self.logits(score, prior))


def logit(probability: float) -> float:
    """log(p / (1 - p))."""
    return float(np.log(probability) - np.log1p(-probability))


def expit(logits: Floats) -> Floats:
    """1 / (1 + exp(-x)) without overflow, shape (N,)."""
    return np.exp(-np.logaddexp(0.0, -logits))


def fit_calibration(validation: ScoredEvents, method: Method, prior: float) -> Calibration:
    """Fits a map by maximum likelihood of the validation events.

    - ``temperature``: one slope (Guo et al., arXiv:1706.04599);
    - ``platt``: slope and offset (Platt 1999);
    - ``isotonic``: rising steps (Zadrozny and Elkan, KDD 2002), kept from 0 and 1 by one event.

    The classes are weighted to the balance of the training events, because the validation data may
    have another one.

    Args:
        validation: scores of validation events.
        method: method; ``none`` leaves the scores unchanged.
        prior: signal fraction of the training events.

    Raises:
        InputError: if a class is missing, or background events have the larger scores.
    """
    is_signal = validation.is_signal
    if is_signal.all() or not is_signal.any():
        raise InputError("validation data have one class only: scores cannot be calibrated")
    if method == "none":
        return Calibration(method, prior)
    weight = _class_weights(validation, prior)
    if method == "isotonic":
        return Calibration(method, prior, steps=_fit_steps(validation.score, is_signal, weight))
    centre = float(validation.score.mean()) if method == "platt" else 0.0
    scale = float(validation.score.std()) or 1.0
    regression = _regress((validation.score - centre) / scale, is_signal, weight, method == "platt")
    slope = float(regression.coef_[0, 0] / scale)
    if slope <= 0:
        raise InputError(
            f"background events have the larger validation scores ({method} slope {slope:.3g}): "
            "there is nothing to calibrate; set evaluation.calibration=none"
        )
    offset = float(np.ravel(regression.intercept_)[0]) if method == "platt" else 0.0
    return Calibration(method, prior, slope, float(offset - slope * centre))


def _regress(
    score: Floats, is_signal: Bools, weight: Floats, intercept: bool
) -> LogisticRegression:
    """Fits a logistic regression, which without an intercept fits a temperature.

    Its targets are Platt's, (N_s + 1) / (N_s + 2) and 1 / (N_b + 2), so that classes that do not
    overlap have a finite slope: each event enters as signal and as background, with these shares.
    """
    n_signal = np.count_nonzero(is_signal)
    n_background = len(is_signal) - n_signal
    target = np.where(is_signal, (n_signal + 1) / (n_signal + 2), 1 / (n_background + 2))
    regression = LogisticRegression(
        C=_NO_PENALTY, fit_intercept=intercept, solver="newton-cholesky"
    )
    return regression.fit(
        np.concatenate([score, score])[:, np.newaxis],
        np.repeat([1, 0], len(score)),
        np.concatenate([weight * target, weight * (1 - target)]),
    )


def _class_weights(validation: ScoredEvents, prior: float) -> Floats:
    """Computes weights of mean 1 that give the signal the share ``prior``."""
    is_signal = validation.is_signal
    weight = validation.weight
    if (weight < 0).any():
        logger.warning("negative event weights count as 0 in the calibration")
        weight = np.clip(weight, 0, None)
    signal, background = weight[is_signal].sum(), weight[~is_signal].sum()
    factors = np.where(is_signal, prior / signal, (1 - prior) / background)
    weights: Floats = weight * factors * len(weight)
    return weights


def _fit_steps(score: Floats, is_signal: Bools, weight: Floats) -> tuple[Floats, Floats]:
    least = 1 / (len(score) + 2)
    regression = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip")
    regression.fit(score, is_signal, weight)
    places = np.asarray(regression.X_thresholds_, dtype=np.float64)
    share = np.asarray(regression.y_thresholds_, dtype=np.float64)
    return places, np.log(share) - np.log1p(-share)
