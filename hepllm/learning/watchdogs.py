"""Checks of a training's health that end or warn with a plain sentence."""

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
"""After this many steps each optimizer group must have shown that it learns."""

_COLLAPSED = 0.02
_UNRESPONSIVE = 1e-3


def proving_step(group: OptimizerGroup, start: int, total_steps: int) -> int:
    """The count of steps done at which a group's learning is checked.

    Args:
        group: may be frozen at first.
        start: step at which this process began or resumed.
        total_steps: of the whole training.
    """
    return min(max(start, group.schedule.first_step) + PROVING_STEPS, total_steps)


def refuse_loss(step: int, loss: float, classifier: EventClassifier, inputs: ModelInputs) -> None:
    """Ends a training whose loss is not finite, naming the part at fault.

    Args:
        step: steps done, this one included.
        loss: of the step.
        classifier: looked through for what is not finite.
        inputs: of the step's events.

    Raises:
        RunError: always.
    """
    raise RunError(f"step {step}: the loss is {loss}; {_culprit(classifier, inputs)}")


def warn_if_collapsed(predicted_signal: float, true_signal: float) -> bool:
    """Warns when a model calls nearly everything one class.

    Args:
        predicted_signal: share of validation events with a positive score.
        true_signal: share of signal among them.
    """
    both_classes = _COLLAPSED < true_signal < 1 - _COLLAPSED
    if both_classes and not _COLLAPSED < predicted_signal < 1 - _COLLAPSED:
        LOG.warning(
            "the model calls %.1f %% of the validation events signal (%.1f %% are): it has "
            "collapsed to one class; lower the learning rates or check the input features",
            100 * predicted_signal,
            100 * true_signal,
        )
        return True
    return False


def warn_if_numbers_ignored(scores: Floats, permuted: Floats) -> bool:
    """Warns when scores stay as they are although the numbers were exchanged between events.

    Args:
        scores: shape (N,).
        permuted: the same events with the adapter's numbers of others.
    """
    reaction = float(np.mean(np.abs(scores - permuted)))
    if reaction < _UNRESPONSIVE * max(float(np.std(scores)), _UNRESPONSIVE):
        LOG.warning(
            "scores do not react to the numbers that the adapter gets (mean change %.2g): "
            "the fusion is not used",
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
                "something overflows between them, as in float16"
            )
    return (
        "all weights and soft tokens are finite: the language model itself overflows; "
        "set backbone.dtype to bfloat16 or float32, or lower train.lr"
    )
