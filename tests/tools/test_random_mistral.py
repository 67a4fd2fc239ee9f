"""Model folders with random weights, on a small architecture."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import click
import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, MistralConfig

from hepllm.config import BackboneConfig
from hepllm.model.backbone import causal_model, load_backbone, load_tokenizer


@pytest.fixture(scope="module")
def tool(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    found = load_tool("random_mistral")
    try:
        found.mistral_tokenizer()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return found


def small() -> MistralConfig:
    return MistralConfig(
        vocab_size=32768,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=None,
        tie_word_embeddings=False,
    )


def test_it_loads_like_any_model(tool: ModuleType, tmp_path: Path) -> None:
    folder = tool.random_mistral(tmp_path / "new" / "model", small(), shard=2_200_000)
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) == 2  # each with a table of 2.1 MB; the small layers go with the first
    assert all(shard.stat().st_size < 2_300_000 for shard in shards)
    config = BackboneConfig(name=str(folder), quantization="nf4", device="cpu")
    backbone = load_backbone(config, seed=1)
    loaded = causal_model(backbone.model)
    written = {}
    for shard in shards:
        with safe_open(shard, "pt") as file:
            written.update({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    table = loaded.get_input_embeddings().weight
    assert torch.equal(table, written["model.embed_tokens.weight"].to(table.dtype))
    assert float(written["lm_head.weight"].float().std()) == pytest.approx(0.02, rel=0.02)
    assert torch.equal(loaded.model.norm.weight.float(), torch.ones(32))
    assert len(load_tokenizer(config)) == AutoConfig.from_pretrained(folder).vocab_size
    assert tool.random_mistral(folder) == folder  # taken as it is, whatever its architecture


def test_what_was_broken_off_is_not_taken_for_a_model(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    folder = tmp_path / "model"
    with monkeypatch.context() as patch:
        patch.setattr(tool, "save_file", full)
        with pytest.raises(OSError, match="no space"):
            tool.random_mistral(folder, small())
    assert not list(tmp_path.iterdir())
    tool.random_mistral(folder, small())
    next(folder.glob("*.safetensors")).unlink()
    with pytest.raises(click.ClickException, match="remove it"):
        tool.random_mistral(folder, small())


def test_the_benchmark_makes_it(tool: ModuleType) -> None:
    assert importlib.import_module("bench_gpu").random_mistral is tool.random_mistral
