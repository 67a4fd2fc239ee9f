"""Events packed behind one question have the scores and gradients of each event alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from hepllm.config import Config
from hepllm.errors import InputError
from hepllm.hypotheses.hypothesis import OPEN, parse_hypothesis
from hepllm.model.backbone import causal_model, set_checkpointing
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.footprint import PACKED
from hepllm.model.inputs import ModelInputs
from hepllm.model.packing import PackedPrompts, Question, pack
from hepllm.model.scoring import forward_prompts, score_events
from hepllm.model.sources import locate_model
from hepllm.runs.folder import make_classifier

ASKED = (
    OPEN,
    parse_hypothesis("Z' to a 730 GeV and a 380 GeV particle, both to two quarks"),
    parse_hypothesis("one jet of 0.38 TeV, the other unknown"),
)
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
WINDOW: dict[str, Any] = {"sliding_window": 12}  # shorter than any question
MIXED = {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "mistral": ("MistralConfig", {"sliding_window": None}),
    "mistral with a window": ("MistralConfig", WINDOW),
    "qwen2": ("Qwen2Config", {}),
    "qwen2 with a window": ("Qwen2Config", {**MIXED, "use_sliding_window": True}),
    "qwen3": ("Qwen3Config", {"head_dim": 8}),
    "gemma2": ("Gemma2Config", {**MIXED, "head_dim": 8}),
    "gemma3": ("Gemma3TextConfig", {**MIXED, "head_dim": 8}),
}


@dataclass(frozen=True)
class Made:
    """A classifier whose LoRA weights are not at their start, where half the gradients are 0."""

    classifier: EventClassifier
    encoder: PromptEncoder


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, tiny_config: Callable[..., Config]) -> Any:
    """``make("qwen2", "seed=1")`` is a random model of two layers with SmolLM2's tokenizer."""

    folders: dict[str, Path] = {}
    tokenizer = AutoTokenizer.from_pretrained(locate_model("tiny-random"))

    def make(family: str, *overrides: str) -> Made:
        if family in folders:
            return classifier_of(folders[family], tiny_config, *overrides)
        folders[family] = folder = tmp_path_factory.mktemp("model")
        tokenizer.save_pretrained(folder)
        kind, extra = FAMILIES[family]
        torch.manual_seed(0)
        shape = getattr(transformers, kind)(vocab_size=len(tokenizer), **SHAPE, **extra)
        AutoModelForCausalLM.from_config(shape).save_pretrained(folder)
        return classifier_of(folder, tiny_config, *overrides)

    return make


def classifier_of(folder: Path, tiny_config: Callable[..., Config], *overrides: str) -> Made:
    config = tiny_config(f"backbone.name={folder}", "prompt.layout=question", *overrides)
    classifier, encoder = make_classifier(config)
    assert classifier.nfa is not None
    classifier.nfa.fit(events())
    torch.manual_seed(1)
    for weight in classifier.lora_parameters().values():
        torch.nn.init.normal_(weight, std=0.2)
    return Made(classifier, encoder)


def events(n_events: int = 9, *, seed: int = 2) -> ModelInputs:
    """Events under three hypotheses, in no order."""
    random = np.random.default_rng(seed)
    numbers = random.gamma(4.0, 10.0 ** random.integers(0, 3, (n_events, 1)), (n_events, 21))
    numbers[0, ::3] = np.nan
    asked = np.array([ASKED[i] for i in random.integers(0, 3, n_events)], dtype=object)
    return ModelInputs(numbers, hypothesis=asked)


def together(made: Made, inputs: ModelInputs) -> Tensor:
    logits = forward_prompts(made.classifier, made.encoder.encode(inputs), inputs)
    return logits[:, 1] - logits[:, 0]


def one_by_one(made: Made, inputs: ModelInputs) -> Tensor:
    return torch.cat([together(made, inputs.take(slice(i, i + 1))) for i in range(len(inputs))])


def gradients(made: Made, score: Callable[[Made, ModelInputs], Tensor]) -> dict[str, Tensor]:
    made.classifier.zero_grad()
    found = score(made, events())
    (found * torch.arange(1.0, len(found) + 1)).sum().backward()
    return {
        name: weight.grad.clone()
        for name, weight in made.classifier.trained_parameters().items()
        if weight.grad is not None
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", [PACKED, "sdpa", "eager"])
def test_packed_events_are_scored_as_alone(
    make: Callable[..., Made], family: str, attention: str
) -> None:
    made = make(family, "fusion.n_tokens=2")
    causal = causal_model(made.classifier.language_model)
    made.classifier.prepare_packing()
    assert causal.config._attn_implementation == PACKED
    if attention == "sdpa" and not causal._supports_sdpa:
        pytest.skip("transformers has no such attention for this family")
    causal.set_attn_implementation(attention)
    expected, found = one_by_one(made, events()), together(made, events())
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_those_of_single_events(
    make: Callable[..., Made], family: str, checkpointing: bool
) -> None:
    made = make(family)
    made.classifier.train()
    alone = gradients(made, one_by_one)
    set_checkpointing(made.classifier.language_model, enabled=checkpointing)
    packed = gradients(made, together)
    assert packed.keys() == alone.keys() == made.classifier.trained_parameters().keys()
    assert_same(packed, alone, 4e-3 if family == "gemma2" else 1e-5)  # see the next test


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Compares gradients, each relative to its largest number."""
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        assert scale > 0, name
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=tolerance * scale)


@contextmanager
def double_precision() -> Iterator[None]:
    """What asks for single precision gets double precision."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        patch.setattr(torch, "float32", torch.float64)
        torch.set_default_dtype(torch.double)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float)


@pytest.mark.parametrize("family", FAMILIES)
def test_differences_of_gradients_are_rounding(make: Callable[..., Made], family: str) -> None:
    """The norms of Gemma 2 enlarge those of single precision 1,000 times on the way back."""
    made = make(family)
    made.classifier.double().train()
    with double_precision():
        alone, packed = (gradients(made, score) for score in (one_by_one, together))
    assert {gradient.dtype for gradient in alone.values()} == {torch.double}
    assert_same(packed, alone, 1e-10)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_an_event_does_not_see_the_others(make: Callable[..., Made], family: str) -> None:
    made, inputs = make(family), events()
    before = together(made, inputs).detach()
    for changed in range(len(inputs)):
        numbers = inputs.numbers.copy()
        numbers[changed] = numbers[changed - 1]
        after = together(made, replace(inputs, numbers=numbers)).detach()
        others = np.arange(len(inputs)) != changed
        torch.testing.assert_close(after[others], before[others], rtol=0, atol=1e-6)
        assert abs(float(after[changed] - before[changed])) > 1e-5


def test_dropout_and_checkpointing_go_with_packing(make: Callable[..., Made]) -> None:
    """With the same random numbers, what is computed twice is the same twice."""
    made = make("llama", "backbone.lora.dropout=0.3", "fusion.dropout=0.2")
    made.classifier.train()

    def seeded(checkpointing: bool) -> dict[str, Tensor]:
        set_checkpointing(made.classifier.language_model, enabled=checkpointing)
        torch.manual_seed(7)
        return gradients(made, together)

    kept, again = seeded(False), seeded(True)
    for name, gradient in kept.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-4, atol=1e-6)
    made.classifier.eval()
    without = together(made, events())
    made.classifier.train()
    assert (together(made, events()) - without).abs().max() > 1e-3


def test_order_and_batches_change_no_score(make: Callable[..., Made]) -> None:
    made, inputs = make("llama"), events(40)
    whole = score_events(made.classifier, made.encoder, inputs, batch_size=64)
    parts = score_events(made.classifier, made.encoder, inputs, batch_size=7)
    order = np.random.default_rng(3).permutation(len(inputs))
    mixed = score_events(made.classifier, made.encoder, inputs.take(order), batch_size=64)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    np.testing.assert_allclose(mixed, whole[order], atol=1e-5)


def test_the_open_hypothesis_is_what_none_means(make: Callable[..., Made]) -> None:
    made, inputs = make("llama"), events()
    asked = np.full(len(inputs), OPEN, dtype=object)
    none = together(made, ModelInputs(inputs.numbers))
    torch.testing.assert_close(
        together(made, ModelInputs(inputs.numbers, hypothesis=asked)), none, rtol=0, atol=1e-6
    )


def test_a_mass_that_is_stated_is_read_in_the_sentence_and_compared(
    make: Callable[..., Made],
) -> None:
    """Each road alone carries it: the soft token in the sentence, and the ratio to the jets."""
    texts = [f"two jets, of {heavy} GeV and 90 GeV" for heavy in (400, 404)]
    numbers = events().numbers[1:2]
    both, sentence, compared = (
        make("llama", *overrides)
        for overrides in ((), ("fusion.compare=false",), ("prompt.masses=digits",))
    )
    for made in (both, sentence, compared):
        scores = [
            together(
                made,
                ModelInputs(numbers, hypothesis=np.array([parse_hypothesis(text)], dtype=object)),
            )
            for text in texts
        ]
        assert abs(float((scores[0] - scores[1]).detach())) > 1e-6


def test_models_that_mix_events_are_refused(
    tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    AutoTokenizer.from_pretrained(locate_model("tiny-random")).save_pretrained(tmp_path)
    shape = transformers.FalconH1Config(
        vocab_size=49_152, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8, **SHAPE
    )
    AutoModelForCausalLM.from_config(shape).save_pretrained(tmp_path)
    made = classifier_of(tmp_path, tiny_config, "backbone.lora.targets=[q_proj]")
    with pytest.raises(InputError, match=r"many events behind one question.*layout=minimal"):
        together(made, events())


def test_a_model_without_positions_is_found_out(
    tmp_path: Path, tiny_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison before the first batch, not only a list of kinds, tells that events mix."""
    made = classifier_of(Path(locate_model("tiny-random")), tiny_config)
    causal = causal_model(made.classifier.language_model)
    original = causal.base_model.forward

    def forward(position_ids: object, arrangement: object = None, **others: object) -> object:
        others.pop("attention_mask", None)
        return original(**others)

    monkeypatch.setattr(causal.base_model, "forward", forward)
    with pytest.raises(InputError, match="differs from the same alone"):
        together(made, events())


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    asked=st.lists(st.integers(0, 4), min_size=1, max_size=40),
    own=st.integers(1, 3),
    limit=st.integers(1, 12),
)
def test_rows_hold_every_event_once_behind_its_question(
    lengths: list[int], asked: list[int], own: int, limit: int
) -> None:
    questions = [
        Question([100 * (number + 1) + place for place in range(length)])
        for number, length in enumerate(lengths)
    ]
    wanted = np.array(asked) % len(questions)
    packed = pack(
        questions, wanted, list(range(own)), n_soft=1, filler=0, events_per_question=limit
    )
    ids, event, place = (
        part.flatten() for part in (packed.token_ids, packed.event, packed.position_ids)
    )
    seen = packed.may_attend(torch.device("cpu"))
    size = packed.token_ids.shape[1]
    for number, question in enumerate(wanted):
        mine = torch.nonzero(event == number).flatten()
        assert ids[mine].tolist() == list(range(own))
        assert place[mine].tolist() == [lengths[question] + k for k in range(own)]
        assert int(packed.last_places[number]) == int(mine[-1])
        assert int(packed.fusion_places[number, 0]) == int(mine[0])
        row, last = divmod(int(mine[-1]), size)
        read = torch.nonzero(seen[row, last]).flatten() + row * size
        assert ids[read].tolist() == [*questions[question].token_ids, *range(own)]
    assert packed.n_tokens == int((packed.question >= 0).sum()) <= ids.numel()
    assert seen.any(dim=-1).all()  # an empty row of attention weights would be NaN
    copies = {
        int(q): int((event[packed.question.flatten() == q] >= 0).sum())
        for q in packed.question.unique()
        if q >= 0
    }
    assert max(copies.values()) <= limit * own


def test_many_questions_share_rows(make: Callable[..., Made]) -> None:
    """Nothing is padded where every event has its own question of the same length."""
    made = make("llama")
    asked = [parse_hypothesis(f"two jets, of {mass} GeV and 90 GeV") for mass in range(200, 300, 2)]
    inputs = ModelInputs(np.ones((50, 21)), hypothesis=np.array(asked, dtype=object))
    prompts = made.encoder.encode(inputs)
    assert isinstance(prompts, PackedPrompts)
    assert prompts.n_tokens == prompts.token_ids.numel()
