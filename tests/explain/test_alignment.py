"""Prompts of an event and a reference that agree in every place but the digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np
import pytest

from hepllm.config import Config
from hepllm.explain.alignment import align_prompts
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.runs.folder import make_classifier

NAMES = ("jet1_pt", "jet1_eta", "jet_mass_light", "tau21_light")
EVENT = (1305.7, -0.44, 97.2, 0.31)
OTHER = (980.2, 0.55, 1031.0, 0.6)


def named(values: tuple[float, ...]) -> Mapping[str, float]:
    return dict(zip(NAMES, values, strict=True))


def encoder_of(tokenizer: Any, config: Config) -> PromptEncoder:
    return PromptEncoder(tokenizer, config.train.feature_names(), config.prompt, config.fusion)


@pytest.fixture(scope="module")
def encoder(tiny_config: Callable[..., Config]) -> Callable[..., PromptEncoder]:
    _, made = make_classifier(tiny_config())

    def with_layout(*overrides: str) -> PromptEncoder:
        config = tiny_config(f"train.features={list(NAMES)}", *overrides)
        return encoder_of(made._tokenizer, config)

    return with_layout


@pytest.mark.parametrize(
    ("layout", "fusion"),
    [("minimal", "true"), *product(["compact", "full"], ["true", "false"])],
)
def test_the_event_has_the_tokens_that_the_model_gets(
    layout: str, fusion: str, encoder: Callable[..., PromptEncoder]
) -> None:
    writer = encoder(f"prompt.layout={layout}", f"fusion.enabled={fusion}")
    found = align_prompts(writer, named(EVENT), named(OTHER))
    encoded = writer.encode(ModelInputs(np.array([EVENT])))
    np.testing.assert_array_equal(found.tokens, encoded.token_ids[0])
    positions = [] if encoded.fusion_positions is None else encoded.fusion_positions[0].tolist()
    assert list(found.soft) == positions
    assert len(found.reference) == len(found.tokens)
    assert found.differ == (layout != "minimal")
    assert not found.unaligned


@pytest.mark.parametrize("layout", ["compact", "full"])
def test_each_number_belongs_to_its_feature(
    layout: str, encoder: Callable[..., PromptEncoder]
) -> None:
    writer = encoder(f"prompt.layout={layout}")
    found = align_prompts(writer, named(EVENT), named(OTHER))
    texts = {
        name: "".join(
            text for text, owner in zip(found.texts, found.features, strict=True) if owner == name
        )
        for name in (*NAMES, "")
    }
    assert texts["jet_mass_light"].split("=" if layout == "compact" else ": ")[1][:4] in (
        "0097",
        "97.2",
    )
    assert "class:" in texts[""]
    pieces = dict(writer.pieces(named(EVENT)))
    for name in NAMES:
        assert texts[name] == pieces.get(name, "")
    changed = {
        owner
        for owner, ours, theirs in zip(found.features, found.tokens, found.reference, strict=True)
        if ours != theirs
    }
    assert changed == {name for name in NAMES if texts[name]}


def test_what_is_missing_in_one_of_them_cannot_be_compared_in_a_full_prompt(
    encoder: Callable[..., PromptEncoder],
) -> None:
    event = (math.nan, *EVENT[1:])
    full = align_prompts(encoder("prompt.layout=full"), named(event), named(OTHER))
    assert full.unaligned == ("jet1_pt",)
    compact = align_prompts(encoder(), named((*EVENT[:2], math.nan, 0.3)), named(OTHER))
    assert not compact.unaligned


def test_a_chat_template_belongs_to_no_feature(
    tiny_config: Callable[..., Config], encoder: Callable[..., PromptEncoder]
) -> None:
    writer = encoder()
    writer._tokenizer.chat_template = (
        "{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"
    )
    try:
        templated = encoder_of(
            writer._tokenizer,
            tiny_config(f"train.features={list(NAMES)}", "prompt.chat_template=true"),
        )
        found = align_prompts(templated, named(EVENT), named(OTHER))
        np.testing.assert_array_equal(
            found.tokens, templated.encode(ModelInputs(np.array([EVENT]))).token_ids[0]
        )
    finally:
        writer._tokenizer.chat_template = None
    owned = "".join(
        text for text, owner in zip(found.texts, found.features, strict=True) if not owner
    )
    assert "[INST]" in owned
