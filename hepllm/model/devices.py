"""Which device computes, in which precision, and how a GPU that cannot be used is noticed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from hepllm.errors import InputError
from hepllm.launcher import launched

_NVIDIA, _DISPLAY_CONTROLLER = "0x10de", "0x03"
"""PCI vendor, and the PCI class of everything that can be a GPU."""

_HIDDEN = ("", "-1", "NoDevFiles")
"""Values of CUDA_VISIBLE_DEVICES that leave no GPU; the last is what batch systems write."""

_FAST_FLOAT16 = (7, 0)
"""Volta, Turing; most of the Pascal cards before them compute at 1/64 of their rate in float16."""

_PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def gpu_traces(root: Path = Path("/")) -> tuple[str, ...]:
    """Signs of NVIDIA GPUs that do not need a working driver or a CUDA build of torch.

    On WSL2 ``/dev/dxg`` alone says nothing, for other makers' GPUs bring it too; NVIDIA's driver
    of the Windows side adds its libcuda.

    Args:
        root: where ``dev``, ``proc``, ``sys`` and ``usr`` lie.

    Returns:
        Each with the file that tells of it; none on a machine without such a GPU.
    """
    found = [
        f"{_model(file)} ({_shown(file.parent, root)})"
        for file in sorted(root.glob("proc/driver/nvidia/gpus/*/information"))
    ]
    devices = root.glob("dev/nvidia[0-9]*")
    found += [_shown(file, root) for file in sorted(devices) if file.name[6:].isdigit()]
    wsl = sorted(root.glob("usr/lib/wsl/lib/libcuda.so*"))
    if wsl and (root / "dev" / "dxg").exists():
        found.append(_shown(wsl[0], root))
    found += [
        f"PCI device {folder.name}"
        for folder in sorted(root.glob("sys/bus/pci/devices/*"))
        if _content(folder / "vendor") == _NVIDIA
        and _content(folder / "class").startswith(_DISPLAY_CONTROLLER)
    ]
    return tuple(found)


def is_gpu_hidden(environ: Mapping[str, str]) -> bool:
    """Whether ``CUDA_VISIBLE_DEVICES`` takes all GPUs away, which is somebody's decision."""
    return environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in _HIDDEN


def choose_device(
    wanted: str,
    *,
    is_usable: Callable[[], bool] = torch.cuda.is_available,
    traces: Callable[[], tuple[str, ...]] = gpu_traces,
    environ: Mapping[str, str] = os.environ,
) -> torch.device:
    """The device that computes; ``auto`` is the GPU where there is one, and else the CPU.

    Args:
        wanted: ``auto``, ``cpu`` or ``cuda``.
        is_usable: whether torch can use a GPU.
        traces: looks for GPUs without torch.
        environ: environment variables.

    Raises:
        InputError: if a GPU was asked for, or is there, and torch cannot use it.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    if is_usable():
        # With its number: memory caps want one, and threads that load all begin at the first GPU.
        return torch.device("cuda", launched(environ).local_rank)
    if wanted == "cuda":
        raise InputError(
            "backbone.device: cuda was asked for, but torch finds no usable GPU; set it to cpu"
        )
    present = () if is_gpu_hidden(environ) else traces()
    if present:
        raise InputError(
            f"backbone.device: there is a GPU, {present[0]}, but torch cannot use it: 'hepllm "
            "doctor' tells why; to use the CPU, set backbone.device=cpu"
        )
    return torch.device("cpu")


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether the hardware itself computes in bfloat16; emulation is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware computes in it, else float16 where that is fast, else float32.

    Args:
        wanted: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: that computes.
    """
    if wanted != "auto":
        return _PRECISIONS[wanted]
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    return fastest_dtype(capability, native_bfloat16=has_native_bfloat16(device))


def fastest_dtype(capability: tuple[int, int] | None, *, native_bfloat16: bool) -> torch.dtype:
    """The precision that ``auto`` stands for.

    Args:
        capability: CUDA compute capability; None for a CPU.
        native_bfloat16: whether the hardware computes in bfloat16.
    """
    if native_bfloat16:
        return torch.bfloat16
    is_fast_in_float16 = capability is not None and capability >= _FAST_FLOAT16
    return torch.float16 if is_fast_in_float16 else torch.float32


def _model(information: Path) -> str:
    lines = _content(information).splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return models[0] if models else "an NVIDIA GPU"


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _shown(file: Path, root: Path) -> str:
    return f"/{file.relative_to(root)}"
