"""LoRA layers that add in place against PEFT's own."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

from hepllm.model.fused_lora import fused_lora


def _model(seed: int = 1, **options: object) -> nn.Module:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config)
    targets = ["q_proj", "v_proj", "down_proj"]
    adapted = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=12, target_modules=targets, **options)
    )
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            nn.init.normal_(weight, std=0.3)
    return adapted.eval()


def _logits(model: nn.Module, dtype: torch.dtype | None = None) -> torch.Tensor:
    ids = torch.arange(24).view(2, 12)
    with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=dtype is not None):
        return model(input_ids=ids).logits.float()


def test_the_same_results_as_peft():
    model = _model()
    expected = _logits(model)
    with fused_lora(model):
        found = _logits(model)
    assert torch.allclose(found, expected, atol=1e-5)
    with model.disable_adapter():
        without = _logits(model)
    assert not torch.allclose(without, expected, atol=0.1)


def test_is_closer_to_float32_than_peft_in_bfloat16():
    model = _model()
    exact, peft = _logits(model), _logits(model, torch.bfloat16)
    with fused_lora(model):
        fused = _logits(model, torch.bfloat16)
    assert (fused - exact).norm() < 1.2 * (peft - exact).norm()
    assert (fused - exact).norm() < 0.03 * exact.norm()


def test_weights_of_half_precision_without_autocast():
    model = _model().to(torch.bfloat16)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = weight.data.float()
    expected = _logits(model)
    with fused_lora(model):
        found = _logits(model)
    assert (found - expected).norm() < 0.03 * expected.norm()


def test_peft_computes_again_afterwards_even_after_an_error():
    model = _model()
    expected = _logits(model)
    with pytest.raises(RuntimeError), fused_lora(model):
        raise RuntimeError
    assert torch.equal(_logits(model), expected)
    assert not any("forward" in vars(layer) for layer in model.modules())


def test_other_kinds_are_left_to_peft():
    model = _model(use_dora=True)
    expected = _logits(model)
    with fused_lora(model):
        assert not any("forward" in vars(layer) for layer in model.modules())
        assert torch.equal(_logits(model), expected)


def test_disabled_and_merged_adapters_stay_so():
    model = _model()
    with model.disable_adapter():
        expected = _logits(model)
        with fused_lora(model):
            assert torch.equal(_logits(model), expected)
    model.merge_adapter()
    expected = _logits(model)
    with fused_lora(model):
        assert torch.equal(_logits(model), expected)


def test_layers_with_transposed_weights():
    torch.manual_seed(3)
    layer = nn.Sequential(Conv1D(6, 5))
    adapted = get_peft_model(
        layer, LoraConfig(r=2, target_modules=["0"], fan_in_fan_out=True), low_cpu_mem_usage=False
    ).eval()
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            nn.init.normal_(weight)
    x = torch.randn(3, 4, 5)
    with torch.inference_mode():
        expected = adapted(x)
        with fused_lora(adapted):
            found = adapted(x)
    assert torch.allclose(found, expected, atol=1e-5)
