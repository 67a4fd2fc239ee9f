"""Scores of events, from one forward pass per event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
    logits: Tensor = classifier(*_on_device(prompts, classifier.device), inputs, prompts.n_shared)
    return logits


def _on_device(
    prompts: EncodedPrompts, device: torch.device
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Token ids, attention mask and fusion positions on a device."""
    mask, places = prompts.attention_mask, prompts.fusion_positions
    return (
        prompts.token_ids.to(device),
        None if mask is None else mask.to(device),
        None if places is None else places.to(device),
    )


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Embeddings of N events.

    Attributes:
        states: hidden states where the class is read, shape (N, hidden size).
        soft_tokens: mean over the soft tokens of each event, likewise; None without an adapter.
        score: logit of signal minus logit of background, shape (N,).
    """

    states: NDArray[np.float32]
    soft_tokens: NDArray[np.float32] | None
    score: Floats

    @property
    def named(self) -> Mapping[str, NDArray[np.float32]]:
        """The parts of an embedding by name."""
        parts = {"read-out state": self.states, "mean of the soft tokens": self.soft_tokens}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def parts(self) -> tuple[NDArray[np.float32], ...]:
        """The parts of an embedding."""
        return tuple(self.named.values())


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
    scores = np.empty(len(inputs))

    def keep(rows: NDArray[np.int64], part: ModelInputs) -> None:
        logits = forward_prompts(classifier, encoder.encode(part), part)
        scores[rows] = (logits[:, 1] - logits[:, 0]).double().cpu().numpy()

    _in_batches(keep, classifier, encoder, inputs, batch_size=batch_size, on_batch=on_batch)
    return scores


def embed_events(
    classifier: EventClassifier,
    encoder: PromptEncoder,
    inputs: ModelInputs,
    *,
    batch_size: int | None,
    on_batch: Callable[[int], object] | None = None,
) -> Embeddings:
    """Embeds and scores events in one pass; the arguments are those of ``score_events``."""
    scores = np.empty(len(inputs))
    states: list[NDArray[np.float32]] = []
    soft: list[NDArray[np.float32]] = []
    places: list[NDArray[np.int64]] = []

    def keep(rows: NDArray[np.int64], part: ModelInputs) -> None:
        prompts = encoder.encode(part)
        if isinstance(prompts, PackedPrompts):
            hidden = classifier.last_states_of_packed(prompts, part)
        else:
            on_device = _on_device(prompts, classifier.device)
            hidden = classifier.last_states(*on_device, part, prompts.n_shared)
        logits = classifier.read(hidden)
        scores[rows] = (logits[:, 1] - logits[:, 0]).double().cpu().numpy()
        states.append(hidden.float().cpu().numpy())
        places.append(rows)
        if classifier.nfa is not None:
            soft.append(classifier.nfa(part).float().mean(dim=1).cpu().numpy())

    _in_batches(keep, classifier, encoder, inputs, batch_size=batch_size, on_batch=on_batch)
    back = np.argsort(np.concatenate(places), kind="stable")
    return Embeddings(
        np.concatenate(states)[back], np.concatenate(soft)[back] if soft else None, scores
    )


def _in_batches(
    use: Callable[[NDArray[np.int64], ModelInputs], None],
    classifier: EventClassifier,
    encoder: PromptEncoder,
    inputs: ModelInputs,
    *,
    batch_size: int | None,
    on_batch: Callable[[int], object] | None,
) -> None:
    """Calls ``use`` with the rows and inputs of each batch, with the classifier in eval mode."""
    order = order_by_hypothesis(inputs)
    size = encoder.events_at_once if batch_size is None else batch_size
    was_training = classifier.training
    classifier.eval()
    try:
        with torch.inference_mode(), fused_lora(classifier.language_model):
            for start in range(0, len(inputs), size):
                rows = order[start : start + size]
                part = inputs.take(rows)
                use(rows, part)
                if on_batch is not None:
                    on_batch(len(part))
    finally:
        classifier.train(was_training)


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
