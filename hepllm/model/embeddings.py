"""The matrices at both ends of a language model: embeddings of tokens, and the output matrix.

They have a row for each of up to 262,144 tokens, and are not quantised: with 4-bit weights between
them they are what fills a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import nn

from hepllm.errors import InputError

_PIECE = 2**22
"""Numbers of a table that are looked at together: 16 MiB in float32."""
_TRIAL = (3, 5, 7, 11)
_TOLERANCE = 0.05
"""Largest relative difference between words read by number and by embedding; rounding makes 0."""


@torch.no_grad()
def embedding_rms(causal: Any) -> float:
    """Returns the root mean square of the embeddings of all tokens, as its layers read them.

    Gemma scales embeddings where it looks them up, so the table alone does not tell.
    """
    words = causal.get_input_embeddings()
    n_tokens, n_features = words.weight.shape
    size = max(1, _PIECE // n_features)
    total = 0.0
    for start in range(0, n_tokens, size):
        ids = torch.arange(start, min(start + size, n_tokens), device=words.weight.device)
        total += float(words(ids).float().square().sum(dtype=torch.float64))
    return float((total / (n_tokens * n_features)) ** 0.5)


def keep_output_rows(causal: Any, rows: Sequence[int]) -> tuple[int, ...]:
    """Frees all rows of the output matrix but some, unless the embeddings are the same matrix.

    Returns:
        Where these rows stand now.
    """
    head, words = causal.get_output_embeddings(), causal.get_input_embeddings()
    if head.weight is words.weight:
        return tuple(rows)
    chosen = head.weight.detach()[list(rows)].clone()
    kept = nn.Linear(chosen.shape[1], len(rows), bias=False, device="meta")
    kept.weight = nn.Parameter(chosen, requires_grad=False)
    causal.set_output_embeddings(kept)
    return tuple(range(len(rows)))


@torch.no_grad()
def check_embeddings_suffice(causal: Any, dtype: torch.dtype | None) -> None:
    """Checks that a model reads embeddings as it reads the tokens that they belong to.

    Some models scale embeddings after they are looked up, or look up more of each token in deeper
    layers. Soft tokens would not be what these read.

    Args:
        causal: causal language model of transformers.
        dtype: precision of autocast; None for none.

    Raises:
        InputError: if the model reads something else.
    """
    words = causal.get_input_embeddings()
    ids = torch.tensor([_TRIAL], device=words.weight.device)
    known = words(ids)
    soft = torch.cat([known, 0.9 * known])  # the second row is no words
    was_training = causal.training
    causal.eval()
    try:
        with torch.autocast(ids.device.type, dtype, enabled=dtype is not None):
            expected = causal.base_model(input_ids=ids, use_cache=False).last_hidden_state
            found = causal.base_model(inputs_embeds=soft, use_cache=False).last_hidden_state[:1]
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        _refuse(" ".join(str(error).split())[:150], error)
    finally:
        causal.train(was_training)
    difference = float((found.float() - expected.float()).norm() / expected.float().norm())
    if not difference < _TOLERANCE:
        _refuse(f"words differ by {100 * difference:.0f} %")


def _refuse(reason: str, cause: Exception | None = None) -> NoReturn:
    raise InputError(
        "backbone.name: this model reads more of a word than its embedding, so it cannot read "
        f"soft tokens ({reason}); choose another model"
    ) from cause
