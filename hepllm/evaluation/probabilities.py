"""Probabilities under a stated or estimated prior, and their agreement with the labels."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from hepllm.arrays import Floats
from hepllm.config import EvaluationConfig
from hepllm.evaluation.calibration import Calibration, MapLoss
from hepllm.evaluation.prior import ASSUMPTION, PriorEstimate, estimate_prior
from hepllm.evaluation.reliability import Reliability, TopBin, reliability, top_bins
from hepllm.evaluation.scores import ScoredEvents
from hepllm.records import Events, Pair, Record

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Prior:
    """The signal fraction that probabilities assume.

    Attributes:
        name: origin of the fraction, in words.
        fraction: the fraction; None for that of the training events.
        estimate: its estimate; None where it was not estimated.
    """

    name: str
    fraction: float | None
    estimate: PriorEstimate | None = None


_FAR = 3.0
"""Times the mean error of exact probabilities, which none of 2,000 exact samples reaches."""


@dataclass(frozen=True, eq=False)
class CalibrationCheck:
    """Agreement of probabilities with the labels of a sample.

    Attributes:
        calibrated: reliability in the signal:background ratio of the sample.
        uncalibrated: the same without calibration.
        top: signal among the highest scores, under the assumed prior.
        top_prior: signal fraction to which ``top`` refers.
    """

    calibrated: Reliability
    uncalibrated: Reliability
    top: list[TopBin]
    top_prior: float

    @property
    def is_worse(self) -> bool:
        """Whether calibration adds more to the error than exact probabilities have from chance."""
        added = self.calibrated.ece - self.uncalibrated.ece
        return added > self.calibrated.ece_if_perfect

    @property
    def is_off(self) -> bool:
        """Whether the error is far above the one that exact probabilities have from chance."""
        return self.calibrated.ece > _FAR * self.calibrated.ece_if_perfect


def choose_prior(
    config: EvaluationConfig,
    balance: str,
    validation: ScoredEvents,
    sample: tuple[Floats, Floats],
) -> Prior:
    """Takes the prior that the configuration states, or estimates it.

    Args:
        config: ``prior`` and the confidence of an estimate.
        balance: balance of the training events, for the name.
        validation: scores of validation events by the same classifier.
        sample: scores and weights of the events, from which a prior is estimated.
    """
    if config.prior == "training":
        return Prior(f"training balance {balance}", None)
    if config.prior != "estimate":
        return Prior(f"stated signal fraction {config.prior:g}", config.prior)
    found = estimate_prior(*sample, validation, confidence=config.confidence)
    low, high = found.interval
    if found.is_limit:
        LOG.warning(
            "the estimated signal fraction is compatible with 0 and with %.3g: %d events with the "
            "scores of %d signal and %d background validation events cannot tell a smaller one",
            high,
            found.n_events,
            validation.n_signal,
            validation.n_background,
        )
    name = f"estimated signal fraction {found.fraction:.3g} [{low:.3g}, {high:.3g}] "
    name += f"({config.confidence:.0%})"
    return Prior(name, found.fraction, found)


def check_calibration(
    calibration: Calibration, prior: Prior, events: ScoredEvents, seed: int
) -> CalibrationCheck | None:
    """Compares probabilities with labels; None where a sample has one class only."""
    own = float(np.mean(events.is_signal)) if len(events.label) else 0.0
    if not 0 < own < 1:
        return None
    raw = Calibration("none", calibration.prior)
    calibrated, uncalibrated = (
        reliability(used.probabilities(events.score, own), events.is_signal, seed)
        for used in (calibration, raw)
    )
    stated = prior.fraction if prior.estimate is None else None
    assumed = own if prior.fraction is None else min(max(prior.fraction, 1e-9), 1 - 1e-9)
    top = top_bins(calibration.probabilities(events.score, assumed), events, stated)
    return CalibrationCheck(calibrated, uncalibrated, top, assumed)


class CalibrationRecord(Record):
    """How scores become probabilities, and how well these agree with the labels."""

    method: str
    """How the map from scores to logits was fitted on the validation data."""
    training_fraction: float
    """Signal fraction of the training events, for which the calibrated logits are valid."""
    slope: float | None
    """Slope of the map, of a beta map at large scores; null for steps."""
    offset: float | None
    """Offset of the map; null for steps."""
    prior: str
    """Signal fraction that the probabilities assume, in words."""
    prior_fraction: float
    """Signal fraction that the probabilities assume."""
    sample_fraction: float | None
    """Signal fraction of the set by its labels; null without labels."""
    slope_below: float | None = None
    """Slope of a beta map at scores far below 0; absent for other maps."""
    losses: tuple[MapLoss, ...] = ()
    """Maps that were compared in cross-validation of the validation events."""
    prior_interval: Pair | None = None
    """Interval [low, high] of an estimated signal fraction; absent without an estimate."""
    prior_confidence: float | None = None
    """Probability content of that interval."""
    prior_n_events: Events | None = None
    """Events from which the fraction was estimated."""
    prior_assumption: str | None = None
    """What the estimate assumes, in words."""
    ece: float | None = None
    """Expected calibration error in the set's own signal:background ratio; absent where unknown."""
    ece_uncalibrated: float | None = None
    """Expected calibration error without calibration."""
    ece_if_perfect: float | None = None
    """Mean expected calibration error of as many events if the probabilities were exact."""
    top_prior_fraction: float | None = None
    """Signal fraction to which ``top`` refers."""
    top: tuple[TopBin, ...] = ()
    """Observed and expected signal among the highest scores."""

    @classmethod
    def of(
        cls,
        calibration: Calibration,
        prior: Prior,
        check: CalibrationCheck | None,
        own: float | None,
    ) -> CalibrationRecord:
        """Makes the record; ``check`` and ``own``, the set's signal fraction, need labels."""
        more: dict[str, Any] = {}
        if prior.estimate is not None:
            more |= {
                "prior_interval": prior.estimate.interval,
                "prior_confidence": prior.estimate.confidence,
                "prior_n_events": prior.estimate.n_events,
                "prior_assumption": ASSUMPTION,
            }
        if check is not None:
            more |= {
                "ece": check.calibrated.ece,
                "ece_uncalibrated": check.uncalibrated.ece,
                "ece_if_perfect": check.calibrated.ece_if_perfect,
                "top_prior_fraction": check.top_prior,
                "top": tuple(check.top),
            }
        has_slope = calibration.method != "isotonic"
        return cls(
            method=calibration.method,
            training_fraction=calibration.prior,
            slope=calibration.slope if has_slope else None,
            offset=calibration.offset if has_slope else None,
            slope_below=calibration.slope_below,
            losses=calibration.losses,
            prior=prior.name,
            prior_fraction=calibration.prior if prior.fraction is None else prior.fraction,
            sample_fraction=own,
            **more,
        )
