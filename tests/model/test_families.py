"""What differs between families: start tokens, scaled embeddings, an output matrix of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from hepllm.config import Config
from hepllm.errors import InputError
from hepllm.model.backbone import causal_model, load_backbone
from hepllm.model.embeddings import embedding_rms, keep_output_rows
from hepllm.model.encoding import PromptEncoder, start_tokens
from hepllm.model.inputs import ModelInputs
from hepllm.model.packing import PackedPrompts
from hepllm.model.scoring import score_events
from hepllm.runs.folder import make_classifier

MakeFamily = Callable[[str], Path]
FAMILIES = ("llama3", "gemma2", "gemma3", "qwen2")
STARTS = {"llama3": "<|begin_of_text|>", "gemma2": "<bos>", "gemma3": "<bos>", "qwen2": None}


def events(config: Config, n_events: int = 5) -> ModelInputs:
    n_features = len(config.train.feature_names())
    return ModelInputs(np.random.default_rng(2).gamma(4.0, 10.0, (n_events, n_features)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layout", ["question", "minimal", "compact", "full"])
def test_prompts_begin_as_the_tokenizer_begins_texts(
    family: str, layout: str, make_family: MakeFamily, tiny_config: Callable[..., Config]
) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(make_family(family))
    config = tiny_config(f"prompt.layout={layout}")
    encoder = PromptEncoder(tokenizer, config.train.feature_names(), config.prompt, config.fusion)
    start = STARTS[family]
    expected = [] if start is None else [tokenizer.convert_tokens_to_ids(start)]
    assert start_tokens(tokenizer) == expected
    prompts = encoder.encode(events(config))
    first = tokenizer("Proton" if layout == "question" else "event")["input_ids"]
    for row in prompts.token_ids.tolist():
        assert row[: len(expected)] == expected
        assert [token for token in row if token in expected] == expected
    if layout in ("question", "minimal"):
        assert prompts.token_ids[0, 0] == first[0]
    located = encoder.locate(encoder.write(dict.fromkeys(config.train.feature_names(), 1.0)))
    assert [token.id for token in located[: len(expected)]] == expected


def test_each_of_many_questions_begins_so(
    make_family: MakeFamily, tiny_config: Callable[..., Config]
) -> None:
    from hepllm.hypotheses.hypothesis import OPEN, parse_hypothesis

    tokenizer: Any = AutoTokenizer.from_pretrained(make_family("llama3"))
    config = tiny_config("prompt.layout=question")
    encoder = PromptEncoder(tokenizer, config.train.feature_names(), config.prompt, config.fusion)
    asked = np.array(
        [OPEN, parse_hypothesis("Z' to a 730 GeV and a 380 GeV particle, both to two quarks")] * 2,
        dtype=object,
    )
    prompts = encoder.encode(ModelInputs(events(config, 4).numbers, hypothesis=asked))
    assert isinstance(prompts, PackedPrompts)
    (start,) = start_tokens(tokenizer)
    assert prompts.n_questions == 2
    assert (prompts.token_ids.flatten()[prompts.starts] == start).all()
    assert int((prompts.token_ids == start).sum()) == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_soft_tokens_are_as_large_as_words(
    family: str, make_family: MakeFamily, tiny_config: Callable[..., Config]
) -> None:
    """Gemma multiplies embeddings by the root of their length where it looks them up."""
    config = tiny_config(f"backbone.name={make_family(family)}", "prompt.layout=question")
    classifier, encoder = make_classifier(config)
    words = causal_model(classifier.language_model).get_input_embeddings()
    seen = words(torch.arange(words.weight.shape[0]))
    assert classifier.nfa is not None
    inputs = events(config)
    classifier.nfa.fit(inputs)
    soft = classifier.nfa(inputs)
    assert float(soft.detach().square().mean().sqrt()) == pytest.approx(
        float(seen.detach().float().square().mean().sqrt()), rel=0.01
    )
    scores = score_events(classifier, encoder, inputs, batch_size=None)
    alone = score_events(classifier, encoder, inputs, batch_size=1)
    assert np.ptp(scores) > 0
    np.testing.assert_allclose(scores, alone, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_an_output_matrix_of_its_own_keeps_two_rows(
    quantization: str, make_family: MakeFamily, tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config(
        f"backbone.name={make_family('qwen2')}", f"backbone.quantization={quantization}"
    )
    whole = causal_model(load_backbone(config.backbone, 1).model).get_output_embeddings()
    classifier, encoder = make_classifier(config)
    kept = causal_model(classifier.language_model).get_output_embeddings().weight
    assert kept.shape == (2, 32)
    assert torch.equal(kept, whole.weight[list(encoder.label_tokens)])
    assert kept.untyped_storage().nbytes() == kept.nbytes  # not a view of the whole matrix


def test_a_matrix_that_embeds_too_stays_whole(
    make_family: MakeFamily, tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config(f"backbone.name={make_family('gemma2')}")
    causal = causal_model(load_backbone(config.backbone, 1).model)
    assert keep_output_rows(causal, (5, 9)) == (5, 9)
    assert causal.get_output_embeddings().weight is causal.get_input_embeddings().weight


def test_the_size_of_embeddings_is_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        words = torch.nn.Embedding(1000, 16)

        def get_input_embeddings(self) -> torch.nn.Embedding:
            return self.words

    asked: list[int] = []
    Model.words.register_forward_hook(lambda _, inputs, __: asked.append(len(inputs[0])))
    monkeypatch.setattr("hepllm.model.embeddings._PIECE", 16 * 300)
    found = embedding_rms(Model())
    assert found == pytest.approx(
        float(Model.words.weight.detach().square().mean().sqrt()), rel=1e-6
    )
    assert asked == [300, 300, 300, 100]


@pytest.mark.parametrize("family", ["falcon-h1", "gemma4"])
def test_models_that_read_more_than_embeddings_are_refused(
    family: str, make_family: MakeFamily, tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config(
        f"backbone.name={make_family(family)}",
        "prompt.layout=minimal",
        "backbone.lora.targets=[q_proj]",
    )
    with pytest.raises(InputError, match="cannot read soft tokens"):
        make_classifier(config)


def test_no_chat_template_is_one_line(
    make_family: MakeFamily, tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config(f"backbone.name={make_family('qwen2')}", "prompt.chat_template=true")
    with pytest.raises(InputError, match=r"no chat template .* set prompt\.chat_template=false"):
        make_classifier(config)
