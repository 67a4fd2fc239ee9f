"""Scores of events, from one forward pass per event."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hepllm.arrays import Floats
from hepllm.hypotheses.hypothesis import Hypothesis
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import EncodedPrompts, PromptEncoder
from hepllm.model.fused_lora import fused_lora
from hepllm.model.inputs import ModelInputs
from hepllm.model.packing import PackedPrompts


def forward_prompts(
    classifier: EventClassifier, prompts: EncodedPrompts | PackedPrompts, inputs: ModelInputs
) -> Tensor:
    """Returns the logits of B events, shape (B, 2), background then signal.

    ``inputs`` are the events of ``prompts``, for the adapter.
    """
    if isinstance(prompts, PackedPrompts):
        return classifier.answer(prompts, inputs)
    device = classifier.device
    logits: Tensor = classifier(
        prompts.token_ids.to(device),
        None if prompts.attention_mask is None else prompts.attention_mask.to(device),
        None if prompts.fusion_positions is None else prompts.fusion_positions.to(device),
        inputs,
        prompts.n_shared,
    )
    return logits


def score_events(
    classifier: EventClassifier,
    encoder: PromptEncoder,
    inputs: ModelInputs,
    *,
    batch_size: int | None,
    on_batch: Callable[[int], object] | None = None,
) -> Floats:
    """Scores events without changing the training state.

    Events of one hypothesis go through the model together, because they share its words.

    Args:
        classifier: the model; its train or eval mode is restored.
        encoder: writes and tokenises the prompts.
        inputs: N events.
        batch_size: events per forward pass; None: the encoder's ``events_at_once``.
        on_batch: called after each batch with its number of events.

    Returns:
        Logit of signal minus logit of background, shape (N,).
    """
    scores, order = np.empty(len(inputs)), order_by_hypothesis(inputs)
    size = encoder.events_at_once if batch_size is None else batch_size
    was_training = classifier.training
    classifier.eval()
    try:
        with torch.inference_mode(), fused_lora(classifier.language_model):
            for start in range(0, len(inputs), size):
                rows = order[start : start + size]
                part = inputs.take(rows)
                logits = forward_prompts(classifier, encoder.encode(part), part)
                scores[rows] = (logits[:, 1] - logits[:, 0]).double().cpu().numpy()
                if on_batch is not None:
                    on_batch(len(part))
    finally:
        classifier.train(was_training)
    return scores


def order_by_hypothesis(inputs: ModelInputs) -> NDArray[np.int64]:
    """Positions of N events, shape (N,), in which those of one hypothesis are neighbours."""
    if inputs.hypothesis is None:
        return np.arange(len(inputs))
    return np.argsort(distinct_hypotheses(inputs)[1], kind="stable")


def distinct_hypotheses(inputs: ModelInputs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Finds the hypotheses of N events.

    Returns:
        The first event of each hypothesis, and the number of each event's hypothesis, shape (N,).
    """
    if inputs.hypothesis is None:
        return np.zeros(min(1, len(inputs)), np.int64), np.zeros(len(inputs), np.int64)
    numbers: dict[Hypothesis, int] = {}
    places = np.array([numbers.setdefault(one, len(numbers)) for one in inputs.hypothesis.tolist()])
    return np.unique(places, return_index=True)[1], places
