"""Predictions of a language model on this machine: a backbone, or the model of a run.

What the targets of a request have in common stands once before them, as the question of packed
events (``hepllm.model.packing``): the context is encoded once, and each target attends to it and to
itself. In serial mode each prompt is a sequence of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hepllm.arrays import Floats
from hepllm.config import BackboneConfig, FusionConfig
from hepllm.errors import InputError
from hepllm.hypotheses.hypothesis import OPEN
from hepllm.labelling.predictions import Context, Request
from hepllm.labelling.wording import Wording
from hepllm.model.backbone import causal_model, load_backbone
from hepllm.model.classifier import EventClassifier, build_classifier
from hepllm.model.encoding import PromptEncoder, start_tokens
from hepllm.model.fused_lora import fused_lora
from hepllm.model.inputs import ModelInputs
from hepllm.model.labelled import ItemTokens, LabelTokens, label_tokens, with_examples
from hepllm.model.packing import Question, pack
from hepllm.model.prompts import FUSION_MARK, LABEL_WORDS

_AT_ONCE = 128
"""Most targets behind one context; more would save next to nothing."""


@dataclass(frozen=True, eq=False)
class TokenParts:
    """The parts of prompts as tokens.

    Attributes:
        head: what comes first, with the masses of a hypothesis.
        items: each of M items.
        labels: tokens of the labels 0 and 1 with what separates events.
        soft: soft tokens of the items, shape (M, n_soft, hidden size); None for text only.
        masses: soft tokens of the head's masses, shape (n_masses, hidden size).
        sign: -1 where the names of the labels are exchanged.
    """

    head: Question
    items: tuple[ItemTokens, ...]
    labels: LabelTokens
    soft: Tensor | None = None
    masses: Tensor | None = None
    sign: int = 1


class LocalModel:
    """Predicts labels with a classifier, of whose training labelled events may be a part.

    Args:
        classifier: the language model with the rows of the label words.
        parts: tokens of prompts.
        serial: one prompt at a time, without sharing.
        name: name of the model, for messages.
    """

    def __init__(
        self, classifier: EventClassifier, parts: TokenParts, *, serial: bool, name: str
    ) -> None:
        self._classifier = classifier.eval()
        self._parts = parts
        self._serial = serial
        self._name = name
        self._most = _context_length(causal_model(classifier.language_model).config)
        if not serial:
            classifier.prepare_packing()

    def log_odds(self, requests: Sequence[Request]) -> list[Floats]:
        """Returns log P(1) / P(0) of the targets of each request."""
        with torch.inference_mode(), fused_lora(self._classifier.language_model):
            return [self._of_request(request) for request in requests]

    def check_fit(self, size: int) -> None:
        """Checks that a prompt with ``size`` labelled items fits, whichever they are.

        Raises:
            InputError: if it may not.
        """
        needed = self.n_tokens(size)
        if self._most is None or needed <= self._most:
            return
        fits = max((n for n in range(size) if self.n_tokens(n) <= self._most), default=0)
        remedy = f"set label.context={fits}" if fits else "print fewer features (label.features)"
        raise InputError(
            f"label.context: {size} labelled events and one more make up to {needed} tokens, and "
            f"{self._name} reads {self._most}; {remedy}"
        )

    def n_tokens(self, size: int) -> int:
        """Tokens of the longest prompt with ``size`` labelled items."""
        lengths = sorted((len(item.ids) for item in self._parts.items), reverse=True)
        longest_label = max(map(len, self._parts.labels))
        shown = lengths[:size] + lengths[:1] * max(0, size - len(lengths))
        return len(self._parts.head.token_ids) + sum(shown) + size * longest_label + lengths[0]

    def _of_request(self, request: Request) -> Floats:
        # Without a head nothing is shared, and packed events need something before them.
        is_alone = self._serial or not (request.context.items or self._parts.head.token_ids)
        size = 1 if is_alone else _AT_ONCE
        found = []
        for start in range(0, len(request.targets), size):
            targets = request.targets[start : start + size]
            if is_alone:
                logits = self._read_alone(request.context, targets[0])
            else:
                logits = self._read_packed(request.context, targets)
            found.append((logits[:, 1] - logits[:, 0]).double().cpu().numpy())
        odds: Floats = np.concatenate(found) if found else np.empty(0)
        return self._parts.sign * odds

    def _read_packed(self, context: Context, targets: Sequence[int]) -> Tensor:
        prefix, soft = self._prefix(context)
        items = [self._parts.items[target] for target in targets]
        filler = prefix[0]
        own = max(len(item.ids) for item in items)
        prompts = pack(
            [Question(prefix)],
            np.zeros(len(targets), dtype=np.int64),
            [filler] * own,
            n_soft=1,
            filler=filler,
            events_per_question=len(targets),
        )
        firsts = prompts.fusion_places[:, 0]
        flat = prompts.token_ids.view(-1)  # one row, which is filled in place
        for first, item in zip(firsts.tolist(), items, strict=True):
            flat[first : first + len(item.ids)] = torch.tensor(item.ids)
        # What is behind the last token of a shorter item is padding that no other token sees.
        lengths = torch.tensor([len(item.ids) for item in items])
        prompts = replace(prompts, last_places=firsts + lengths - 1)
        soft += self._soft_of(
            (target, first + item.soft_at)
            for target, first, item in zip(targets, firsts.tolist(), items, strict=True)
        )
        return self._classifier.read_packed(prompts, soft)

    def _read_alone(self, context: Context, target: int) -> Tensor:
        prefix, soft = self._prefix(context)
        item = self._parts.items[target]
        soft += self._soft_of([(target, len(prefix) + item.soft_at)])
        ids = torch.tensor([*prefix, *item.ids])
        return self._classifier.read_sequence(ids, soft)

    def _prefix(self, context: Context) -> tuple[list[int], list[tuple[Tensor, Tensor]]]:
        """Tokens of the head and of labelled items, and their soft tokens."""
        parts = self._parts
        shown = [parts.items[item] for item in context.items]
        prefix = with_examples(parts.head, shown, context.labels, parts.labels)
        soft = []
        if parts.masses is not None and len(parts.masses):
            soft.append((torch.tensor(prefix.mass_places), parts.masses))
        firsts = zip(context.items, prefix.soft_places, strict=True)
        return list(prefix.token_ids), soft + self._soft_of(firsts)

    def _soft_of(self, firsts: Iterable[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
        """Places and vectors of the soft tokens of items, given with the first place of each."""
        soft = self._parts.soft
        if soft is None:
            return []
        found = list(firsts)
        if not found:
            return []
        within = torch.arange(soft.shape[1])
        places = [first + within for _, first in found]
        vectors = soft[[item for item, _ in found]]
        return [(torch.cat(places), vectors.flatten(0, 1))]


def _context_length(config: Any) -> int | None:
    """Tokens that a model reads, as its configuration says; None where it does not."""
    found = getattr(config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) else None


def backbone_model(
    config: BackboneConfig, wording: Wording, *, seed: int, serial: bool
) -> LocalModel:
    """Loads a backbone without training; it reads events as text.

    Raises:
        InputError: if it cannot be loaded, or the names of the labels begin with the same token.
    """
    backbone = load_backbone(config, seed)
    tokenizer = backbone.tokenizer
    rows = _label_rows(tokenizer, wording)
    classifier = build_classifier(backbone, rows, (), FusionConfig(enabled=False), seed)
    items = tuple(ItemTokens(tuple(ids)) for ids in _tokens(tokenizer, wording.items))
    labels = label_tokens(partial(_tokens, tokenizer), wording.words)
    head = Question([*start_tokens(tokenizer), *_tokens(tokenizer, [wording.head])[0]])
    parts = TokenParts(head, items, labels)
    return LocalModel(classifier, parts, serial=serial, name=config.name)


def run_model(
    classifier: EventClassifier,
    encoder: PromptEncoder,
    inputs: ModelInputs,
    names: tuple[str, str],
    feature_names: Sequence[str],
    *,
    serial: bool,
    name: str,
) -> LocalModel:
    """Makes the model of a run predict labels after labelled events.

    It has learnt to read them if ``train.examples`` was a part of its training.

    Args:
        classifier: its classifier.
        encoder: its encoder.
        inputs: M items, all under one hypothesis.
        names: names of the labels 0 and 1; those of its training, maybe exchanged.
        feature_names: features of the inputs.
        serial: one prompt at a time.
        name: name of the run, for messages.

    Raises:
        InputError: the names are others than those of its training.
    """
    words = f" {names[0].strip()}", f" {names[1].strip()}"
    if set(words) != set(LABEL_WORDS):
        raise InputError(
            f"label.names: a run knows {' and '.join(one.strip() for one in LABEL_WORDS)}, found "
            f"{', '.join(names)}; name these, exchanged as a control"
        )
    if encoder.reads_hypotheses:
        head = encoder.question(OPEN if inputs.hypothesis is None else inputs.hypothesis[0])
        texts = [FUSION_MARK] * len(inputs)
    else:
        head, rows = Question(encoder.start), inputs.numbers.tolist()
        texts = [encoder.write(dict(zip(feature_names, row, strict=True))) for row in rows]
    halves = [text.partition(FUSION_MARK) for text in texts]
    before = encoder.tokens([half[0] for half in halves])
    after = encoder.tokens([half[2] for half in halves])
    filler = encoder.label_tokens[0]
    soft = masses = None
    nfa = classifier.nfa
    if nfa is not None:
        with torch.inference_mode():
            soft = nfa(inputs)
            if head.masses:
                values = torch.tensor(head.masses, dtype=torch.float64, device=classifier.device)
                masses = nfa.encode_masses(values)
    items = tuple(
        ItemTokens((*first, *[filler] * encoder.n_soft, *last), len(first))
        for first, last in zip(before, after, strict=True)
    )
    sign = 1 if words == LABEL_WORDS else -1
    parts = TokenParts(head, items, label_tokens(encoder.tokens, words), soft, masses, sign)
    return LocalModel(classifier, parts, serial=serial, name=name)


def _tokens(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of texts that stand within a prompt."""
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return ids


def _label_rows(tokenizer: Any, wording: Wording) -> tuple[int, int]:
    """The first token of each label's name."""
    background, signal = (ids[0] for ids in _tokens(tokenizer, wording.words))
    if background == signal:
        raise InputError(
            f"label.names: {' and '.join(wording.names)} begin with the same token of this model; "
            "choose others"
        )
    return background, signal
