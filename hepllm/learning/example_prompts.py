"""Prompts of a step with the labelled events that it shows (``hepllm.learning.examples``)."""

from __future__ import annotations

from dataclasses import replace

from hepllm.arrays import Ints
from hepllm.config import ExamplesConfig
from hepllm.learning.examples import Examples
from hepllm.model.encoding import EncodedPrompts, PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.labelled import LabelledEvents, encode_after, label_tokens
from hepllm.model.packing import PackedPrompts


def encode_shown(
    encoder: PromptEncoder,
    inputs: ModelInputs,
    groups: Ints | None,
    examples: Examples | None,
    everything: ModelInputs,
) -> tuple[EncodedPrompts | PackedPrompts, ModelInputs]:
    """Tokenises B events of a step, behind the examples of their groups.

    Args:
        encoder: of the prompts.
        inputs: the events, under their hypotheses.
        groups: their groups, shape (B,); None: all without one.
        examples: labelled events of these groups; None without.
        everything: inputs of all training events.

    Returns:
        The prompts, and the inputs of all events that they need soft tokens of.
    """
    if examples is None or groups is None or inputs.hypothesis is None:
        return encoder.encode(inputs), inputs
    first = [int((groups == group).argmax()) for group in examples.groups]
    shown = replace(everything.take(examples.events), hypothesis=inputs.hypothesis[first])
    labelled = LabelledEvents(shown, examples.labels, examples.groups)
    prompts = encode_after(encoder, inputs, groups, labelled)
    behind = shown.take(prompts.examples.numpy())
    return prompts, ModelInputs.concatenate([inputs, behind])


def most_tokens(encoder: PromptEncoder, config: ExamplesConfig) -> int:
    """Tokens of the largest number of examples."""
    longest = max(map(len, label_tokens(encoder.tokens)))
    return config.most * (encoder.n_soft + longest)
