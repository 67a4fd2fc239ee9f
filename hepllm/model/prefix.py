"""Encodes the tokens that all prompts begin with once for a whole batch.

In causal attention no token reads a later one, so keys and values of a common beginning are the
same in every event. They are computed once and repeated over the batch; the rest of each prompt
reads them. Gradients flow back through them, summed over the events.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_LEAST_TOKENS = 16
_LEAST_SAVING = 0.2
"""Share of a batch's tokens that must be saved.

The second pass reads all weights once more, and attention over a cache needs a mask, which rules
out the fastest kernel (measured by tools/bench/bench_train.py).
"""


def sharing_pays(n_shared: int, n_tokens: int, n_events: int) -> bool:
    """Returns whether one extra pass for the shared tokens saves more than it costs."""
    saved = (n_events - 1) * n_shared
    return n_shared >= _LEAST_TOKENS and saved >= _LEAST_SAVING * n_events * n_tokens


def obstacle_to_sharing(causal: Any, *, training: bool) -> str | None:
    """Returns why a causal language model cannot share a prefix, or None where it can.

    ``training`` says whether gradients and dropout are wanted.
    """
    layers = DynamicCache(config=causal.config).layers
    if not all(isinstance(layer, DynamicLayer) for layer in layers):
        return "this model caches more than keys and values"
    if not training:
        return None
    if causal.is_activation_checkpointing:
        return "activation checkpointing drops keys and values"
    in_attention = getattr(causal.config, "attention_dropout", 0.0) or 0.0
    modules = (module for module in causal.modules() if isinstance(module, nn.Dropout))
    if in_attention > 0 or any(module.p > 0 for module in modules):
        return "dropout would draw the same mask in them for the whole batch"
    return None


def encode_prefix(transformer: Any, embeddings: Tensor, n_events: int) -> DynamicCache:
    """Returns keys and values of a common beginning, repeated over a batch.

    Args:
        transformer: the language model without its output matrix.
        embeddings: embeddings of the beginning, shape (1, P, hidden size).
        n_events: events in the batch.
    """
    cache: DynamicCache = transformer(inputs_embeds=embeddings, use_cache=True).past_key_values
    cache.batch_repeat_interleave(n_events)
    return cache
