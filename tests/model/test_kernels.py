from __future__ import annotations

import pytest
import torch

from hepllm.model import kernels
from hepllm.model.kernels import kernel_library, prove_kernels


def test_kernels_on_the_cpu() -> None:
    proof = prove_kernels(torch.device("cpu"))
    # Expected RMS error of NF4 on normal values, in blocks of 64: about 0.09 (arXiv:2305.14314).
    assert 0.08 < proof.nf4_error < 0.105
    assert proof.state_dtype == torch.uint8
    assert proof.update == pytest.approx(1.0, abs=1e-3)  # the first step of AdamW is the rate


def test_the_library_is_named() -> None:
    assert kernel_library() == ("CUDA" if torch.cuda.is_available() else "CPU")


def test_a_library_that_was_not_found_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = kernels.cextension.ErrorHandlerMockBNBNativeLibrary("no library")
    monkeypatch.setattr(kernels.cextension, "lib", missing)
    assert kernel_library() == "none"
