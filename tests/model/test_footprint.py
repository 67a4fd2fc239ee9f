from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoConfig, MistralConfig, MistralForCausalLM

from hepllm.config import BackboneConfig, Config
from hepllm.learning.memory import classifier_shape
from hepllm.model.backbone import causal_model, set_checkpointing, sketch_backbone
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.footprint import (
    Passage,
    activation_model,
    attention_kernel,
    count_weights,
)
from hepllm.model.inputs import ModelInputs
from hepllm.model.packing import PackedPrompts
from hepllm.model.scoring import forward_prompts
from hepllm.model.sources import locate_model
from hepllm.runs.folder import make_classifier

Load = Callable[..., tuple[EventClassifier, PromptEncoder, Config]]


def _load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


live_memory = _load(Path(__file__).with_name("live_memory.py"))
memory_table = _load(Path(__file__).parents[2] / "tools" / "bench" / "memory_table.py")


@pytest.fixture(scope="module")
def small_mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four random layers with Mistral's proportions."""
    folder = tmp_path_factory.mktemp("small") / "mistral"
    shutil.copytree(locate_model("tiny-random"), folder)
    vocabulary = AutoConfig.from_pretrained(folder).vocab_size
    torch.manual_seed(0)
    MistralForCausalLM(
        MistralConfig(
            vocab_size=vocabulary,
            hidden_size=128,
            intermediate_size=448,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=32,
            sliding_window=None,
        )
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def load(small_mistral: Path, tiny_config: Callable[..., Config]) -> Load:
    """``load(name, *overrides)`` makes a classifier in training mode."""

    def made(name: str, *overrides: str) -> tuple[EventClassifier, PromptEncoder, Config]:
        source = str(small_mistral) if name == "small-mistral" else name
        config = tiny_config(
            f"backbone.name={source}", "backbone.lora.r=8", "backbone.device=cpu", *overrides
        )
        classifier, encoder = make_classifier(config)
        return classifier.train(), encoder, config

    return made


def forward_of(
    classifier: EventClassifier, encoder: PromptEncoder, config: Config, n_events: int
) -> tuple[Callable[[], Tensor], Passage]:
    """A forward pass of events with differing numbers, and its shape."""
    names = config.train.feature_names()
    inputs = ModelInputs(np.random.default_rng(1).gamma(4.0, 40.0, (n_events, len(names))))
    prompts = encoder.encode(inputs)
    passage = Passage(n_events, prompts.token_ids.shape[1], "flash")

    def forward() -> Tensor:
        logits: Tensor = classifier(
            prompts.token_ids, prompts.attention_mask, prompts.fusion_positions, inputs
        )
        return logits

    return forward, passage


CASES = {
    "float32": ("backbone.dtype=float32",),
    "bfloat16": ("backbone.dtype=bfloat16",),
    "nf4": ("backbone.dtype=bfloat16", "backbone.quantization=nf4"),
    "dropout": ("backbone.dtype=bfloat16", "backbone.lora.dropout=0.1"),
    "two-targets": ("backbone.dtype=bfloat16", "backbone.lora.targets=[q_proj,v_proj]"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["tiny-random", "small-mistral"])
def test_activations_are_what_autograd_keeps(load: Load, name: str, case: str) -> None:
    classifier, encoder, config = load(name, *CASES[case])
    shape = classifier_shape(classifier, config.backbone.lora.dropout)
    weights = [*classifier.parameters(), *classifier.buffers()]
    for checkpointing in (False, True):
        set_checkpointing(classifier.language_model, enabled=checkpointing)
        for n_events in (2, 8):
            forward, passage = forward_of(classifier, encoder, config, n_events)
            measured = live_memory.saved_bytes(forward, weights)
            predicted = shape.kept(passage, checkpointing=checkpointing)
            assert predicted == pytest.approx(measured, rel=0.25), (checkpointing, n_events)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_peak_is_what_is_alive_at_the_worst_moment(
    load: Load, case: str, checkpointing: bool
) -> None:
    classifier, encoder, config = load("small-mistral", *CASES[case])
    set_checkpointing(classifier.language_model, enabled=checkpointing)
    shape = classifier_shape(classifier, config.backbone.lora.dropout)
    model = classifier.language_model
    weights = count_weights((*model.named_parameters(), *model.named_buffers()), shape.element)
    forward, passage = forward_of(classifier, encoder, config, 16)
    with live_memory.LiveBytes() as live:
        forward().sum().backward()
    gradients = sum(p.grad.nbytes for p in classifier.parameters() if p.grad is not None)
    predicted = gradients + shape.peak(
        passage, checkpointing=checkpointing, dequantized=weights.largest
    )
    # Never too little, for then a training would run out of memory.
    assert live.peak <= predicted <= 1.25 * live.peak


def test_plain_attention_is_counted(load: Load) -> None:
    classifier, encoder, config = load(
        "small-mistral", "backbone.dtype=bfloat16", "prompt.layout=full"
    )
    forward, passage = forward_of(classifier, encoder, config, 3)
    shape = classifier_shape(classifier, config.backbone.lora.dropout)
    weights = [*classifier.parameters(), *classifier.buffers()]
    measured = live_memory.saved_bytes(forward, weights)
    assert shape.kept(passage, checkpointing=False) == pytest.approx(measured, rel=0.25)
    causal_model(classifier.language_model).set_attn_implementation("eager")
    plain = live_memory.saved_bytes(forward, weights)
    assert plain > 1.5 * measured
    passage = replace(passage, attention="math")
    assert shape.kept(passage, checkpointing=False) == pytest.approx(plain, rel=0.25)


@pytest.mark.parametrize("case", [*CASES, "masked"])
@pytest.mark.parametrize("n_tokens", [1, 3])
def test_packed_events_are_counted(load: Load, case: str, n_tokens: int) -> None:
    overrides = CASES.get(case, CASES["bfloat16"])
    layout = ("prompt.layout=question", f"fusion.n_tokens={n_tokens}")
    classifier, encoder, config = load("small-mistral", *overrides, *layout)
    shape = classifier_shape(classifier, config.backbone.lora.dropout)
    weights = [*classifier.parameters(), *classifier.buffers()]
    classifier.prepare_packing()
    if case == "masked":
        causal_model(classifier.language_model).set_attn_implementation("sdpa")
    n_events, names = 40, config.train.feature_names()
    inputs = ModelInputs(np.random.default_rng(1).gamma(4.0, 40.0, (n_events, len(names))))
    prompts = encoder.encode(inputs)
    assert isinstance(prompts, PackedPrompts)
    passage = Passage(
        *prompts.token_ids.shape,
        "flash" if case == "masked" else "packed",
        n_question=prompts.longest_question,
        n_own=n_tokens,
    )
    nfa = live_memory.saved_bytes(lambda: classifier.nfa(inputs), weights)

    def forward() -> Tensor:
        return forward_prompts(classifier, prompts, inputs)

    for checkpointing in (False, True):
        set_checkpointing(classifier.language_model, enabled=checkpointing)
        measured = live_memory.saved_bytes(forward, weights) - nfa
        predicted = shape.kept(passage, checkpointing=checkpointing)
        if case != "masked" or not checkpointing:  # which holds the mask, but not for autograd
            assert predicted == pytest.approx(measured, rel=0.25), checkpointing
        counted = count_weights(classifier.language_model.named_parameters(), shape.element)
        classifier.zero_grad()
        with live_memory.LiveBytes() as live:
            forward().sum().backward()
        gradients = sum(p.grad.nbytes for p in classifier.parameters() if p.grad is not None)
        peak = shape.peak(passage, checkpointing=checkpointing, dequantized=counted.largest)
        assert live.peak <= gradients + nfa + peak <= 1.3 * live.peak, checkpointing


def test_shared_tokens_are_counted_once(load: Load) -> None:
    classifier, _, config = load("small-mistral", "backbone.dtype=bfloat16")
    shape = classifier_shape(classifier, config.backbone.lora.dropout)
    weights = [*classifier.parameters(), *classifier.buffers()]
    n_events, n_tokens, n_shared = 6, 60, 40
    ids = torch.arange(n_events * n_tokens).reshape(n_events, n_tokens) + 100
    ids[:, :n_shared] = ids[0, :n_shared]
    positions = torch.full((n_events, 1), n_tokens - 2)
    inputs = ModelInputs(np.ones((n_events, len(config.train.feature_names()))))

    def measured(n_told: int) -> int:
        return int(
            live_memory.saved_bytes(
                lambda: classifier(ids, None, positions, inputs, n_told), weights
            )
        )

    plain = Passage(n_events, n_tokens, "flash")
    shared = replace(plain, n_shared=n_shared)
    assert measured(n_shared) < 0.7 * measured(0)
    for passage, n_told in ((plain, 0), (shared, n_shared)):
        predicted = shape.kept(passage, checkpointing=False)
        assert predicted == pytest.approx(measured(n_told), rel=0.25)


def test_the_attention_kernel_is_the_one_that_torch_takes(load: Load) -> None:
    classifier, _, config = load("small-mistral")
    shape, place = (
        classifier_shape(classifier, config.backbone.lora.dropout),
        (torch.float32, torch.device("cpu")),
    )
    assert attention_kernel(shape, "sdpa", *place, is_masked=False) == "flash"
    assert attention_kernel(shape, "sdpa", *place, is_masked=True) == "flash"
    assert attention_kernel(shape, "eager", *place, is_masked=False) == "math"
    with sdpa_kernel(SDPBackend.MATH):
        assert attention_kernel(shape, "sdpa", *place, is_masked=False) == "math"


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_checkpointing_changes_no_gradient(load: Load, dropout: float) -> None:
    classifier, encoder, config = load(
        "tiny-random", "backbone.dtype=bfloat16", f"backbone.lora.dropout={dropout}"
    )
    forward, _ = forward_of(classifier, encoder, config, 3)
    found = []
    for checkpointing in (False, True):
        set_checkpointing(classifier.language_model, enabled=checkpointing)
        classifier.zero_grad()
        torch.manual_seed(3)
        forward().square().sum().backward()
        found.append({n: p.grad for n, p in classifier.named_parameters() if p.requires_grad})
    kept, again = found
    assert len(kept) > 2
    for name, gradient in kept.items():
        assert gradient is not None
        assert torch.equal(again[name], gradient), name


def test_only_the_last_position_meets_only_two_rows_of_the_output_matrix(load: Load) -> None:
    classifier, encoder, config = load("tiny-random")
    causal = causal_model(classifier.language_model)
    vocabulary = causal.get_input_embeddings().weight.shape[0]
    assert causal.get_output_embeddings().weight.shape[0] == 2
    causal.get_output_embeddings().register_forward_hook(lambda *_: pytest.fail("all rows"))
    forward, passage = forward_of(classifier, encoder, config, 4)
    with live_memory.LiveBytes() as live:
        forward().sum().backward()
    assert live.peak < 4 * passage.n_tokens * vocabulary  # not even a byte for each logit


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_norms_and_embeddings_keep_their_precision(load: Load, quantization: str) -> None:
    classifier, _, _ = load(
        "tiny-random", "backbone.dtype=bfloat16", f"backbone.quantization={quantization}"
    )
    kinds = {
        name: weight.dtype
        for name, weight in classifier.language_model.named_parameters()
        if weight.is_floating_point()
    }
    assert {kinds[name] for name in kinds if "lora_" in name} == {torch.float32}
    frozen = {name for name in kinds if "lora_" not in name}
    assert {kinds[name] for name in frozen} == {torch.bfloat16}
    for part in ("embed_tokens", "norm.weight", "lm_head", "input_layernorm"):
        assert any(part in name for name in frozen)


def test_a_model_without_weights_predicts_the_quantised_one(
    load: Load, small_mistral: Path
) -> None:
    classifier, _, config = load("small-mistral", *CASES["nf4"])
    model = classifier.language_model
    counted = count_weights((*model.named_parameters(), *model.named_buffers()), 2)
    assert counted.packed > 0
    settings = BackboneConfig(lora=config.backbone.lora)
    sketch = sketch_backbone(AutoConfig.from_pretrained(small_mistral), settings)
    assert {weight.device.type for weight in sketch.parameters()} == {"meta"}
    causal = causal_model(sketch)
    predicted = memory_table.predict_weights(sketch, causal.get_output_embeddings(), 2)
    assert predicted == counted
    lora = {name: weight for name, weight in sketch.named_parameters() if "lora_" in name}
    shape = activation_model(causal.config, lora, element=2, dropout_mask=0)
    assert shape.n_lora == sum(w.numel() for w in classifier.lora_parameters().values())
    assert replace(shape, projections=()) == replace(
        classifier_shape(classifier, config.backbone.lora.dropout), projections=()
    )


def test_frozen_weights_by_hand(load: Load) -> None:
    classifier, _, _ = load("tiny-random", *CASES["nf4"])
    model = classifier.language_model
    counted = count_weights((*model.named_parameters(), *model.named_buffers()), 2)
    # Two layers of query 64x64, key and value 64x32, output 64x64, and 3 of 64x128.
    numbers = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
    assert counted.packed == numbers // 2
    assert counted.largest == 2 * 64 * 128
    causal = causal_model(model)
    embeddings = causal.get_input_embeddings().weight.numel()
    head = causal.get_output_embeddings().weight
    tied = head.data_ptr() == causal.get_input_embeddings().weight.data_ptr()
    matrices = embeddings if tied else embeddings + head.numel()
    norms = 5 * 64
    assert counted.plain == pytest.approx(2 * (matrices + norms), rel=1e-3)  # and frequencies


@pytest.mark.gpu
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_prediction_holds_on_a_gpu(
    small_mistral: Path, tiny_config: Callable[..., Config], checkpointing: bool
) -> None:
    config = tiny_config(
        f"backbone.name={small_mistral}",
        "backbone.quantization=nf4",
        "backbone.dtype=bfloat16",
        "backbone.device=cuda",
    )
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    classifier, encoder = make_classifier(config)
    classifier.train()
    set_checkpointing(classifier.language_model, enabled=checkpointing)
    shape, model = (
        classifier_shape(classifier, config.backbone.lora.dropout),
        classifier.language_model,
    )
    weights = count_weights((*model.named_parameters(), *model.named_buffers()), shape.element)
    assert weights.total == pytest.approx(torch.cuda.memory_allocated() - before, rel=0.05)
    rows = np.random.default_rng(1).gamma(4.0, 40.0, (512, len(config.train.feature_names())))
    inputs = ModelInputs(rows)
    prompts = encoder.encode(inputs)
    assert prompts.fusion_positions is not None
    kernel = attention_kernel(shape, "sdpa", torch.bfloat16, classifier.device, is_masked=False)
    passage = Passage(512, prompts.token_ids.shape[1], kernel)
    fixed = torch.cuda.memory_allocated()
    classifier(
        prompts.token_ids.cuda(),
        None,
        prompts.fusion_positions.cuda(),
        inputs,
    ).sum().backward()
    predicted = fixed + shape.peak(
        passage, checkpointing=checkpointing, dequantized=weights.largest
    )
    assert torch.cuda.max_memory_allocated() == pytest.approx(predicted, rel=0.25)
    # What the allocator takes beyond that is the budget's allowance and fragmentation.
    assert torch.cuda.max_memory_reserved() <= 1.1 * predicted + 2**28
