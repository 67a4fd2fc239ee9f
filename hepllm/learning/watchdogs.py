"""Checks that a training works; they end it with an error, or warn."""

from __future__ import annotations

import logging

import numpy as np
import torch

from hepllm.arrays import Floats
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

    Args:
        group: group to check, which may be frozen at first.
        start: step at which this process began or resumed.
        total_steps: steps of the whole training.
    """
    return min(max(start, group.schedule.first_step) + PROVING_STEPS, total_steps)


def refuse_loss(step: int, loss: float, classifier: EventClassifier, inputs: ModelInputs) -> None:
    """Ends a training whose loss is not finite.

    Args:
        step: steps done, this one included.
        loss: loss of the step.
        classifier: model whose weights and soft tokens are searched for the cause.
        inputs: the step's events.

    Raises:
        RunError: always; names the cause.
    """
    raise RunError(f"step {step}: the loss is {loss}; {_culprit(classifier, inputs)}")


def warn_if_collapsed(predicted_signal: float, true_signal: float) -> bool:
    """Warns if a model assigns nearly all validation events to one class.

    Args:
        predicted_signal: share of validation events with a positive score.
        true_signal: share of signal among them.

    Returns:
        Whether it warned.
    """
    both_classes = _COLLAPSED < true_signal < 1 - _COLLAPSED
    if both_classes and not _COLLAPSED < predicted_signal < 1 - _COLLAPSED:
        LOG.warning(
            "the model calls %.1f %% of the validation events signal (true: %.1f %%): it has "
            "collapsed to one class; lower the learning rates or check the input features",
            100 * predicted_signal,
            100 * true_signal,
        )
        return True
    return False


def warn_if_numbers_ignored(scores: Floats, permuted: Floats) -> bool:
    """Warns if the scores do not change when numbers are exchanged between events.

    Args:
        scores: shape (N,).
        permuted: shape (N,), scores of the same texts with the numbers of other events.

    Returns:
        Whether it warned.
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
