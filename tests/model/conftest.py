"""Folders of small random models with the traits of families that no package brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

MakeFamily = Callable[[str], Path]

_TEXTS = (
    "Proton-proton collisions with two jets. Signal: unknown. Class of each event: signal",
    "A proton-proton collision with these features:\njet1_mass [GeV]: 0123456789.5",
    "event n1=012 m=3456 \nclass: background event n1=789 \nclass: signal",
)
_SHAPE: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
_FAMILIES: Mapping[str, tuple[str, str | None, Mapping[str, Any]]] = {
    "llama3": ("LlamaConfig", "<|begin_of_text|>", {"tie_word_embeddings": False}),
    "gemma2": ("Gemma2Config", "<bos>", {"sliding_window": 12}),
    "gemma3": ("Gemma3TextConfig", "<bos>", {"sliding_window": 12}),
    "qwen2": ("Qwen2Config", None, {"tie_word_embeddings": False}),
    "falcon-h1": ("FalconH1Config", None, {"embedding_multiplier": 5.0}),
    "gemma4": (
        "Gemma4TextConfig",
        "<bos>",
        {
            "hidden_size_per_layer_input": 8,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
}
"""Class of the configuration, start token, and what else differs."""


def small_tokenizer(start: str | None) -> PreTrainedTokenizerFast:
    """A tokenizer of some hundred tokens; ``start`` comes before each text, as in Llama-3."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<unused>", "<end>", *([start] if start else [])]
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(10 * _TEXTS, trainer)
    if start:
        number = inner.token_to_id(start)
        inner.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", pair=f"{start} $A {start} $B", special_tokens=[(start, number)]
        )
    names = {"bos_token": start or "<unused>", "eos_token": "<end>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names)


@pytest.fixture(scope="session")
def make_family(tmp_path_factory: pytest.TempPathFactory) -> MakeFamily:
    """``make_family("gemma3")`` is a model folder, to be read only."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            made[family] = folder = tmp_path_factory.mktemp(family)
            kind, start, extra = _FAMILIES[family]
            tokenizer = small_tokenizer(start)
            tokenizer.save_pretrained(folder)
            torch.manual_seed(0)
            shape = getattr(transformers, kind)(
                vocab_size=len(tokenizer), pad_token_id=0, **_SHAPE, **extra
            )
            AutoModelForCausalLM.from_config(shape).save_pretrained(folder)
        return made[family]

    return make
