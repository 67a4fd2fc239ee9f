"""Gradient checkpointing of a language model that is not trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftModel
from transformers.modeling_layers import GradientCheckpointingLayer

from hepllm.model.backbone import causal_model, set_checkpointing


@contextmanager
def checkpointed(wrapped: PeftModel) -> Iterator[None]:
    """Computes activations again in the backward pass, inside the ``with`` block, in eval mode too.

    Layers of transformers checkpoint only where they are in train mode. The blocks alone are put
    into it, not what they hold, so that dropout stays off.
    """
    blocks = [
        part
        for part in causal_model(wrapped).modules()
        if isinstance(part, GradientCheckpointingLayer)
    ]
    before = [(block, block.training) for block in blocks]
    was_enabled = any(block.gradient_checkpointing for block in blocks)
    set_checkpointing(wrapped, enabled=True)
    try:
        for block in blocks:
            block.training = True
        yield
    finally:
        for block, training in before:
            block.training = training
        set_checkpointing(wrapped, enabled=was_enabled)
