from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit

from hepllm.config import BackboneConfig, Config
from hepllm.errors import InputError
from hepllm.model.backbone import (
    causal_model,
    eight_bit_adamw,
    load_backbone,
    lora_state,
    paged_eight_bit_adamw,
)


def test_only_lora_weights_are_trainable(tiny_config: Callable[..., Config]) -> None:
    loaded = load_backbone(tiny_config().backbone, seed=1)
    trainable = [name for name, p in loaded.model.named_parameters() if p.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)
    # Seven linear layers in each of two blocks, an A and a B each; not the output matrix.
    assert len(trainable) == 2 * 7 * 2


def test_fresh_lora_weights_depend_on_the_seed_alone(tiny_config: Callable[..., Config]) -> None:
    first, again, other = (
        lora_state(load_backbone(tiny_config().backbone, seed).model) for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be loaded"):
        load_backbone(BackboneConfig(name=str(tmp_path)), seed=1)


@pytest.mark.parametrize("answer", ["y\n", ""])
def test_code_of_a_model_never_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    tree = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(tree))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    with pytest.raises(InputError, match="cannot be loaded"):
        load_backbone(BackboneConfig(name=str(tmp_path), device="cpu"), seed=1)
    assert not (tmp_path / "ran").exists()


def test_the_output_matrix_is_no_lora_target(tiny_config: Callable[..., Config]) -> None:
    config = tiny_config("backbone.lora.targets=[q_proj, lm_head]")
    with pytest.raises(InputError, match="the output matrix is not trained"):
        load_backbone(config.backbone, seed=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_is_never_replaced_silently() -> None:
    with pytest.raises(InputError, match="cuda was asked for"):
        load_backbone(BackboneConfig(name="tiny-random", device="cuda"), seed=1)


def test_four_bit_gradients_survive_an_evaluation(tiny_config: Callable[..., Config]) -> None:
    config = tiny_config("backbone.quantization=nf4", "backbone.dtype=bfloat16")
    model = load_backbone(config.backbone, seed=1).model
    causal = causal_model(model)
    assert any(isinstance(part, Linear4bit) for part in causal.modules())
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02, generator=torch.Generator().manual_seed(1))
    ids = torch.arange(24).reshape(2, 12) + 100

    def gradient() -> list[torch.Tensor]:
        model.train()
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            causal(input_ids=ids).logits.float().square().mean().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    before = gradient()
    model.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        causal(input_ids=ids)
    after = gradient()
    assert all(float(g.abs().max()) > 0 for g in before)
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, old)


def test_eight_bit_states_are_eight_bit() -> None:
    weight = torch.nn.Parameter(torch.randn(128, 128))
    optimizer = eight_bit_adamw([weight], lr=1e-2)
    before = weight.detach().clone()
    weight.square().sum().backward()
    optimizer.step()
    assert optimizer.state[weight]["state1"].dtype == torch.uint8
    assert not torch.equal(weight, before)


def test_paged_states_need_a_gpu() -> None:
    weight = torch.nn.Parameter(torch.randn(128, 128))
    with pytest.raises(InputError, match="the model is on the CPU; use adamw8bit"):
        paged_eight_bit_adamw([{"params": [weight]}], lr=1e-2)


@pytest.mark.gpu
def test_paged_states_come_back_paged() -> None:
    def made() -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        values = torch.randn(512, 512, generator=torch.Generator().manual_seed(1))
        weight = torch.nn.Parameter(values.cuda())
        return weight, paged_eight_bit_adamw([{"params": [weight]}], lr=1e-2)

    def step(weight: torch.nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        weight.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    weight, optimizer = made()
    step(weight, optimizer)
    again, loaded = made()
    with torch.no_grad():
        again.copy_(weight)
    loaded.load_state_dict(optimizer.state_dict())
    state = loaded.state[again]["state1"]
    assert state.dtype == torch.uint8
    assert getattr(state, "is_paged", False)
    step(weight, optimizer)
    step(again, loaded)
    assert torch.equal(again, weight)


def test_lora_inputs_are_not_copied_in_float32(tiny_config: Callable[..., Config]) -> None:
    """Under autocast the copies would be cast back at once, and be kept for each projection."""
    model = load_backbone(tiny_config("backbone.dtype=bfloat16").backbone, seed=1).model
    seen = []
    for name, part in model.named_modules():
        if name.endswith("lora_A.default"):
            part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        causal_model(model)(input_ids=torch.arange(8)[None])
    assert set(seen) == {torch.bfloat16}
