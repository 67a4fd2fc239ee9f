"""Checks that a training works; they end it with an error, or warn."""

from __future__ import annotations

import logging

import numpy as np
import torch

from hepllm.arrays import Bools, Floats
from hepllm.errors import RunError
from hepllm.learning.optimizers import OptimizerGroup
from hepllm.model.classifier import EventClassifier
from hepllm.model.inputs import ModelInputs

LOG = logging.getLogger(__name__)

PROVING_STEPS = 10
"""Steps after which each optimizer group must have learnt something."""

_COLLAPSED = 0.02
_UNRESPONSIVE = 1e-3


def proving_step(group: OptimizerGroup, start: int, total_steps: int) -> int:
    """Returns the number of steps after which a group's learning is checked.

    ``start`` is the step at which this process began or resumed; a group may be frozen at first.
    """
    return min(max(start, group.schedule.first_step) + PROVING_STEPS, total_steps)


def refuse_loss(step: int, loss: float, classifier: EventClassifier, inputs: ModelInputs) -> None:
    """Ends a training whose loss is not finite, in the step of ``inputs``.

    Raises:
        RunError: always; names the cause, in the weights or soft tokens.
    """
    raise RunError(f"step {step}: the loss is {loss}; {_culprit(classifier, inputs)}")


def warn_if_collapsed(scores: Floats, is_signal: Bools, log_odds: float) -> bool:
    """Warns, and returns True, if a model assigns nearly all validation events to one class.

    Each class is looked at alone, because there may be little signal in a validation. And with
    little signal in the training, right scores of most signal are negative: an event is called
    signal here if the model finds it more signal-like than before it has seen it.

    Args:
        scores: shape (N,), logit of signal minus logit of background.
        is_signal: shape (N,).
        log_odds: logarithm of signal over background in the training.
    """
    called = scores > log_odds
    shares = [float(called[one].mean()) for one in (is_signal, ~is_signal) if one.any()]
    if len(shares) == 2 and (max(shares) < _COLLAPSED or min(shares) > 1 - _COLLAPSED):
        LOG.warning(
            "the model finds %.1f %% of the signal and %.1f %% of the background of the validation "
            "more signal-like than the average training event: it has collapsed to one class; "
            "lower the learning rates or check the input features",
            100 * shares[0],
            100 * shares[1],
        )
        return True
    return False


def warn_if_numbers_ignored(scores: Floats, permuted: Floats) -> bool:
    """Warns, and returns True, if scores do not change when events exchange their numbers.

    ``permuted`` are the scores of the same N texts with the numbers of other events.
    """
    reaction = float(np.mean(np.abs(scores - permuted)))
    if reaction < _UNRESPONSIVE * max(float(np.std(scores)), _UNRESPONSIVE):
        LOG.warning(
            "scores do not depend on the adapter's numbers (mean change %.2g): the model does not "
            "use the fusion",
            reaction,
        )
        return True
    return False


@torch.no_grad()
def _culprit(classifier: EventClassifier, inputs: ModelInputs) -> str:
    for name, weight in classifier.trained_parameters().items():
        if not torch.isfinite(weight).all():
            rate = "train.lr" if name.startswith("lora") else "train.nfa_lr"
            return f"the weight {name} is not finite: lower {rate}"
    if classifier.nfa is not None:
        soft = classifier.nfa(inputs)
        if not torch.isfinite(soft).all():
            return (
                "the adapter's soft tokens are not finite, although its weights are: "
                "a value between them overflows, as in float16"
            )
    return (
        "all weights and soft tokens are finite: the language model overflows; "
        "set backbone.dtype to bfloat16 or float32, or lower train.lr"
    )
