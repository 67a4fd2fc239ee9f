from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from hepllm.config import Config
from hepllm.errors import RunError
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.model.sources import locate_model
from hepllm.schema import FeatureSet, feature_names

N_FEATURES = len(feature_names("search"))
numbers = st.one_of(st.just(np.nan), st.floats(-3e4, 3e4), st.integers(0, 20000).map(float))


def encoder_of(tokenizer: Any, config: Config) -> PromptEncoder:
    return PromptEncoder(tokenizer, config.train.feature_names(), config.prompt, config.fusion)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(locate_model("tiny-random"))


@pytest.fixture(scope="module")
def token_tool() -> ModuleType:
    file = Path(__file__).parents[2] / "tools" / "bench" / "prompt_tokens.py"
    spec = importlib.util.spec_from_file_location("prompt_tokens", file)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


@pytest.fixture(scope="module")
def mistral(token_tool: ModuleType) -> Any:
    """The real tokenizer of Mistral-7B-Instruct-v0.3."""
    try:
        return token_tool.mistral_tokenizer()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=["smollm2", "mistral"])
def real_tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("tokenizer" if request.param == "smollm2" else "mistral")


@pytest.fixture(scope="module")
def compact(tokenizer: Any, tiny_config: Callable[..., Config]) -> PromptEncoder:
    return encoder_of(tokenizer, tiny_config())


@pytest.fixture(scope="module")
def encoders(real_tokenizer: Any, tiny_config: Callable[..., Config]) -> list[PromptEncoder]:
    """Compact prompts of all feature sets, with and without a chat template."""
    return [
        encoder_of(
            real_tokenizer,
            tiny_config(
                "prompt.layout=compact",
                f"train.features={features}",
                f"prompt.chat_template={template}",
            ),
        )
        for features in get_args(FeatureSet)
        for template in ("false", "true")
    ]


@pytest.fixture(scope="module")
def shared_encoders(real_tokenizer: Any, tiny_config: Callable[..., Config]) -> list[PromptEncoder]:
    """All layouts, with and without a chat template and an adapter."""
    return [
        encoder_of(
            real_tokenizer,
            tiny_config(
                f"prompt.layout={layout}",
                f"prompt.chat_template={template}",
                f"fusion.enabled={fusion}",
            ),
        )
        for layout, fusion in (
            ("minimal", "true"),
            ("compact", "true"),
            ("compact", "false"),
            ("full", "true"),
            ("full", "false"),
        )
        for template in ("false", "true")
    ]


@settings(max_examples=40)
@given(st.lists(st.lists(numbers, min_size=40, max_size=40), min_size=2, max_size=4))
def test_every_compact_prompt_has_as_many_tokens_and_at_most_a_hundred(
    encoders: list[PromptEncoder], rows: list[list[float]]
) -> None:
    for encoder in encoders:
        prompts = encoder.encode(ModelInputs(np.array(rows)))
        assert prompts.attention_mask is None
        assert prompts.token_ids.shape[1] <= 100
        assert prompts.n_tokens == prompts.token_ids.numel()
        assert prompts.fusion_positions is not None
        assert prompts.fusion_positions.unique().numel() == 1


def test_label_words_are_single_tokens(
    real_tokenizer: Any, tiny_config: Callable[..., Config]
) -> None:
    for layout in ("minimal", "compact", "full"):
        encoder = encoder_of(real_tokenizer, tiny_config(f"prompt.layout={layout}"))
        words = [real_tokenizer.convert_ids_to_tokens(token) for token in encoder.label_tokens]
        assert [word.strip("\u2581\u0120") for word in words] == ["background", "signal"]


def test_mistral_prompts_begin_with_its_start_token(
    mistral: Any, tiny_config: Callable[..., Config]
) -> None:
    for template in ("false", "true"):
        config = tiny_config("prompt.layout=compact", f"prompt.chat_template={template}")
        prompts = encoder_of(mistral, config).encode(ModelInputs(np.zeros((1, 40))))
        ids = prompts.token_ids[0].tolist()
        assert ids[0] == mistral.bos_token_id
        assert ids.count(mistral.bos_token_id) == 1
        assert (mistral.convert_tokens_to_ids("[/INST]") in ids) == (template == "true")


def test_the_page_on_prompts_has_the_counts(
    token_tool: ModuleType, mistral: Any, tokenizer: Any
) -> None:
    page = token_tool.PAGE.read_text(encoding="utf-8")
    assert token_tool.with_table(page) == page


@pytest.mark.parametrize("layout", ["minimal", "compact", "full"])
@pytest.mark.parametrize("n_tokens", [1, 3])
@pytest.mark.parametrize("template", [False, True])
def test_tokens_around_the_fusion_place_are_those_of_the_text(
    layout: str,
    n_tokens: int,
    template: bool,
    tokenizer: Any,
    tiny_config: Callable[..., Config],
) -> None:
    config = tiny_config(
        f"prompt.layout={layout}",
        f"fusion.n_tokens={n_tokens}",
        f"prompt.chat_template={str(template).lower()}",
    )
    encoder = encoder_of(tokenizer, config)
    rows = np.random.default_rng(1).gamma(3.0, 30.0, (3, N_FEATURES))
    rows[1] *= 1000  # longer numbers in the full layout
    prompts = encoder.encode(ModelInputs(rows))
    assert prompts.fusion_positions is not None
    assert (prompts.attention_mask is not None) == (layout == "full")
    for index, row in enumerate(rows):
        event = dict(zip(config.train.feature_names(), row.tolist(), strict=True))
        before, _, after = encoder.write(event).partition("<|numbers|>")
        ids = prompts.token_ids[index]
        real = ids if prompts.attention_mask is None else ids[prompts.attention_mask[index] == 1]
        positions = prompts.fusion_positions[index]
        assert positions.diff().tolist() == [1] * (n_tokens - 1)
        tail = real[positions[-1] + 1 :].tolist()
        assert tokenizer.decode(tail) == after
        assert tokenizer.decode(real[: len(real) - len(tail) - n_tokens]) == before


@settings(max_examples=25)
@given(st.lists(st.lists(numbers, min_size=40, max_size=40), min_size=2, max_size=4))
def test_no_prompt_differs_within_the_shared_prefix(
    shared_encoders: list[PromptEncoder], rows: list[list[float]]
) -> None:
    for encoder in shared_encoders:
        first = encoder.encode(ModelInputs(np.zeros((1, 40))))
        prompts = encoder.encode(ModelInputs(np.array(rows)))
        n_shared = prompts.n_shared
        assert n_shared == first.n_shared > 0
        assert (prompts.token_ids[:, :n_shared] == first.token_ids[:, :n_shared]).all()
        if prompts.fusion_positions is not None:
            assert n_shared <= int(prompts.fusion_positions.min())


def test_the_shared_prefix_ends_before_the_first_number_or_soft_token(
    tokenizer: Any, tiny_config: Callable[..., Config]
) -> None:
    for layout, end in (("minimal", "event "), ("compact", "event n1="), ("full", "ass [GeV]:")):
        encoder = encoder_of(
            tokenizer, tiny_config(f"prompt.layout={layout}", "prompt.chat_template=true")
        )
        prompts = encoder.encode(ModelInputs(np.ones((2, N_FEATURES))))
        assert tokenizer.decode(prompts.token_ids[0, : prompts.n_shared]).endswith(end)


def test_a_tokenizer_that_joins_a_number_with_the_text_before_it_shares_nothing(
    tokenizer: Any, tiny_config: Callable[..., Config]
) -> None:
    class Joining:
        """Has one token for ``=03``, which no probe begins with."""

        pad_token_id, bos_token, eos_token_id = 0, None, 0

        def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
            words = {"=03": "\x00", " signal": "\x01", " background": "\x02"}
            joined = texts
            for word, letter in words.items():
                joined = [text.replace(word, letter) for text in joined]
            return {"input_ids": [[ord(letter) + 1 for letter in text] for text in joined]}

    encoder = encoder_of(
        Joining(), tiny_config("prompt.features=[jet1_n_particles]", "prompt.layout=compact")
    )
    rows = np.full((2, N_FEATURES), 50.0)
    assert encoder.encode(ModelInputs(rows)).n_shared == len("event n1=")
    rows[1] = 33.0
    assert encoder.encode(ModelInputs(rows)).n_shared == 0


def test_the_label_words_follow_the_cue(compact: PromptEncoder, tokenizer: Any) -> None:
    assert [tokenizer.decode([token]) for token in compact.label_tokens] == [
        " background",
        " signal",
    ]


def test_label_words_that_begin_alike_are_refused(tiny_config: Callable[..., Config]) -> None:
    class Letters:
        """Knows one token for everything after the colon."""

        pad_token_id = 0
        eos_token_id = None

        def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
            return {"input_ids": [[1] * text.count(":") + [2] * text.count(" ") for text in texts]}

    with pytest.raises(RunError, match="no distinct first tokens"):
        encoder_of(Letters(), tiny_config())


def test_a_minimal_prompt_is_the_same_for_all(
    tokenizer: Any, tiny_config: Callable[..., Config]
) -> None:
    encoder = encoder_of(tokenizer, tiny_config("prompt.layout=minimal"))
    assert not encoder.prints_numbers
    prompts = encoder.encode(ModelInputs(np.random.default_rng(1).random((5, N_FEATURES))))
    assert torch.equal(prompts.token_ids, prompts.token_ids[:1].expand(5, -1))
    assert prompts.token_ids.shape[1] <= 6


@pytest.mark.parametrize("layout", ["minimal", "compact", "full"])
def test_given_texts_take_the_place_of_written_ones(
    layout: str, tokenizer: Any, tiny_config: Callable[..., Config]
) -> None:
    encoder = encoder_of(tokenizer, tiny_config(f"prompt.layout={layout}"))
    inputs = ModelInputs(np.random.default_rng(1).gamma(4.0, 10.0, (4, N_FEATURES)))
    written = encoder.with_text(inputs)
    order = np.array([2, 3, 0, 1])
    plain = encoder.encode(inputs)
    again = encoder.encode(replace(written, numbers=written.numbers[order]))
    exchanged = encoder.encode(replace(inputs, text=written.take(order).text))
    for name in ("token_ids", "attention_mask", "fusion_positions", "n_shared"):
        one, same, other = (getattr(prompts, name) for prompts in (plain, again, exchanged))
        if not isinstance(one, torch.Tensor):
            assert one == same == other
            continue
        assert torch.equal(one, same)
        assert torch.equal(one[order], other)
