"""A common beginning that is encoded once gives the scores and gradients of whole prompts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from hepllm.config import Config
from hepllm.model import classifier as classifier_module
from hepllm.model.backbone import set_checkpointing
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import EncodedPrompts, PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.prefix import obstacle_to_sharing, sharing_pays
from hepllm.model.sources import locate_model
from hepllm.runs.folder import make_classifier

LAYOUTS = ("minimal", "compact", "full")
Made = tuple[EventClassifier, PromptEncoder, Config]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two random Llama layers with the tokenizer of the tiny Mistral model."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    tokenizer = AutoTokenizer.from_pretrained(locate_model("tiny-random"))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    return folder


@pytest.fixture(params=["mistral", "llama"])
def make(
    request: pytest.FixtureRequest, llama: Path, tiny_config: Callable[..., Config]
) -> Callable[..., Made]:
    """``make("prompt.layout=full")`` has a chat template, so that there is much to share."""
    name = "tiny-random" if request.param == "mistral" else str(llama)

    def make(*overrides: str) -> Made:
        config = tiny_config("prompt.chat_template=true", f"backbone.name={name}", *overrides)
        classifier, encoder = make_classifier(config)
        for (
            weight
        ) in classifier.lora_parameters().values():  # B begins as 0, and A without gradient
            torch.nn.init.normal_(weight, std=0.1)
        return classifier, encoder, config

    return make


def values(n_events: int = 6) -> ModelInputs:
    random = np.random.default_rng(2)
    found = random.gamma(4.0, 10.0 ** random.integers(0, 3, (n_events, 1)), (n_events, 21))
    found[0, ::3] = np.nan
    return ModelInputs(found)


def scores(classifier: EventClassifier, prompts: EncodedPrompts, rows: ModelInputs) -> Tensor:
    logits = classifier(
        prompts.token_ids,
        prompts.attention_mask,
        prompts.fusion_positions,
        rows,
        prompts.n_shared,
    )
    return logits[:, 1] - logits[:, 0]


def gradients(
    classifier: EventClassifier, prompts: EncodedPrompts, rows: ModelInputs
) -> dict[str, Tensor]:
    classifier.zero_grad()
    found = scores(classifier, prompts, rows)
    (found * torch.arange(1.0, len(found) + 1)).sum().backward()
    return {
        name: weight.grad.clone()
        for name, weight in classifier.trained_parameters().items()
        if weight.grad is not None
    }


def used_prefixes(function: Callable[[], object]) -> list[int]:
    """Lengths of the prefixes that were encoded apart while the function ran."""
    lengths = []

    def spy(transformer: object, embeddings: Tensor, n_events: int) -> object:
        lengths.append(embeddings.shape[1])
        return original(transformer, embeddings, n_events)

    original = classifier_module.encode_prefix
    with mock.patch.object(classifier_module, "encode_prefix", spy):
        function()
    return lengths


@pytest.mark.parametrize(
    ("layout", "fusion"),
    [("minimal", "true"), ("compact", "true"), ("compact", "false"), ("full", "true")],
)
@pytest.mark.parametrize("training", [False, True])
def test_scores_and_gradients_are_those_of_whole_prompts(
    make: Callable[..., Made], layout: str, fusion: str, training: bool
) -> None:
    few = "prompt.features=[jet1_n_particles, jet2_n_particles]" if layout == "full" else "seed=1"
    classifier, encoder, _ = make(
        f"prompt.layout={layout}", f"fusion.enabled={fusion}", "fusion.n_tokens=2", few
    )
    classifier.train(training)
    rows = values()
    prompts = encoder.encode(rows)
    assert (prompts.attention_mask is not None) == (layout == "full")
    whole = replace(prompts, n_shared=0)
    used = used_prefixes(lambda: scores(classifier, prompts, rows))
    assert used == [prompts.n_shared]
    assert used_prefixes(lambda: scores(classifier, whole, rows)) == []
    expected, found = scores(classifier, whole, rows), scores(classifier, prompts, rows)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    shared, apart = gradients(classifier, prompts, rows), gradients(classifier, whole, rows)
    assert shared.keys() == apart.keys() == classifier.trained_parameters().keys()
    for name, gradient in apart.items():
        scale = float(gradient.abs().max())
        assert scale > 0, name
        torch.testing.assert_close(shared[name], gradient, rtol=1e-4, atol=1e-5 * scale)


def test_gradients_flow_through_the_prefix(make: Callable[..., Made]) -> None:
    """Stopping them there must be seen, or the comparison above proves nothing."""
    classifier, encoder, _ = make("prompt.layout=compact")
    classifier.train()
    rows = values()
    prompts = encoder.encode(rows)
    right = gradients(classifier, prompts, rows)

    def cut(transformer: object, embeddings: Tensor, n_events: int) -> object:
        with torch.no_grad():
            return original(transformer, embeddings, n_events)

    original = classifier_module.encode_prefix
    with mock.patch.object(classifier_module, "encode_prefix", cut):
        wrong = gradients(classifier, prompts, rows)
    assert any((wrong[name] - right[name]).norm() > 0.1 * right[name].norm() for name in right)


def test_in_bfloat16_scores_differ_by_rounding_only(make: Callable[..., Made]) -> None:
    classifier, encoder, _ = make("prompt.layout=compact", "backbone.dtype=bfloat16")
    rows = values()
    prompts = encoder.encode(rows)
    whole = replace(prompts, n_shared=0)
    for training in (False, True):
        classifier.train(training)
        expected, found = scores(classifier, whole, rows), scores(classifier, prompts, rows)
        torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
        shared, apart = gradients(classifier, prompts, rows), gradients(classifier, whole, rows)
        for name, gradient in apart.items():
            assert (shared[name] - gradient).norm() < 0.05 * gradient.norm(), name


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("backbone.gradient_checkpointing=true", "checkpointing drops keys and values"),
        ("backbone.lora.dropout=0.1", "dropout would draw the same mask"),
    ],
)
def test_what_forbids_sharing_in_training_is_said_once(
    make: Callable[..., Made], override: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    classifier, encoder, _ = make("prompt.layout=compact", override)
    rows = values()
    prompts = encoder.encode(rows)

    def run() -> None:
        scores(classifier, prompts, rows).sum().backward()
        scores(classifier, prompts, rows).sum().backward()

    with caplog.at_level(logging.INFO, logger="hepllm"):
        classifier.train()
        assert used_prefixes(run) == []
    assert caplog.text.count(reason) == 1
    assert f"their first {prompts.n_shared} tokens" in caplog.text
    classifier.eval()
    with torch.inference_mode():
        assert used_prefixes(lambda: scores(classifier, prompts, rows)) == [prompts.n_shared]


def test_checkpointing_that_comes_later_ends_sharing(make: Callable[..., Made]) -> None:
    classifier, _, _ = make()
    causal = classifier.language_model.get_base_model()
    assert obstacle_to_sharing(causal, training=True) is None
    set_checkpointing(classifier.language_model, enabled=True)
    assert obstacle_to_sharing(causal, training=True) is not None
    assert obstacle_to_sharing(causal, training=False) is None


def test_short_prefixes_and_single_events_are_not_worth_it() -> None:
    assert sharing_pays(28, 72, 32)
    assert not sharing_pays(28, 72, 1)
    assert not sharing_pays(2, 6, 256)
    assert not sharing_pays(20, 104, 32)
