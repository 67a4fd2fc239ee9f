"""What ``bench_train.py`` compares: ways to train and to score, their events and backbones."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import numpy as np
import torch
from numpy.typing import NDArray
from prompt_tokens import mistral_tokenizer
from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM
from usual_recipe import UsualRecipe, parse

from hepllm.config import Config, load_config
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable
from hepllm.data.views import balanced_view
from hepllm.learning.inputs import model_inputs
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.steps import Trainer, TrainingData
from hepllm.model.backbone import load_backbone
from hepllm.model.classifier import build_classifier
from hepllm.model.encoding import EncodedPrompts, PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.scoring import score_events
from hepllm.model.sources import SMOLLM2, locate_model
from hepllm.schema import FEATURES, feature_names

NAMES = feature_names("search")
PRINTED = tuple(name for name in NAMES if FEATURES[name].in_prompt)
"""What every prompt with numbers prints: those features that the registry finds worth it."""

TEXT = ("fusion.enabled=false", f"prompt.features=[{','.join(PRINTED)}]")
FULL = ("prompt.layout=full", "prompt.chat_template=true", *TEXT)
COMPACT = ("prompt.layout=compact", "prompt.chat_template=true", *TEXT)
SLOW = ("backbone.dtype=float32",)

LAYOUTS: dict[str, tuple[str, ...]] = {
    "full, chat template": FULL,
    "full": ("prompt.layout=full", *TEXT),
    "compact": ("prompt.layout=compact", *TEXT),
    "compact + numbers": ("prompt.layout=compact",),
    "minimal + numbers": ("prompt.layout=minimal",),
    "question": ("prompt.layout=question",),
}
"""Prompts from the longest to the shortest; the last three have the adapter, ``question`` packs
events behind one text."""


class WholePrompts(PromptEncoder):
    """Knows of no common beginning."""

    def encode(self, inputs: ModelInputs) -> EncodedPrompts:
        """Encodes events, whose prompts are all read in full."""
        prompts = super().encode(inputs)
        if not isinstance(prompts, EncodedPrompts):
            raise TypeError(f"expected EncodedPrompts, found {type(prompts)}")
        return replace(prompts, n_shared=0)


def encoder_of(
    tokenizer: Any, config: Config, kind: type[PromptEncoder] = PromptEncoder
) -> PromptEncoder:
    """The encoder of an experiment."""
    return kind(tokenizer, config.train.feature_names(), config.prompt, config.fusion)


@dataclass(frozen=True)
class Variant:
    """A way to train and to score.

    Attributes:
        name: in the tables.
        n_tokens: of its longest prompt.
        train: goes through the training events once.
        score: scores of a table's events, shape (N,).
    """

    name: str
    n_tokens: int
    train: Callable[[], object]
    score: Callable[[EventTable], NDArray[np.float64]]


def ours(
    name: str,
    folder: str,
    data: TrainingData,
    batch: int,
    *overrides: str,
    share: bool = True,
    fused: bool = True,
    scored: int | None = None,
) -> Variant:
    """The package's own training step and scoring.

    Args:
        name: of the variant.
        folder: of the backbone.
        data: events; training goes through them once.
        batch: events a step.
        overrides: of the configuration.
        share: whether prompts may share their beginning.
        fused: whether scoring adds LoRA's product in place; false: as PEFT computes it.
        scored: events a scoring pass; None: as many as in a step.
    """
    settings = (f"backbone.name={folder}", f"train.batch_size={batch}", "train.epochs=1")
    config = load_config(overrides=[*settings, *overrides])
    backbone = load_backbone(config.backbone, config.seed)
    encoder = encoder_of(backbone.tokenizer, config, PromptEncoder if share else WholePrompts)
    names = config.train.feature_names()
    classifier = build_classifier(
        backbone,
        encoder.label_tokens,
        names,
        config.fusion,
        config.seed,
        reads_hypotheses=encoder.reads_hypotheses,
    )
    trainer = Trainer.fresh(classifier, encoder, data, TrainingPlan.of(config))

    def train() -> None:
        for step in range(trainer.total_steps):
            trainer.step(step, measure=False)

    def score(table: EventTable) -> NDArray[np.float64]:
        inputs = model_inputs(table)
        if not fused:
            with patch("hepllm.model.scoring.fused_lora", nullcontext):
                return score_events(classifier, encoder, inputs, batch_size=scored or batch)
        return score_events(classifier, encoder, inputs, batch_size=scored or batch)

    n_tokens = encoder.encode(data.inputs.take(slice(batch))).n_tokens_of_event
    return Variant(name, n_tokens, train, score)


@dataclass(frozen=True)
class Usual:
    """The usual recipe on prompts that the package's encoder writes."""

    recipe: UsualRecipe
    encoder: PromptEncoder
    data: TrainingData
    batch: int

    def write(self, table: EventTable) -> list[str]:
        """The prompts of all events of a table."""
        rows = (dict(zip(table.names, row, strict=True)) for row in table.features.tolist())
        return [self.encoder.write(row) for row in rows]

    def train(self) -> None:
        """Goes through the training events once, in the order of the package."""
        table = self.data.train
        prompts, labels = self.write(table), table.label.tolist()
        order = np.random.default_rng([1, 1, 0]).permutation(len(table)).tolist()
        for start in range(0, len(order) - self.batch + 1, self.batch):
            chosen = order[start : start + self.batch]
            self.recipe.train_step([prompts[i] for i in chosen], [labels[i] for i in chosen])

    def answers(self, table: EventTable) -> list[str]:
        """Generated answers."""
        return [a for part in self._batches(table) for a in self.recipe.answer(part)]

    def probe(self, table: EventTable) -> NDArray[np.float64]:
        """Logit differences of the next token."""
        return np.array([s for part in self._batches(table) for s in self.recipe.score(part)])

    def score(self, table: EventTable) -> NDArray[np.float64]:
        """Parsed answers as scores; 0.5 where there is none."""
        labels = [parse(answer) for answer in self.answers(table)]
        return np.array([0.5 if label is None else float(label) for label in labels])

    def variant(self) -> Variant:
        """It, as one of many."""
        ids = self.recipe.tokenizer(self.write(self.data.train)[: self.batch])["input_ids"]
        return Variant("usual recipe", max(map(len, ids)), self.train, self.score)

    def _batches(self, table: EventTable) -> Iterator[list[str]]:
        prompts = self.write(table)
        for start in range(0, len(prompts), self.batch):
            yield prompts[start : start + self.batch]


def usual(folder: str, data: TrainingData, batch: int, *overrides: str) -> Usual:
    """The usual recipe with a prompt of the package."""
    config = load_config(overrides=overrides)
    encoder = encoder_of(AutoTokenizer.from_pretrained(folder), config)
    steps = len(data.train) // batch
    recipe = UsualRecipe(folder, steps, templated=config.prompt.chat_template)
    return Usual(recipe, encoder, data, batch)


def made_up(n_events: int, seed: int) -> EventTable:
    """Events with as many digits as real ones; enough for speed, worthless for an AUC."""
    random = np.random.default_rng(seed)
    sizes = 10.0 ** np.array([FEATURES[name].integers for name in NAMES])
    label = (np.arange(n_events) % 2).astype(np.int8)
    return EventTable(
        features=random.uniform(0.1, 1.0, (n_events, len(NAMES))) * sizes,
        names=NAMES,
        label=label,
        label_raw=label.astype(np.int16),
        weight=np.ones(n_events),
        event_id=np.arange(n_events),
        source=np.full(n_events, "made up", dtype=object),
        event_digest=random.integers(0, 2**63, n_events).astype(np.uint64),
        split=np.full(n_events, "train", dtype=object),
    )


def load_events(dataset: Path | None, n_train: int, n_validation: int) -> TrainingData:
    """Events of a dataset, as many of either class, or made-up ones."""
    if dataset is None:
        return TrainingData(made_up(n_train, 1), made_up(n_validation, 2))
    opened = read_dataset(dataset)
    tables = []
    for split, number in (("train", n_train), ("val", n_validation)):
        table = opened.load(NAMES, split)
        chosen = balanced_view(table.label, "1:1", 1)
        order = np.random.default_rng(1).permutation(len(chosen))
        if split == "train" and number > len(chosen):
            sys.exit(f"{dataset}: only {len(chosen)} balanced training events, not {number}")
        tables.append(table.take(chosen[order[:number]]))
    return TrainingData(*tables)


@contextmanager
def backbone_folder(name: str) -> Iterator[str]:
    """SmolLM2, or Mistral-7B's architecture at a quarter of its width, with 8 random layers."""
    if name == SMOLLM2:
        yield locate_model(SMOLLM2)
        return
    try:
        tokenizer = mistral_tokenizer()
    except FileNotFoundError as error:
        click.echo(f"{error}: taking SmolLM2's tokenizer", err=True)
        tokenizer = AutoTokenizer.from_pretrained(locate_model(SMOLLM2))
    torch.manual_seed(0)
    shape = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=1024,
        intermediate_size=3584,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=128,
        sliding_window=None,
    )
    with tempfile.TemporaryDirectory(prefix="bench_train_") as folder:
        tokenizer.save_pretrained(folder)
        MistralForCausalLM(shape).to(torch.bfloat16).save_pretrained(folder)
        yield folder
