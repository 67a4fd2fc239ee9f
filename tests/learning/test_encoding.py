from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from hepllm.config import Config
from hepllm.errors import RunError
from hepllm.learning.encoding import PromptEncoder
from hepllm.model.backbone import locate_model
from hepllm.schema import feature_names

N_FEATURES = len(feature_names("search"))
numbers = st.one_of(st.just(np.nan), st.floats(-3e4, 3e4), st.integers(0, 20000).map(float))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(locate_model("tiny-random"))


@pytest.fixture(scope="module")
def compact(tokenizer: Any, tiny_config: Callable[..., Config]) -> PromptEncoder:
    return PromptEncoder(tokenizer, tiny_config())


@given(
    st.lists(st.lists(numbers, min_size=N_FEATURES, max_size=N_FEATURES), min_size=2, max_size=4)
)
def test_every_compact_prompt_has_as_many_tokens(
    compact: PromptEncoder, rows: list[list[float]]
) -> None:
    prompts = compact.encode(np.array(rows))
    assert prompts.attention_mask is None
    assert prompts.token_ids.shape[1] <= 60
    assert prompts.fusion_positions is not None
    assert prompts.fusion_positions.unique().numel() == 1


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
    encoder = PromptEncoder(tokenizer, config)
    rows = np.random.default_rng(1).gamma(3.0, 30.0, (3, N_FEATURES))
    rows[1] *= 1000  # longer numbers in the full layout
    prompts = encoder.encode(rows)
    assert prompts.fusion_positions is not None
    assert (prompts.attention_mask is not None) == (layout == "full")
    for index, row in enumerate(rows):
        event = dict(zip(config.train.feature_names(), row.tolist(), strict=True))
        before, _, after = encoder.write(event).partition("<|numbers|>")
        ids = prompts.token_ids[index]
        real = ids if prompts.attention_mask is None else ids[prompts.attention_mask[index] == 1]
        positions = prompts.fusion_positions[index]
        assert positions.diff().tolist() == [1] * (n_tokens - 1)
        tail = ids[positions[-1] + 1 :].tolist()
        assert tokenizer.decode(tail) == after
        assert tokenizer.decode(real[: len(real) - len(tail) - n_tokens]) == before


def test_the_label_words_follow_the_cue(compact: PromptEncoder, tokenizer: Any) -> None:
    assert [tokenizer.decode([token]) for token in compact.label_tokens] == [
        " background",
        " signal",
    ]


def test_label_words_that_begin_alike_are_refused(tiny_config: Callable[..., Config]) -> None:
    class Letters:
        """Knows one token for everything after the colon."""

        pad_token_id = 0
        bos_token = None

        def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
            return {"input_ids": [[1] * text.count(":") + [2] * text.count(" ") for text in texts]}

    with pytest.raises(RunError, match="no distinct first tokens"):
        PromptEncoder(Letters(), tiny_config())


def test_a_minimal_prompt_is_the_same_for_all(
    tokenizer: Any, tiny_config: Callable[..., Config]
) -> None:
    encoder = PromptEncoder(tokenizer, tiny_config("prompt.layout=minimal"))
    assert not encoder.prints_numbers
    prompts = encoder.encode(np.random.default_rng(1).random((5, N_FEATURES)))
    assert torch.equal(prompts.token_ids, prompts.token_ids[:1].expand(5, -1))
    assert prompts.token_ids.shape[1] <= 6
