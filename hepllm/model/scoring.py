"""Scores of events from one forward pass each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from hepllm.arrays import Floats
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import EncodedPrompts, PromptEncoder


def forward_rows(
    classifier: EventClassifier,
    encoder: PromptEncoder,
    text_rows: Floats,
    number_rows: Floats,
) -> torch.Tensor:
    """Logits of one batch.

    Args:
        classifier: the model.
        encoder: writes and tokenises the prompts.
        text_rows: shape (B, F), what the prompts print.
        number_rows: shape (B, F), what the adapter reads; the same as ``text_rows`` but in
            ablations.

    Returns:
        Shape (B, 2), background then signal.
    """
    return forward_prompts(classifier, encoder.encode(text_rows), number_rows)


def forward_prompts(
    classifier: EventClassifier, prompts: EncodedPrompts, number_rows: Floats
) -> torch.Tensor:
    """Logits of one batch of encoded prompts, shape (B, 2).

    Args:
        classifier: the model.
        prompts: of B events.
        number_rows: shape (B, F), what the adapter reads.
    """
    device = classifier.device
    has_nfa = classifier.nfa is not None
    logits: torch.Tensor = classifier(
        prompts.token_ids.to(device),
        None if prompts.attention_mask is None else prompts.attention_mask.to(device),
        None if prompts.fusion_positions is None else prompts.fusion_positions.to(device),
        torch.from_numpy(np.ascontiguousarray(number_rows)).to(device) if has_nfa else None,
        prompts.n_shared,
    )
    return logits


def score_events(
    classifier: EventClassifier,
    encoder: PromptEncoder,
    rows: Floats,
    *,
    batch_size: int,
    number_rows: Floats | None = None,
    on_batch: Callable[[int], object] | None = None,
) -> Floats:
    """Scores events without touching the training state.

    Args:
        classifier: the model; its train or eval mode is restored.
        encoder: writes and tokenises the prompts.
        rows: shape (N, F), features in the model's order; NaN where missing.
        batch_size: events a forward pass.
        number_rows: what the adapter reads instead of ``rows``, for ablations.
        on_batch: called with the number of events done after each batch.

    Returns:
        Logit of signal minus logit of background, shape (N,).
    """
    numbers = rows if number_rows is None else number_rows
    scores = np.empty(len(rows))
    was_training = classifier.training
    classifier.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(rows), batch_size):
                part = slice(start, start + batch_size)
                logits = forward_rows(classifier, encoder, rows[part], numbers[part])
                scores[part] = (logits[:, 1] - logits[:, 0]).double().cpu().numpy()
                if on_batch is not None:
                    on_batch(len(rows[part]))
    finally:
        classifier.train(was_training)
    return scores
