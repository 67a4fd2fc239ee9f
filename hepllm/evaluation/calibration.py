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
from hepllm.records import Record

Method = Literal["none", "temperature", "platt", "beta", "isotonic"]

logger = logging.getLogger(__name__)

_NO_PENALTY = 1e9

_LEAST_PRIOR = 1e-12
"""Lower limit of a prior, because an estimate may be 0, which has no logit."""


class MapLoss(Record):
    """What a map does to validation events that it was not fitted to."""

    method: str
    """Method of the fit; ``none`` for the scores as they are."""
    loss: float
    """Mean cross-entropy in the balance of the training events."""
    gain: float
    """By how much it is below that of the scores as they are."""
    gain_error: float
    """Standard error of the gain."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """A rising map of scores to logits; made by ``choose_calibration`` or ``fit_calibration``.

    Attributes:
        method: method of the fit.
        prior: signal fraction for which the logits are valid.
        slope: slope of a linear map, or that of a beta map at large scores.
        offset: offset of a linear or beta map.
        slope_below: slope of a beta map at scores far below 0; None for other maps.
        steps: scores and logits of an isotonic map, interpolated linearly; empty for other maps.
        losses: losses of the maps that were compared in cross-validation; empty if none were.
    """

    method: Method
    prior: float
    slope: float = 1.0
    offset: float = 0.0
    slope_below: float | None = None
    steps: tuple[Floats, Floats] = field(default_factory=lambda: (np.empty(0), np.empty(0)))
    losses: tuple[MapLoss, ...] = ()

    def logits(self, score: Floats, prior: float | None = None) -> Floats:
        """Computes calibrated logits (N,).

        Args:
            score: (N,) scores of the classifier.
            prior: signal fraction of the events; None for that of the training events.
        """
        places, values = self.steps
        if len(places):
            calibrated = np.interp(score, places, values)
        elif self.slope_below is not None:
            calibrated = _softplus_pair(score) @ (self.slope, self.slope_below) + self.offset
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
    - ``beta``: offset and two slopes, at low and at high scores (Kull et al., AISTATS 2017);
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
    weight = class_weights(validation, prior)
    if method == "isotonic":
        return Calibration(method, prior, steps=_fit_steps(validation.score, is_signal, weight))
    if method == "beta":
        return _fit_beta(validation, weight, prior)
    centre = float(validation.score.mean()) if method == "platt" else 0.0
    scale = float(validation.score.std()) or 1.0
    scaled = ((validation.score - centre) / scale)[:, np.newaxis]
    (slope,), offset = _regress(scaled, is_signal, weight, method == "platt")
    slope = float(slope / scale)
    if slope <= 0:
        raise _upside_down(method, slope)
    return Calibration(method, prior, slope, float(offset - slope * centre))


def _fit_beta(validation: ScoredEvents, weight: Floats, prior: float) -> Calibration:
    """Fits a beta map; a slope that would be negative is 0, so that the map never falls."""
    features = _softplus_pair(validation.score)
    slopes, offset = _regress(features, validation.is_signal, weight, True)
    if (slopes < 0).any():
        rising = int(np.argmax(slopes))
        slopes = np.zeros(2)
        (slopes[rising],), offset = _regress(
            features[:, [rising]], validation.is_signal, weight, True
        )
    if slopes.max() <= 0:
        raise _upside_down("beta", float(slopes.max()))
    above, below = slopes
    return Calibration("beta", prior, float(above), offset, slope_below=float(below))


def _softplus_pair(score: Floats) -> Floats:
    """-log(1 - p) and log(p) of p = expit(score), shape (N, 2): they sum to the score."""
    return np.stack([np.logaddexp(0.0, score), -np.logaddexp(0.0, -score)], axis=1)


def _upside_down(method: Method, slope: float) -> InputError:
    return InputError(
        f"background events have the larger validation scores ({method} slope {slope:.3g}): "
        "there is nothing to calibrate; set evaluation.calibration=none"
    )


def _regress(
    features: Floats, is_signal: Bools, weight: Floats, intercept: bool
) -> tuple[Floats, float]:
    """Fits a logistic regression to features (N, K); returns coefficients (K,) and intercept.

    Its targets are Platt's, (N_s + 1) / (N_s + 2) and 1 / (N_b + 2), so that classes that do not
    overlap have a finite slope: each event enters as signal and as background, with these shares.
    """
    n_signal = np.count_nonzero(is_signal)
    n_background = len(is_signal) - n_signal
    target = np.where(is_signal, (n_signal + 1) / (n_signal + 2), 1 / (n_background + 2))
    regression = LogisticRegression(
        C=_NO_PENALTY, fit_intercept=intercept, solver="newton-cholesky"
    )
    regression.fit(
        np.concatenate([features, features]),
        np.repeat([1, 0], len(features)),
        np.concatenate([weight * target, weight * (1 - target)]),
    )
    coefficients: Floats = regression.coef_[0]
    return coefficients, float(np.ravel(regression.intercept_)[0])


def class_weights(validation: ScoredEvents, prior: float) -> Floats:
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
