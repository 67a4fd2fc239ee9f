"""Runs packed events through a language model of any family of transformers.

Most families pass the arrangement of the tokens on to ``packed_attention``. In the others, a mask
with four axes reaches the attention of all layers as it is; where some layers see a window of the
latest tokens only (Mistral, Gemma, some Qwen), they need a mask of their own.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionCacheLayerMixin

from hepllm.errors import InputError
from hepllm.model.footprint import PACKED
from hepllm.model.packed_attention import arrange
from hepllm.model.packing import PackedPrompts, Question, additive_mask, pack

_WITH_MASKS = ("sdpa", "eager")
"""Attentions of transformers that take any mask."""
_SLIDING = "sliding_attention"
_TOLERANCE, _ROUGH_TOLERANCE = 1e-3, 0.05
"""Largest relative difference of a packed event in float32, and in 16 bits, where rounding alone
makes 0.02. Where events mix or stand at wrong positions, it is above 0.1."""


def encode_packed(
    causal: Any, embeddings: Tensor, prompts: PackedPrompts, dtype: torch.dtype | None
) -> Tensor:
    """Returns the last hidden states of packed prompts, shape (R, S, hidden size).

    Args:
        causal: causal language model of transformers, after ``prepare_packing``.
        embeddings: embeddings of the tokens, shape (R, S, hidden size).
        prompts: where the tokens belong.
        dtype: precision of autocast; None for none.
    """
    device = embeddings.device
    options: dict[str, Any] = {}
    if causal.config._attn_implementation == PACKED:
        options["arrangement"] = arrange(prompts, device)
    else:
        precision = dtype or embeddings.dtype
        options["attention_mask"] = _masks(causal.config, prompts, precision, device)
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        hidden: Tensor = causal.base_model(
            inputs_embeds=embeddings,
            position_ids=prompts.position_ids.to(device),
            use_cache=False,
            **options,
        ).last_hidden_state
    return hidden


def prepare_packing(causal: Any, dtype: torch.dtype | None) -> None:
    """Chooses the fastest attention that keeps packed events apart, by trying.

    Two events behind a question are compared with the second one alone, as the model's own
    attention reads it.

    Raises:
        InputError: if the model cannot.
    """
    layers = DynamicCache(config=causal.config).layers
    if any(
        isinstance(layer, LinearAttentionCacheLayerMixin) or not isinstance(layer, DynamicLayer)
        for layer in layers
    ):
        _refuse("its layers keep a state besides keys and values, in which events would mix")
    if "position_ids" not in inspect.signature(causal.base_model.forward).parameters:
        _refuse("it takes no positions of tokens")
    given = causal.config._attn_implementation
    if given not in _WITH_MASKS:
        given = "sdpa" if causal._supports_sdpa else "eager"
        causal.set_attn_implementation(given)
    tolerance = _TOLERANCE if dtype is None else _ROUGH_TOLERANCE
    alone = _state_of_last(causal, [1], dtype)
    if causal._can_set_attn_implementation():
        causal.set_attn_implementation(PACKED)
        if _relative(_state_of_last(causal, [0, 1], dtype), alone) < tolerance:
            return
        causal.set_attn_implementation(given)
    difference = _relative(_state_of_last(causal, [0, 1], dtype), alone)
    if difference >= tolerance:
        _refuse(f"an event behind another differs from the same alone by {100 * difference:.0f} %")


def _refuse(obstacle: str) -> None:
    raise InputError(
        f"backbone.name: this model cannot read many events behind one question: {obstacle}; "
        "set prompt.layout=minimal"
    )


def _relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@torch.no_grad()
def _state_of_last(causal: Any, events: list[int], dtype: torch.dtype | None) -> Tensor:
    """Returns the hidden state after the last of some trial events of two tokens each."""
    words = causal.get_input_embeddings()
    question, tokens = Question([3, 5, 7, 11]), [[13, 17], [19, 23]]
    asked = np.zeros(len(events), dtype=np.int64)
    prompts = pack([question], asked, [0, 0], n_soft=1, filler=0)
    ids = torch.tensor([*question.token_ids, *(id_ for event in events for id_ in tokens[event])])
    embeddings = words(ids.to(words.weight.device)).unsqueeze(0)
    was_training = causal.training
    causal.eval()
    try:
        return encode_packed(causal, embeddings, prompts, dtype)[0, -1].float()
    finally:
        causal.train(was_training)


def _masks(
    config: Any, prompts: PackedPrompts, dtype: torch.dtype, device: torch.device
) -> Tensor | dict[str, Tensor]:
    """Returns the mask of all layers, or of each kind of layers if some see a window only."""
    text = config.get_text_config()
    window = getattr(text, "sliding_window", None)
    full = additive_mask(prompts.may_attend(device), dtype)
    if window is None or window > int(prompts.position_ids.max()):
        return full
    sliding = additive_mask(prompts.may_attend(device, window), dtype)
    kinds = set(getattr(text, "layer_types", None) or [_SLIDING])
    if len(kinds) == 1:
        return sliding if kinds == {_SLIDING} else full
    return {"full_attention": full, _SLIDING: sliding}
