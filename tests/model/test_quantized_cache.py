from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit
from transformers import PreTrainedModel

from hepllm.config import BackboneConfig
from hepllm.model import quantized_cache as module
from hepllm.model.backbone import Backbone, causal_model, load_backbone
from hepllm.model.sources import locate_model

IDS = torch.arange(24).reshape(2, 12) + 100

Load = Callable[..., Backbone]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A model folder of its own, made while the shared cache is still in use."""
    folder = tmp_path / "model"
    shutil.copytree(locate_model("tiny-random"), folder)
    return folder


@pytest.fixture
def copies(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the copies of the test go."""
    monkeypatch.setenv("HEPLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "quantized"


@pytest.fixture
def load(source: Path, copies: Path) -> Load:
    """``load()`` loads the model in NF4."""

    def loaded(dtype: str = "bfloat16") -> Backbone:
        config = {"name": str(source), "quantization": "nf4", "dtype": dtype, "device": "cpu"}
        return load_backbone(BackboneConfig.model_validate(config), seed=1)

    return loaded


def outputs(backbone: Backbone) -> dict[str, torch.Tensor]:
    """Logits in both modes, and the gradients of all LoRA weights."""
    model = backbone.model
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02, generator=torch.Generator().manual_seed(1))
    dtype = backbone.autocast_dtype
    found = {}
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        causal = causal_model(model)
        causal.eval()
        with torch.inference_mode():
            found["eval"] = causal(input_ids=IDS).logits.clone()
        causal.train()
        found["train"] = causal(input_ids=IDS).logits
        found["train"].float().square().mean().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return found | gradients


def assert_same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert len(one) > 2
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_copy_computes_what_the_fresh_one_does(
    load: Load, copies: Path, dtype: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="hepllm"):
        fresh = outputs(load(dtype))
        assert "quantising" in caplog.text
        assert "kept the quantised weights in" in caplog.text
        caplog.clear()
        again = load(dtype)
    assert "loading the quantised weights" in caplog.text
    assert "quantising" not in caplog.text
    layers = [m for m in again.model.modules() if isinstance(m, Linear4bit)]
    assert layers
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
    assert_same(outputs(again), fresh)
    assert len(list(copies.iterdir())) == 1


def flip(folder: Path) -> None:
    file = next(folder.glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def shorten(folder: Path) -> None:
    file = next(folder.glob("*.safetensors"))
    os.truncate(file, file.stat().st_size // 2)


def remove(folder: Path) -> None:
    next(folder.glob("*.safetensors")).unlink()


def break_record(folder: Path) -> None:
    (folder / "quantized.json").write_text("{")


@pytest.mark.parametrize("damage", [flip, shorten, remove, break_record])
def test_a_damaged_copy_is_noticed_and_made_anew(
    load: Load, copies: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    fresh = outputs(load())
    (copy,) = copies.iterdir()
    damage(copy)
    assert_same(outputs(load()), fresh)
    assert "quantising again" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="hepllm"):
        assert_same(outputs(load()), fresh)
    assert "loading the quantised weights" in caplog.text
    assert list(copies.iterdir()) == [copy]


def test_other_weights_replace_the_copy(
    load: Load, source: Path, copies: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load()
    weights = next(source.glob("*.safetensors"))
    os.utime(weights, ns=(weights.stat().st_atime_ns, weights.stat().st_mtime_ns + 1))
    with caplog.at_level(logging.INFO, logger="hepllm"):
        load()
        assert "from other weights or versions" in caplog.text
        caplog.clear()
        load()
        assert "loading the quantised weights" in caplog.text
    assert len(list(copies.iterdir())) == 1


def test_another_version_of_a_library_replaces_the_copy(
    load: Load, copies: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load()
    monkeypatch.setattr("bitsandbytes.__version__", "0.0.1")
    with caplog.at_level(logging.INFO, logger="hepllm"):
        load()
    assert "from other weights or versions" in caplog.text
    assert len(list(copies.iterdir())) == 1


def test_each_precision_has_its_copy(load: Load, copies: Path) -> None:
    load("bfloat16")
    load("float32")
    assert len(list(copies.iterdir())) == 2


def test_no_room_costs_only_the_copy(
    load: Load, copies: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = SimpleNamespace(free=2**20)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    first = outputs(load())
    assert "the next start quantises again" in caplog.text
    assert "0.00 GiB are free" in caplog.text
    assert list(copies.iterdir()) == []
    assert_same(outputs(load()), first)


def test_a_disk_that_fills_up_leaves_nothing_behind(
    load: Load, copies: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fill(model: PreTrainedModel, folder: Path, **options: Any) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", fill)
    load()
    assert "No space left on device" in caplog.text
    assert list(copies.iterdir()) == []


def test_what_killed_processes_left_is_removed(load: Load, copies: Path) -> None:
    old, young = copies / ".aside-old", copies / ".aside-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"half")
    for path in (old / "model.safetensors", old):
        os.utime(path, (0, 0))
    load()
    assert not old.exists()
    assert young.is_dir()


def test_a_hub_model_is_known_by_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789" * 4
    for folder, expected in (
        (f"models--someone--model/snapshots/{commit}", {"hub": "someone/model", "commit": commit}),
        ("somewhere/else", None),
    ):
        file = f"/cache/{folder}/config.json"
        monkeypatch.setattr(module, "hf_hub_download", lambda *_, file=file, **__: file)
        assert module.model_identity("someone/model") == expected
