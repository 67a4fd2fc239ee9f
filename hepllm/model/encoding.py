"""Turns events into token ids with places for soft tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hepllm.config import FusionConfig, PromptConfig
from hepllm.errors import InputError, RunError
from hepllm.hypotheses.hypothesis import OPEN, Hypothesis
from hepllm.model.adapter.fusion import count_soft_tokens
from hepllm.model.inputs import ModelInputs
from hepllm.model.packing import EVENTS_PER_QUESTION, PackedPrompts, Question, pack
from hepllm.model.prompts import FUSION_MARK, LABEL_WORDS, pieces, question, split_at_masses

_CUE_OF_EVENTS = "class:"
"""Words that end a question, after which label words are tokenised; a soft token follows them."""
_PROBES = (math.nan, -1.0, 0.0, 1.0, 1e5)
"""Values whose texts differ from their first character on."""


@dataclass(frozen=True)
class EncodedPrompts:
    """Token ids of B prompts of at most L tokens, padded on the right.

    Attributes:
        token_ids: shape (B, L); a filler id where soft tokens go.
        attention_mask: shape (B, L), or None where all prompts are equally long.
        fusion_positions: shape (B, n_tokens), or None for text only.
        n_shared: tokens that all prompts of this layout begin with, before any soft token.
    """

    token_ids: Tensor
    attention_mask: Tensor | None
    fusion_positions: Tensor | None
    n_shared: int = 0

    @property
    def n_tokens_of_event(self) -> int:
        """Tokens of the longest prompt."""
        return self.token_ids.shape[1]

    @property
    def n_tokens(self) -> int:
        """Tokens of all prompts, without padding."""
        mask = self.attention_mask
        return self.token_ids.numel() if mask is None else int(mask.sum())


@dataclass(frozen=True)
class TextToken:
    """A token and its characters in the prompt, ``text[start:stop]``.

    Attributes:
        id: token id; a filler for a soft token.
        start: position of the first character.
        stop: position after the last character.
        soft: whether the adapter makes the token.
    """

    id: int
    start: int
    stop: int
    soft: bool = False


def start_tokens(tokenizer: Any) -> list[int]:
    """Returns what a tokenizer puts before each text: <s>, <bos>, <|begin_of_text|>, or nothing.

    A model that was trained with such a token computes badly without it. Whether there is one, the
    tokenizer's own rules for texts decide: having a name for it (SmolLM2, Qwen) is not enough.
    """
    plain, whole = (
        tokenizer([_CUE_OF_EVENTS], add_special_tokens=special)["input_ids"][0]
        for special in (False, True)
    )
    places = range(len(whole) - len(plain) + 1)
    found = (whole[:place] for place in places if whole[place : place + len(plain)] == plain)
    return list(next(found, []))


class PromptEncoder:
    """Writes events as prompts and tokenises them.

    Args:
        tokenizer: tokenizer of the language model.
        names: features of the model, in the order of the columns of ``ModelInputs.numbers``.
        prompt: layout, template and printed features.
        fusion: settings of the adapter, which decide the number of soft tokens.
    """

    def __init__(
        self, tokenizer: Any, names: Sequence[str], prompt: PromptConfig, fusion: FusionConfig
    ) -> None:
        self._tokenizer = tokenizer
        self._layout = prompt.chosen_layout(fusion)
        self._prints_masses = prompt.masses == "digits"
        self._chat_template = prompt.chat_template
        self._features = tuple(names)
        self._printed = prompt.printed_features(names, fusion)
        self._n_soft = count_soft_tokens(names, fusion)
        # Templates contain it already.
        self._start = [] if prompt.chat_template else start_tokens(tokenizer)
        if prompt.chat_template:
            _check_template(tokenizer)
        self.label_tokens = self._find_label_tokens()
        # Not the token for padding: a model need not have it, or know it.
        self._filler = self.label_tokens[0]
        self._prefix = self._find_prefix()

    @property
    def prints_numbers(self) -> bool:
        """Whether prompts print numbers of their events."""
        return bool(self._printed)

    @property
    def reads_hypotheses(self) -> bool:
        """Whether prompts begin with the hypothesis that events are scored under."""
        return self._layout == "question"

    @property
    def events_at_once(self) -> int:
        """Events that are scored together by default.

        Of the layout ``question`` as many as have 1024 tokens: with more, nothing is saved.
        """
        return max(1, EVENTS_PER_QUESTION // self._n_soft) if self.reads_hypotheses else 128

    @property
    def n_soft(self) -> int:
        """Soft tokens of an event."""
        return self._n_soft

    @property
    def start(self) -> list[int]:
        """Tokens that begin each prompt; none with a chat template, which has its own."""
        return list(self._start)

    def question(self, hypothesis: Hypothesis) -> Question:
        """Tokenises the words before events, in the layout ``question``."""
        return self._questions([self.write({}, hypothesis).partition(FUSION_MARK)[0]])[0]

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenises texts that stand within a prompt, without what begins one."""
        return self._token_ids(texts)

    def write(self, event: Mapping[str, float], hypothesis: Hypothesis = OPEN) -> str:
        """Writes the prompt of one event, with marks in place of soft tokens."""
        return "".join(text for _, text in self.pieces(event, hypothesis=hypothesis))

    def pieces(
        self,
        event: Mapping[str, float],
        decimals: Mapping[str, int] | None = None,
        hypothesis: Hypothesis = OPEN,
    ) -> list[tuple[str, str]]:
        """Writes the prompt in pieces: feature name, empty for words of all events, and text.

        Args:
            event: feature values in GeV and radians; NaN where missing.
            decimals: by feature, decimals in a ``full`` prompt that differ from the default.
            hypothesis: what a prompt of the layout ``question`` begins with.
        """
        if self._layout == "question":
            found = [("", question(hypothesis, digits=self._prints_masses))]
        else:
            found = pieces(
                event, self._printed, self._layout, fusion=self._n_soft > 0, decimals=decimals
            )
        if not self._chat_template:
            return found
        head, _, tail = self._with_template("\0").partition("\0")
        return [("", head), *found, ("", tail)]

    def locate(self, text: str) -> list[TextToken]:
        """Returns the tokens of a prompt from ``write``, as in ``encode``, with their positions."""
        before, mark, after = text.partition(FUSION_MARK)
        tokens = [TextToken(token, 0, 0) for token in self._start]
        start = 0
        for words, mass_mark, _ in split_at_masses(before):
            tokens += self._located(words.rstrip(" ") if mass_mark else words, start)
            start += len(words)
            if mass_mark:
                stop = start + len(mass_mark)
                tokens.append(TextToken(self._filler, start, stop, soft=True))
                start = stop
        if self._n_soft:
            end = len(before) + len(mark)
            tokens += [TextToken(self._filler, len(before), end, soft=True)] * self._n_soft
            tokens += self._located(after, end)
        return tokens

    def _located(self, text: str, start: int) -> list[TextToken]:
        if not text:
            return []
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return [
            TextToken(token, start + first, start + last)
            for token, (first, last) in zip(
                found["input_ids"], found["offset_mapping"], strict=True
            )
        ]

    def _with_template(self, text: str) -> str:
        templated: str = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        return templated

    def with_text(self, inputs: ModelInputs) -> ModelInputs:
        """Adds the prompts as text, which then stays when the numbers are exchanged."""
        return replace(inputs, text=self._texts(inputs))

    def encode(self, inputs: ModelInputs) -> EncodedPrompts | PackedPrompts:
        """Tokenises the prompts of B events, which are written from the inputs without ``text``.

        Events with a common question are packed behind it, whatever their order.
        """
        texts = self._texts(inputs)
        if self._layout == "question":
            return self._pack(texts)
        if len(set(texts)) > 1:
            return self._assemble(texts)
        one, n_events = self._assemble(texts[:1]), len(inputs)
        positions = one.fusion_positions
        return EncodedPrompts(
            one.token_ids.expand(n_events, -1).contiguous(),
            None,
            None if positions is None else positions.expand(n_events, -1).contiguous(),
            one.n_shared,
        )

    def _texts(self, inputs: ModelInputs) -> NDArray[np.object_]:
        if inputs.text is not None:
            return inputs.text
        if self._layout == "question" and inputs.hypothesis is not None:
            written = {one: self.write({}, one) for one in set(inputs.hypothesis)}
            return np.array([written[one] for one in inputs.hypothesis], dtype=object)
        if not self._printed:  # the same text for every event
            return np.full(len(inputs), self.write({}), dtype=object)
        columns = [inputs.numbers[:, self._features.index(name)] for name in self._printed]
        events = (
            dict(zip(self._printed, values, strict=True))
            for values in np.stack(columns, axis=1).tolist()
        )
        return np.array([self.write(event) for event in events], dtype=object)

    def _pack(self, texts: Sequence[str] | NDArray[np.object_]) -> PackedPrompts:
        different = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        halves = [text.partition(FUSION_MARK) for text in different]
        after = self._token_ids([half[2] for half in halves])
        if any(ids != after[0] for ids in after):
            raise ValueError("the texts of packed events end differently")
        return pack(
            self._questions([half[0] for half in halves]),
            np.array([different[text] for text in texts], dtype=np.int64),
            [self._filler] * self._n_soft + after[0],
            n_soft=self._n_soft,
            filler=self._filler,
        )

    def _questions(self, texts: Sequence[str]) -> list[Question]:
        parts = [split_at_masses(text) for text in texts]
        # The space before a mass is left out: words begin with one, and a soft token needs none.
        ids = iter(
            self._token_ids(
                [words.rstrip(" ") if mark else words for part in parts for words, mark, _ in part]
            )
        )
        found = []
        for part in parts:
            tokens, places, masses = list(self._start), [], []
            for _, mark, mass in part:
                tokens = tokens + next(ids)
                if mark:
                    places.append(len(tokens))
                    masses.append(mass)
                    tokens = [*tokens, self._filler]
            found.append(Question(tokens, places, masses))
        return found

    def _assemble(self, texts: Sequence[str] | NDArray[np.object_]) -> EncodedPrompts:
        halves = [text.partition(FUSION_MARK) for text in texts]
        before = self._token_ids([half[0] for half in halves])
        after = self._token_ids([half[2] for half in halves]) if self._n_soft else None
        start = self._start
        filler = [self._filler] * self._n_soft
        rows = [
            start + ids + (filler + after[index] if after is not None else [])
            for index, ids in enumerate(before)
        ]
        lengths = torch.tensor([len(row) for row in rows])
        token_ids = pad_sequence(
            [torch.tensor(row) for row in rows], batch_first=True, padding_value=self._filler
        )
        mask = (torch.arange(token_ids.shape[1]) < lengths.unsqueeze(1)).long()
        positions = None
        if after is not None:
            first = torch.tensor([len(start) + len(ids) for ids in before])
            positions = first.unsqueeze(1) + torch.arange(self._n_soft)
        n_shared = len(self._prefix)
        # A tokenizer could merge a number that was not probed with the text before it.
        if any(row[:n_shared] != self._prefix for row in rows):
            n_shared = 0
        return EncodedPrompts(token_ids, None if mask.all() else mask, positions, n_shared)

    def _find_prefix(self) -> list[int]:
        """Returns the tokens before the first number or soft token, which all prompts share."""
        texts = [self.write(dict.fromkeys(self._printed, value)) for value in _PROBES]
        heads = self._token_ids([text.partition(FUSION_MARK)[0] for text in texts])
        columns = takewhile(lambda column: len(set(column)) == 1, zip(*heads, strict=False))
        return self._start + [column[0] for column in columns]

    def _token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        if not any(texts):
            return [[] for _ in texts]
        ids: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return ids

    def _find_label_tokens(self) -> tuple[int, int]:
        """Returns the first tokens of the label words after the cue.

        Raises:
            RunError: if both words begin with the same token, so that their logits are equal.
        """
        cue = _CUE_OF_EVENTS
        if self._layout != "question":
            cue = self.write(dict.fromkeys(self._printed, 0.0)).rpartition("\n")[2]
        prefix, *continued = self._token_ids([cue, *(cue + word for word in LABEL_WORDS)])
        tokens = [ids[len(prefix)] for ids in continued if ids[: len(prefix)] == prefix]
        if len(tokens) != len(LABEL_WORDS) or tokens[0] == tokens[1]:
            raise RunError(
                f"the tokenizer has no distinct first tokens for {LABEL_WORDS[0]!r} and "
                f"{LABEL_WORDS[1]!r}; this backbone cannot be used"
            )
        background, signal = tokens
        return background, signal


def _check_template(tokenizer: Any) -> None:
    """Raises InputError if a tokenizer has no chat template for the words of one user."""
    try:
        tokenizer.apply_chat_template(
            [{"role": "user", "content": _CUE_OF_EVENTS}],
            tokenize=False,
            add_generation_prompt=True,
        )
    except Exception as error:  # a template is a program of its author
        reason = " ".join(str(error).split())[:150]
        raise InputError(
            "prompt.chat_template: the tokenizer of this model has no chat template for a single "
            f"user message ({reason}); set prompt.chat_template=false"
        ) from error
