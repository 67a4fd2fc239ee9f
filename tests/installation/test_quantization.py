from __future__ import annotations

import pytest
import torch

from hepllm.installation.quantization import check_quantization
from hepllm.model.kernels import KernelProof

GOOD = KernelProof(0.092, torch.uint8, 1.0)


def test_the_kernels_work_here() -> None:
    finding = check_quantization("none", "auto", "cpu")
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
def test_wrong_results_are_a_problem_where_they_are_needed(proof: KernelProof) -> None:
    finding = check_quantization("nf4", "auto", "cpu", prove=lambda _: proof)
    assert finding.level == "problem"
    assert finding.remedy
    spared = check_quantization("none", "auto", "cpu", prove=lambda _: proof)
    assert spared.level == "warning"


@pytest.mark.parametrize("optimizer", ["adamw8bit", "paged_adamw8bit"])
def test_kernels_that_raise_are_told(optimizer: str) -> None:
    def prove(_: str) -> KernelProof:
        raise RuntimeError("Method 'cquantize' not available\nin CPU-only version")

    finding = check_quantization("none", optimizer, "cpu", prove=prove)
    assert finding.level == "problem"
    assert "not available in CPU-only version" in finding.found


@pytest.mark.parametrize("library", ["CPU", "none"])
def test_a_gpu_needs_the_cuda_library(library: str) -> None:
    finding = check_quantization(
        "none", "auto", "cuda", library=lambda: library, prove=lambda _: GOOD
    )
    assert finding.level == "problem"  # 'auto' takes the 8-bit optimizer on a GPU
    assert f"{library} library" in finding.found
    good = check_quantization("none", "auto", "cuda", library=lambda: "CUDA", prove=lambda _: GOOD)
    assert good.level == "ok"
