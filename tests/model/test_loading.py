"""Models that are incomplete or too large are refused before anything is computed or kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hepllm.config import BackboneConfig
from hepllm.errors import InputError
from hepllm.model import loading
from hepllm.model.backbone import load_backbone

MakeFamily = Callable[[str], Path]
Weights = dict[str, Tensor]


def without(part: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: one for name, one in weights.items() if part not in name}


def cut(weights: Weights) -> Weights:
    name = "model.layers.0.mlp.up_proj.weight"
    return weights | {name: weights[name][:-1].clone()}


@pytest.fixture
def family_copy(make_family: MakeFamily, tmp_path: Path) -> Path:
    return Path(shutil.copytree(make_family("qwen2"), tmp_path / "model"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEPLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (without("layers.1.self_attn.k_proj.bias"), r"layers\.1\.self_attn\.k_proj\.bias are miss"),
        (without("layers.1."), "and 9 more are missing"),
        (without("lm_head"), r"lm_head\.weight are missing"),
        (without("model.norm"), r"model\.norm\.weight are missing"),
        (cut, r"up_proj\.weight (has the|have other) shape"),
    ],
)
def test_no_weight_is_a_random_number(
    fault: Callable[[Weights], Weights],
    told: str,
    quantization: str,
    family_copy: Path,
    cache: Path,
) -> None:
    file = family_copy / "model.safetensors"
    save_file(fault(load_file(file)), file, metadata={"format": "pt"})
    config = BackboneConfig.model_validate(
        {"name": str(family_copy), "quantization": quantization, "device": "cpu"}
    )
    with pytest.raises(InputError, match=told):
        load_backbone(config, seed=1)
    assert not cache.exists()


def test_tied_and_superfluous_weights_are_no_fault(
    make_family: MakeFamily, tmp_path: Path, cache: Path
) -> None:
    folder = Path(shutil.copytree(make_family("gemma3"), tmp_path / "model"))
    file = folder / "model.safetensors"
    weights = load_file(file)
    assert not any("lm_head" in name for name in weights)
    save_file(weights | {"vision.weight": torch.ones(2)}, file, metadata={"format": "pt"})
    load_backbone(BackboneConfig(name=str(folder), device="cpu"), seed=1)


@pytest.mark.parametrize("what", ["cut off", "no weights", "unknown kind", "lost shard"])
def test_broken_folders_are_one_line(what: str, family_copy: Path, cache: Path) -> None:
    file = family_copy / "model.safetensors"
    if what == "cut off":
        file.write_bytes(file.read_bytes()[:-100])
    elif what == "unknown kind":
        (family_copy / "config.json").write_text(json.dumps({"model_type": "never-heard-of"}))
    else:
        file.unlink()
        if what == "lost shard":
            index = {
                "metadata": {},
                "weight_map": {"model.norm.weight": "model-1.safetensors"},
            }
            (family_copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"^backbone\.name: .*cannot be loaded: .") as refused:
        load_backbone(BackboneConfig(name=str(family_copy), device="cpu"), seed=1)
    assert "\n" not in str(refused.value)


def test_a_model_larger_than_the_free_memory_is_refused_before_it_is_read(
    family_copy: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((family_copy / "config.json").read_text())
    large = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
    large |= {"layer_types": ["full_attention"] * 32}
    (family_copy / "config.json").write_text(json.dumps(config | large))
    for quantization, free, told in (
        ("none", 5, r"GiB of memory to be loaded in float32, .* set backbone\.quantization=nf4"),
        ("nf4", 1, "1.0 GiB are free; choose a smaller model"),
    ):
        monkeypatch.setattr(loading, "available_memory", lambda free=free: free * 2**30)
        chosen = BackboneConfig.model_validate(
            {
                "name": str(family_copy),
                "quantization": quantization,
                "dtype": "float32",
                "device": "cpu",
            }
        )
        with pytest.raises(InputError, match=told):
            load_backbone(chosen, seed=1)
