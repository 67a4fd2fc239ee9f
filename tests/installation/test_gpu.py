from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from hepllm.config import BackboneConfig
from hepllm.installation.gpu import (
    Gpu,
    TorchBuild,
    check_gpu,
    check_precision,
    driver_version,
    probe_torch,
)
from hepllm.installation.machine import Machine

MakeMachine = Callable[..., Machine]

CPU_BUILD = TorchBuild("2.13.0+cpu", None)
CUDA_BUILD = TorchBuild("2.13.0", "13.0", error="CUDA unknown error")
RTX_3070 = Gpu("NVIDIA GeForce RTX 3070", 8 * 2**30, 7 * 2**30, (8, 6), native_bfloat16=True)
RTX_2070 = Gpu("NVIDIA GeForce RTX 2070", 8 * 2**30, 7 * 2**30, (7, 5), native_bfloat16=False)
GTX_1080 = Gpu("NVIDIA GeForce GTX 1080", 8 * 2**30, 7 * 2**30, (6, 1), native_bfloat16=False)

PCI = {
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
}
INFORMATION = {
    "proc/driver/nvidia/gpus/0000:01:00.0/information": (
        "Model: \t\t NVIDIA GeForce RTX 3070\nIRQ:   \t\t 43\n"
    )
}
WSL2 = {
    "proc/version": "Linux version 5.15.153.1-microsoft-standard-WSL2",
    "dev/dxg": "",
}
WSL_CUDA = WSL2 | {"usr/lib/wsl/lib/libcuda.so.1": ""}


def kernel_module(driver: str) -> dict[str, str]:
    text = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Thu Nov  2 18:50:00 UTC 2023"
    return {"proc/driver/nvidia/version": text, "dev/nvidia0": ""}


def smi(answers: dict[str, str]) -> Callable[[Sequence[str]], str]:
    """An nvidia-smi that lies where WSL2 has it, off the search path."""

    def output_of(command: Sequence[str]) -> str:
        if command[0] != "/usr/lib/wsl/lib/nvidia-smi":
            return ""
        return answers.get(command[1], "")

    return output_of


def no_file(_: str) -> bool:
    return False


def test_a_cpu_build_of_torch_beside_a_gpu_is_a_problem(make_machine: MakeMachine) -> None:
    machine = make_machine(INFORMATION | kernel_module("580.65.06"))
    finding = check_gpu(machine, CPU_BUILD, "auto")
    assert finding.level == "problem"
    assert "RTX 3070" in finding.found
    assert "for CPUs only" in finding.found
    assert "CUDA build" in finding.remedy
    assert "backbone.device=cpu" in finding.remedy


def test_a_missing_driver_is_a_problem(make_machine: MakeMachine) -> None:
    finding = check_gpu(make_machine(PCI), CUDA_BUILD, "auto")
    assert finding.level == "problem"
    assert "PCI device 0000:01:00.0" in finding.found
    assert "driver is not loaded" in finding.found
    assert "install NVIDIA's driver" in finding.remedy


@pytest.mark.parametrize(
    ("driver", "cuda", "is_old"),
    [
        ("535.129.03", "13.0", True),
        ("580.65.06", "13.0", False),
        ("535.129.03", "12.8", False),
        ("470.57.02", "12.1", True),
        ("470.57.02", "11.8", False),
    ],
)
def test_a_driver_is_too_old_or_not(
    make_machine: MakeMachine, driver: str, cuda: str, is_old: bool
) -> None:
    machine = make_machine(PCI | kernel_module(driver))
    build = TorchBuild("2.13.0", cuda, error="CUDA unknown error")
    finding = check_gpu(machine, build, "auto", can_open=lambda _: True)
    assert finding.level == "problem"
    assert ("too old" in finding.found) == is_old
    assert ("CUDA unknown error" in finding.found) != is_old


def test_device_files_that_may_not_be_opened(make_machine: MakeMachine) -> None:
    machine = make_machine(PCI | kernel_module("580.65.06"))
    finding = check_gpu(machine, CUDA_BUILD, "auto", can_open=no_file)
    assert finding.level == "problem"
    assert "may not use /dev/nvidia*" in finding.found
    assert "--gpus all" in finding.remedy


def test_on_wsl2_the_driver_belongs_into_windows(make_machine: MakeMachine) -> None:
    finding = check_gpu(make_machine(WSL_CUDA), CUDA_BUILD, "auto", can_open=no_file)
    assert finding.level == "problem"
    assert "in Windows, not in WSL2" in finding.remedy
    answers = {"--query-gpu=driver_version": "581.15"}
    working = make_machine(WSL_CUDA, output_of=smi(answers))
    assert driver_version(working) == "581.15"
    finding = check_gpu(working, CUDA_BUILD, "auto", can_open=no_file)
    assert "CUDA unknown error" in finding.found


def test_wsl2_without_nvidia_may_be_a_laptop_without_it(make_machine: MakeMachine) -> None:
    finding = check_gpu(make_machine(WSL2), CPU_BUILD, "auto")
    assert finding.level == "warning"
    assert "if this computer has one" in finding.remedy


def test_nvidia_smi_alone_tells_of_a_gpu(make_machine: MakeMachine) -> None:
    machine = make_machine(output_of=smi({"--query-gpu=name": "Tesla T4\nTesla T4"}))
    finding = check_gpu(machine, CPU_BUILD, "auto")
    assert finding.level == "problem"
    assert "Tesla T4 (nvidia-smi)" in finding.found


@pytest.mark.parametrize("value", ["", "-1"])
def test_a_hidden_gpu_is_somebodys_decision(make_machine: MakeMachine, value: str) -> None:
    machine = make_machine(PCI, environ={"CUDA_VISIBLE_DEVICES": value})
    finding = check_gpu(machine, CUDA_BUILD, "auto")
    assert finding.level == "warning"
    assert "hidden" in finding.found
    assert check_gpu(machine, CUDA_BUILD, "cuda").level == "problem"


def test_who_asked_for_the_cpu_gets_a_warning(make_machine: MakeMachine) -> None:
    finding = check_gpu(make_machine(PCI), CPU_BUILD, "cpu")
    assert finding.level == "warning"
    assert "is not used" in finding.found


def test_no_gpu_is_well_unless_one_is_wanted(make_machine: MakeMachine) -> None:
    assert check_gpu(make_machine(), CPU_BUILD, "auto").level == "ok"
    assert check_gpu(make_machine(), CPU_BUILD, "cuda").level == "problem"


def test_a_usable_gpu_is_described(make_machine: MakeMachine) -> None:
    text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build"
    machine = make_machine({"proc/driver/nvidia/version": text})
    build = TorchBuild("2.13.0", "13.0", gpus=(RTX_3070,))
    finding = check_gpu(machine, build, "auto")
    assert finding.level == "ok"
    for part in ("RTX 3070, 7.0 of 8.0 GiB free", "capability 8.6", "CUDA 13.0", "driver 580.65"):
        assert part in finding.found


def test_on_wsl2_the_cap_is_told(make_machine: MakeMachine) -> None:
    build = TorchBuild("2.13.0", "13.0", gpus=(RTX_3070,))
    found = check_gpu(make_machine(WSL_CUDA), build, "auto").found
    assert "torch is held to what is free" in found
    elsewhere = {"proc/version": "Linux version 6.8.0-45-generic"}
    assert "held to" not in check_gpu(make_machine(elsewhere), build, "auto").found


def test_a_gpu_that_computes_nothing_is_a_problem(make_machine: MakeMachine) -> None:
    old = Gpu("GTX 1080", 8 * 2**30, 7 * 2**30, (6, 1), False, "no kernel image is available")
    finding = check_gpu(make_machine(), TorchBuild("2.13.0", "13.0", gpus=(RTX_3070, old)), "auto")
    assert finding.level == "problem"
    assert "GTX 1080: no kernel image" in finding.found
    assert "capability 6.1" in finding.remedy


def test_rocm_is_untested(make_machine: MakeMachine) -> None:
    build = TorchBuild("2.13.0+rocm", None, "7.0", (RTX_3070,))
    assert check_gpu(make_machine(), build, "auto").level == "warning"


@pytest.mark.parametrize(
    ("gpu", "dtype", "level", "text"),
    [
        (RTX_3070, "auto", "ok", "bfloat16 on the GPU (compute capability 8.6), in hardware"),
        (RTX_2070, "auto", "ok", "float16 on the GPU (compute capability 7.5), with the loss"),
        (RTX_2070, "float32", "warning", "16 bits would be faster"),
        (RTX_3070, "float16", "warning", "where bfloat16 is better"),
        (GTX_1080, "auto", "warning", "float32 on the GPU (compute capability 6.1)"),
        (RTX_2070, "bfloat16", "warning", "only emulates it"),
        (RTX_3070, "float32", "warning", "16 bits would be faster"),
    ],
)
def test_precision_on_a_gpu(gpu: Gpu, dtype: str, level: str, text: str) -> None:
    config = BackboneConfig.model_validate({"dtype": dtype})
    finding = check_precision(config, TorchBuild("2.13.0", "13.0", gpus=(gpu,)))
    assert finding.level == level
    assert text in finding.found
    assert bool(finding.remedy) == (level == "warning")


@pytest.mark.parametrize(
    ("native", "dtype", "level", "text"),
    [
        (True, "auto", "ok", "bfloat16 on the CPU, in hardware"),
        (False, "auto", "ok", "float32 on the CPU"),
        (False, "bfloat16", "warning", "only emulates it"),
    ],
)
def test_precision_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, native: bool, dtype: str, level: str, text: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    finding = check_precision(BackboneConfig.model_validate({"dtype": dtype}), CPU_BUILD)
    assert finding.level == level
    assert text in finding.found


def test_this_torch_answers() -> None:
    build = probe_torch()
    assert build.version == torch.__version__
    assert build.cuda == torch.version.cuda
    assert len(build.gpus) == torch.cuda.device_count()
    assert not any(gpu.fault for gpu in build.gpus)
