from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hepllm.config import Config
from hepllm.installation.quantization import check_quantization
from hepllm.model.kernels import KernelProof

GOOD = KernelProof(0.092, torch.uint8, 1.0)


def test_the_kernels_work_here(tiny_config: Callable[..., Config]) -> None:
    finding = check_quantization(tiny_config(), "cpu")
    assert finding.level == "ok"
    assert "NF4 error 0.09" in finding.found


@pytest.mark.parametrize(
    "proof",
    [
        KernelProof(0.5, torch.uint8, 1.0),
        KernelProof(0.0, torch.uint8, 1.0),  # not quantised at all
        KernelProof(float("nan"), torch.uint8, 1.0),
        KernelProof(0.092, torch.float32, 1.0),
        KernelProof(0.092, torch.uint8, 0.0),
    ],
)
def test_wrong_results_are_a_problem_where_they_are_needed(
    tiny_config: Callable[..., Config], proof: KernelProof
) -> None:
    needed = tiny_config("backbone.quantization=nf4")
    finding = check_quantization(needed, "cpu", prove=lambda _: proof)
    assert finding.level == "problem"
    assert finding.remedy
    assert check_quantization(tiny_config(), "cpu", prove=lambda _: proof).level == "warning"


@pytest.mark.parametrize("optimizer", ["adamw8bit", "paged_adamw8bit"])
def test_kernels_that_raise_are_told(tiny_config: Callable[..., Config], optimizer: str) -> None:
    def prove(_: str) -> KernelProof:
        raise RuntimeError("Method 'cquantize' not available\nin CPU-only version")

    config = tiny_config(f"train.lora_optimizer={optimizer}")
    finding = check_quantization(config, "cpu", prove=prove)
    assert finding.level == "problem"
    assert "not available in CPU-only version" in finding.found


@pytest.mark.parametrize("library", ["CPU", "none"])
def test_a_gpu_needs_the_cuda_library(tiny_config: Callable[..., Config], library: str) -> None:
    finding = check_quantization(
        tiny_config(), "cuda", library=lambda: library, prove=lambda _: GOOD
    )
    assert finding.level == "problem"  # 'auto' takes the 8-bit optimizer on a GPU
    assert f"{library} library" in finding.found
    good = check_quantization(tiny_config(), "cuda", library=lambda: "CUDA", prove=lambda _: GOOD)
    assert good.level == "ok"
