"""Scores of a sample as probabilities under a stated or estimated prior, and how well they hold."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hepllm.arrays import Floats
from hepllm.config import EvaluationConfig
from hepllm.evaluation.calibration import Calibration, ValidationScores, fit_calibration
from hepllm.evaluation.prior import ASSUMPTION, PriorEstimate, estimate_prior
from hepllm.evaluation.reliability import Reliability, TopBin, reliability, top_bins
from hepllm.evaluation.scores import ScoredEvents

_WIDTH = 120


@dataclass(frozen=True, eq=False)
class Prior:
    """The signal fraction that probabilities assume.

    Attributes:
        name: where it comes from, in words.
        fraction: None for that of the training events.
        estimate: where it was estimated.
    """

    name: str
    fraction: float | None
    estimate: PriorEstimate | None = None


@dataclass(frozen=True, eq=False)
class CalibrationCheck:
    """How well probabilities hold on events of known class.

    Attributes:
        calibrated: in the mixture of the sample.
        uncalibrated: the same for the scores as they are.
        top: the highest scores, under the prior that was asked for.
        top_prior: signal fraction to which ``top`` refers.
    """

    calibrated: Reliability
    uncalibrated: Reliability
    top: list[TopBin]
    top_prior: float


def choose_prior(
    config: EvaluationConfig,
    balance: str,
    calibration: Calibration,
    validation: ValidationScores,
    sample: tuple[Floats, Floats],
    *,
    seed: int,
) -> Prior:
    """Settles the prior that the configuration asks for.

    Args:
        config: ``prior`` and the confidence of an estimate.
        balance: of the training events, for the name.
        calibration: of the scores.
        validation: what it was fitted on.
        sample: scores and weights of the events, from which a prior is estimated.
        seed: of the estimate.
    """
    if config.prior == "training":
        return Prior(f"training balance {balance}", None)
    if config.prior != "estimate":
        return Prior(f"stated signal fraction {config.prior:g}", config.prior)
    # The steps of an isotonic map overfit the tails and bias small fractions upwards.
    if calibration.method != "platt":
        calibration = fit_calibration(validation, "platt", calibration.prior)
    found = estimate_prior(
        *sample, validation, calibration, confidence=config.confidence, seed=seed
    )
    low, high = found.interval.pair or (float("nan"), float("nan"))
    name = f"estimated signal fraction {found.fraction:.3g} [{low:.3g}, {high:.3g}] "
    name += f"({config.confidence:.0%})"
    return Prior(name, found.fraction, found)


def check_calibration(
    calibration: Calibration, prior: Prior, events: ScoredEvents, seed: int
) -> CalibrationCheck | None:
    """Judges probabilities on a labelled sample; None where it has one class only."""
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


def calibration_tree(
    calibration: Calibration, prior: Prior, check: CalibrationCheck | None, own: float | None
) -> dict[str, Any]:
    """The entry ``calibration`` of ``metrics.json``."""
    tree: dict[str, Any] = {
        "method": calibration.method,
        "training_fraction": calibration.prior,
        "slope": None if calibration.method == "isotonic" else calibration.slope,
        "offset": None if calibration.method == "isotonic" else calibration.offset,
        "prior": prior.name,
        "prior_fraction": calibration.prior if prior.fraction is None else prior.fraction,
        "sample_fraction": own,
    }
    if prior.estimate is not None:
        between = prior.estimate.interval
        tree |= {
            "prior_interval": between.pair,
            "prior_confidence": between.confidence,
            "prior_n_events": prior.estimate.n_events,
            "prior_assumption": ASSUMPTION,
        }
    if check is not None:
        tree |= {
            "ece": check.calibrated.ece,
            "ece_uncalibrated": check.uncalibrated.ece,
            "ece_if_perfect": check.calibrated.ece_if_perfect,
            "top_prior_fraction": check.top_prior,
            "top": [asdict(part) for part in check.top],
        }
    return tree


def format_calibration(
    calibration: Calibration, prior: Prior, check: CalibrationCheck | None, own: float | None
) -> str:
    """The same in words, in lines of at most 120 characters."""
    sentences = [f"Probabilities: calibration {calibration.method}, prior: {prior.name}."]
    if prior.estimate is not None:
        truth = "" if own is None else f" (the labels say {own:.3g})"
        events = f"from {prior.estimate.n_events} events"
        sentences.append(f"The estimate{truth} {events} {ASSUMPTION}.")
    if check is None:
        return textwrap.fill(" ".join(sentences), _WIDTH)
    sentences += [
        f"Expected calibration error in this sample's mixture: {check.calibrated.ece:.4f},",
        f"uncalibrated {check.uncalibrated.ece:.4f},",
        f"and {check.calibrated.ece_if_perfect:.4f} if the probabilities held exactly.",
        f"Observed over expected signal at fraction {check.top_prior:.3g}:",
    ]
    lines = [textwrap.fill(" ".join(sentences), _WIDTH), *map(_top_line, check.top)]
    return "\n".join(lines)


def _top_line(part: TopBin) -> str:
    text = f"  highest {part.share:.1%}: {part.observed:.4g} / {part.expected:.4g}"
    if part.ratio is None or part.low is None or part.high is None:
        return text
    return f"{text} = {part.ratio:.2f} [{part.low:.2f}, {part.high:.2f}] (68 %)"
