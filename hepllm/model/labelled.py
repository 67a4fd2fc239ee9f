"""Labelled events before those to classify: how they stand in a prompt, in training and after it.

A prompt is a head, labelled events one after another, and the event to classify. What comes before
the last event is common to all events that are classified after the same examples, so it is their
question (``hepllm.model.packing``) and is encoded once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hepllm.arrays import Ints, Labels
from hepllm.hypotheses.hypothesis import OPEN
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.packing import PackedPrompts, Question, pack
from hepllm.model.prompts import LABEL_WORDS, SEPARATOR

LabelTokens = tuple[tuple[int, ...], tuple[int, ...]]
"""Tokens of the labels 0 and 1 with what separates events."""


@dataclass(frozen=True)
class ItemTokens:
    """The tokens of an event, up to where its label goes; ``soft_at`` is its first soft token."""

    ids: tuple[int, ...]
    soft_at: int = 0


@dataclass(frozen=True, eq=False)
class LabelledEvents:
    """E labelled events that stand before others, in the order of the prompts.

    Attributes:
        inputs: the events, under the hypotheses of those that they stand before.
        labels: shape (E,), as the prompts say them.
        groups: shape (E,), the group of events that each stands before.
    """

    inputs: ModelInputs
    labels: Labels
    groups: Ints


def label_tokens(
    tokenize: Callable[[Sequence[str]], Sequence[Sequence[int]]],
    words: tuple[str, str] = LABEL_WORDS,
) -> LabelTokens:
    """Tokenises what follows a labelled event; ``words`` begin with a space, background first."""
    background, signal = (tuple(ids) for ids in tokenize([word + SEPARATOR for word in words]))
    return background, signal


def with_examples(
    head: Question, items: Sequence[ItemTokens], labels: Sequence[int], endings: LabelTokens
) -> Question:
    """Puts labelled events behind what a prompt begins with.

    Args:
        head: the beginning.
        items: the events.
        labels: their labels.
        endings: tokens of labels.
    """
    ids, starts = list(head.token_ids), []
    for item, label in zip(items, labels, strict=True):
        starts.append(len(ids) + item.soft_at)
        ids += [*item.ids, *endings[label]]
    return replace(head, token_ids=ids, soft_places=starts)


def encode_after(
    encoder: PromptEncoder, inputs: ModelInputs, groups: Ints, examples: LabelledEvents
) -> PackedPrompts:
    """Tokenises events in the layout ``question``, each behind the examples of its group.

    Args:
        encoder: of prompts without a chat template.
        inputs: B events.
        groups: shape (B,), their groups; events of a group have the same hypothesis.
        examples: labelled events; a group may have none.

    Returns:
        Prompts that need soft tokens of the B events and of ``PackedPrompts.examples``.
    """
    filler = encoder.label_tokens[0]
    ending = (filler,) * encoder.n_soft
    item, endings = ItemTokens(ending), label_tokens(encoder.tokens)
    numbers = dict[int, int]()
    asked = np.array([numbers.setdefault(group, len(numbers)) for group in groups.tolist()])
    questions = []
    for group in numbers:
        first = int((groups == group).argmax())
        hypothesis = OPEN if inputs.hypothesis is None else inputs.hypothesis[first]
        mine = (examples.groups == group).nonzero()[0]
        labels = examples.labels[mine].tolist()
        question = with_examples(encoder.question(hypothesis), [item] * len(mine), labels, endings)
        questions.append(replace(question, soft_events=mine.tolist()))
    return pack(questions, asked, ending, n_soft=encoder.n_soft, filler=filler)
