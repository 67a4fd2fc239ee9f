from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hepllm.config import BackboneConfig
from hepllm.errors import InputError
from hepllm.model import backbone
from hepllm.model.devices import (
    choose_device,
    choose_dtype,
    fastest_dtype,
    free_cached,
    gpu_traces,
    is_gpu_hidden,
    prevent_spilling,
)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


PCI = "sys/bus/pci/devices/0000:01:00"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ()),
        (
            {"proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t NVIDIA A100\nIRQ: 1"},
            ("NVIDIA A100 (/proc/driver/nvidia/gpus/0000:01:00.0)",),
        ),
        ({"dev/nvidia0": "", "dev/nvidia1": ""}, ("/dev/nvidia0", "/dev/nvidia1")),
        # Files that the driver's tools make, without any GPU.
        ({"dev/nvidiactl": "", "dev/nvidia-uvm": "", "dev/nvidia-modeset": ""}, ()),
        ({f"{PCI}.0/vendor": "0x10de", f"{PCI}.0/class": "0x030200"}, ("PCI device 0000:01:00.0",)),
        ({f"{PCI}.1/vendor": "0x10de", f"{PCI}.1/class": "0x040300"}, ()),  # its sound
        ({f"{PCI}.0/vendor": "0x8086", f"{PCI}.0/class": "0x030000"}, ()),  # Intel's
        ({"dev/dxg": ""}, ()),
        ({"usr/lib/wsl/lib/libcuda.so.1": ""}, ()),
        (
            {"dev/dxg": "", "usr/lib/wsl/lib/libcuda.so.1": ""},
            ("/usr/lib/wsl/lib/libcuda.so.1",),
        ),
    ],
)
def test_gpus_leave_traces(
    tmp_path: Path, files: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert gpu_traces(write(tmp_path, files)) == expected


def choose(wanted: str, *, usable: bool, present: bool, **environ: str) -> str:
    device = choose_device(
        wanted,
        is_usable=lambda: usable,
        traces=lambda: ("/dev/nvidia0",) if present else (),
        environ=environ,
    )
    return device.type


def test_auto_takes_the_gpu_that_works_and_else_the_cpu() -> None:
    assert choose("auto", usable=True, present=True) == "cuda"
    assert choose("auto", usable=False, present=False) == "cpu"
    assert choose("cpu", usable=True, present=True) == "cpu"
    assert choose("cuda", usable=True, present=True) == "cuda"


def test_a_gpu_has_its_number_which_memory_caps_want() -> None:
    assert choose_device("auto", is_usable=lambda: True, environ={}) == torch.device("cuda", 0)


def test_a_gpu_that_cannot_be_used_is_never_replaced_silently() -> None:
    with pytest.raises(InputError, match=r"/dev/nvidia0, but .* set backbone\.device=cpu and"):
        choose("auto", usable=False, present=True)
    for present in (True, False):
        with pytest.raises(InputError, match="cuda was asked for"):
            choose("cuda", usable=False, present=present)
    assert choose("cpu", usable=False, present=True) == "cpu"


def test_who_hides_the_gpu_wants_the_cpu() -> None:
    assert choose("auto", usable=False, present=True, CUDA_VISIBLE_DEVICES="") == "cpu"
    with pytest.raises(InputError, match="there is a GPU"):
        choose("auto", usable=False, present=True, CUDA_VISIBLE_DEVICES="0")
    assert not is_gpu_hidden({})


def test_the_backbone_asks_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(wanted: str) -> torch.device:
        raise InputError(f"not {wanted}")

    monkeypatch.setattr(backbone, "choose_device", refuse)
    with pytest.raises(InputError, match="not auto"):
        backbone.load_backbone(BackboneConfig(name="tiny-random"), seed=1)


@pytest.mark.parametrize(
    ("wanted", "native", "expected"),
    [
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
        ("bfloat16", False, torch.bfloat16),
        ("float32", True, torch.float32),
        ("float16", True, torch.float16),
    ],
)
def test_bfloat16_only_where_it_is_real(
    monkeypatch: pytest.MonkeyPatch, wanted: str, native: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert choose_dtype(wanted, torch.device("cpu")) == expected
    # As torch answers on a GTX 10xx: supported, but only by emulation.
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or native,
    )
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 6) if native else (6, 1))
    assert choose_dtype(wanted, torch.device("cuda")) == expected


def test_no_bfloat16_where_torch_may_not_use_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert choose_dtype("auto", torch.device("cpu")) == torch.float32


@pytest.mark.parametrize(
    ("capability", "native", "expected"),
    [
        ((8, 0), True, torch.bfloat16),
        ((7, 5), False, torch.float16),
        ((7, 0), False, torch.float16),
        ((6, 1), False, torch.float32),
        (None, False, torch.float32),
        (None, True, torch.bfloat16),
    ],
)
def test_float16_on_gpus_that_are_fast_in_it_alone(
    capability: tuple[int, int] | None, native: bool, expected: torch.dtype
) -> None:
    assert fastest_dtype(capability, native_bfloat16=native) == expected


class FakeCuda:
    """Memory of a GPU of 8 GiB, of which this process holds 1 and others 2."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fraction: float = 1.0) -> None:
        self.fraction, self.is_emptied = fraction, False
        for name in (
            *("mem_get_info", "memory_reserved", "empty_cache"),
            *("get_per_process_memory_fraction", "set_per_process_memory_fraction"),
        ):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

    def mem_get_info(self, _: torch.device) -> tuple[int, int]:
        return 5 * 2**30, 8 * 2**30

    def memory_reserved(self, _: torch.device) -> int:
        return 2**30

    def get_per_process_memory_fraction(self, _: torch.device) -> float:
        return self.fraction

    def set_per_process_memory_fraction(self, fraction: float, _: torch.device) -> None:
        self.fraction = fraction

    def empty_cache(self) -> None:
        self.is_emptied = True


WSL2 = {"proc/version": "Linux version 5.15.153.1-microsoft-standard-WSL2"}


def test_on_wsl2_a_gpu_does_not_spill_into_the_machines_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda, root = FakeCuda(monkeypatch), write(tmp_path, WSL2)
    assert prevent_spilling(torch.device("cuda", 0), root) == 11 * 2**29
    assert cuda.fraction == 5.5 / 8
    cuda = FakeCuda(monkeypatch, fraction=0.5)  # train.memory_limit_gib
    prevent_spilling(torch.device("cuda", 0), root)
    assert cuda.fraction == 0.5


def test_elsewhere_no_cap_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    assert prevent_spilling(torch.device("cuda", 0), tmp_path) is None
    assert prevent_spilling(torch.device("cpu"), write(tmp_path, WSL2)) is None
    assert cuda.fraction == 1.0


def test_what_loading_took_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    free_cached(torch.device("cpu"))
    assert not cuda.is_emptied
    free_cached(torch.device("cuda", 0))
    assert cuda.is_emptied


def test_a_missing_gpu_is_no_reason_to_train_7b_on_the_cpu() -> None:
    with pytest.raises(InputError) as refused:
        choose("cuda", usable=False, present=False)
    assert "hepllm doctor" in str(refused.value)
    assert "backbone.device=cpu and backbone.name=smollm2" in str(refused.value)
