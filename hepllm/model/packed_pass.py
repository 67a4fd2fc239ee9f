"""Runs packed events through a language model of any family of transformers.

A mask with four axes reaches the attention of all layers as it is. Where some layers see a window
of the latest tokens only (Mistral, Gemma, some Qwen), they need a mask of their own.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from hepllm.errors import InputError
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
        causal: causal language model of transformers.
        embeddings: embeddings of the tokens, shape (R, S, hidden size).
        prompts: where the tokens belong.
        dtype: precision of autocast; None for none.
    """
    device = embeddings.device
    masks = _masks(causal.config, prompts, dtype or embeddings.dtype, device)
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        hidden: Tensor = causal.base_model(
            inputs_embeds=embeddings,
            attention_mask=masks,
            position_ids=prompts.position_ids.to(device),
            use_cache=False,
        ).last_hidden_state
    return hidden


def require_packing(causal: Any, dtype: torch.dtype | None) -> None:
    """Checks that a model keeps packed events apart, and chooses an attention that takes masks.

    Raises:
        InputError: if the model cannot.
    """
    obstacle = _obstacle(causal) or _difference(causal, dtype)
    if obstacle is not None:
        raise InputError(
            f"backbone.name: this model cannot read many events behind one question: {obstacle}; "
            "set prompt.layout=minimal"
        )


def _obstacle(causal: Any) -> str | None:
    """Returns what of a model's kind forbids packing; None for nothing."""
    layers = DynamicCache(config=causal.config).layers
    if not all(isinstance(layer, DynamicLayer) for layer in layers):
        return "its layers keep a state besides keys and values, in which events would mix"
    taken = inspect.signature(causal.base_model.forward).parameters
    if "position_ids" not in taken:
        return "it takes no positions of tokens"
    if causal.config._attn_implementation not in _WITH_MASKS:
        causal.set_attn_implementation("sdpa" if causal._supports_sdpa else "eager")
    return None


@torch.no_grad()
def _difference(causal: Any, dtype: torch.dtype | None) -> str | None:
    """Compares two packed events with the second one alone; None if they agree."""
    words = causal.get_input_embeddings()
    device, ids = words.weight.device, [3, 5, 7, 11, 13, 17]
    table = words(torch.tensor(ids, device=device))
    together = pack([Question(ids[:4])], np.zeros(2, dtype=np.int64), [0], n_soft=1, filler=0)
    alone = pack([Question(ids[:4])], np.zeros(1, dtype=np.int64), [0], n_soft=1, filler=0)
    was_training = causal.training
    causal.eval()
    try:
        first = encode_packed(causal, table.unsqueeze(0), together, dtype)[0, 5].float()
        places = torch.tensor([0, 1, 2, 3, 5], device=device)
        other = encode_packed(causal, table[places].unsqueeze(0), alone, dtype)[0, 4].float()
    finally:
        causal.train(was_training)
    found = float((first - other).norm() / other.norm())
    if found < (_TOLERANCE if dtype is None else _ROUGH_TOLERANCE):
        return None
    return f"an event behind another one differs from the same event alone, by {100 * found:.0f} %"


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
