"""How many events go through a loaded classifier at once where no training has settled it.

The same budget as a training's decides, of a classifier that holds weights only.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hepllm.learning.budget import Budget, MemoryChoice, Needs
from hepllm.learning.capacity import device_capacity
from hepllm.learning.memory import classifier_shape, frozen_weights, measured_batch
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs

_SAMPLE = 256
"""Events whose prompts are measured."""


def events_at_once(classifier: EventClassifier, encoder: PromptEncoder, inputs: ModelInputs) -> int:
    """Returns how many events are scored together: as many as suit the layout, or as fit.

    Args:
        classifier: the model.
        encoder: encoder of its prompts.
        inputs: the events, or some of them.
    """
    budget = _budget(classifier, encoder, inputs.take(slice(_SAMPLE)))
    return budget.scored_at_once(encoder.events_at_once)


def points_at_once(
    classifier: EventClassifier, encoder: PromptEncoder, point: ModelInputs, most: int
) -> MemoryChoice:
    """Returns the fastest way that fits to compute the gradients of the score at some points.

    Where nothing should fit, it is the way with the least memory.

    Args:
        classifier: the model.
        encoder: encoder of its prompts.
        point: one event; all points are such.
        most: points at once at most.
    """
    budget = _budget(classifier, encoder, point.take(np.zeros(most, dtype=np.intp)))
    # Prompts of embeddings are not shared: each point has its own.
    budget = replace(budget, batch=replace(budget.batch, n_events=most, n_scored=1, n_shared=0))
    ways = budget.settings(None, "auto")
    fitting = [way for way in ways if budget.fits(way)]
    return fitting[0] if fitting else min(ways, key=budget.total)


def _budget(classifier: EventClassifier, encoder: PromptEncoder, sample: ModelInputs) -> Budget:
    shape = classifier_shape(classifier, lora_dropout=0.0)
    lora = sum(weight.nbytes for weight in classifier.lora_parameters().values())
    adapter = sum(weight.nbytes for weight in classifier.nfa_parameters().values())
    needs = Needs(frozen_weights(classifier, shape), lora, adapter, 0, 0, shape)
    batch = measured_batch(classifier, encoder, sample, shape)
    return Budget(device_capacity(classifier.device, None), needs, batch)
