"""Chooses the device and its precision, and finds GPUs that torch cannot use."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from hepllm.errors import InputError
from hepllm.host import wsl_version
from hepllm.launcher import launched

_NVIDIA, _DISPLAY_CONTROLLER = "0x10de", "0x03"
"""PCI vendor, and the first digits of the PCI class of GPUs."""

_HIDDEN = ("", "-1", "NoDevFiles")
"""Values of CUDA_VISIBLE_DEVICES that hide all GPUs; batch systems write the last one."""

_ON_THE_CPU = (
    "on the CPU only small models train within hours: set backbone.device=cpu and "
    "backbone.name=smollm2"
)

_FAST_FLOAT16 = (7, 0)
"""Volta, Turing; most of the Pascal cards before them compute at 1/64 of their rate in float16."""

LEFT_TO_WINDOWS = 2**29
"""Bytes of what the driver calls free that torch leaves alone on WSL2, for libraries beside it and
for windows that open later."""

_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def gpu_traces(root: Path = Path("/")) -> tuple[str, ...]:
    """Finds NVIDIA GPUs without a working driver and without a CUDA build of torch.

    On WSL2 ``/dev/dxg`` alone proves nothing, since GPUs of other makers have it too; NVIDIA's
    driver on the Windows side adds its libcuda.

    Args:
        root: folder of ``dev``, ``proc``, ``sys`` and ``usr``.

    Returns:
        One text per GPU, which names the file that shows it.
    """

    def shown(file: Path) -> str:
        return f"/{file.relative_to(root)}"

    found = [
        f"{_model(file)} ({shown(file.parent)})"
        for file in sorted(root.glob("proc/driver/nvidia/gpus/*/information"))
    ]
    devices = root.glob("dev/nvidia[0-9]*")
    found += [shown(file) for file in sorted(devices) if file.name[6:].isdigit()]
    wsl = sorted(root.glob("usr/lib/wsl/lib/libcuda.so*"))
    if wsl and (root / "dev" / "dxg").exists():
        found.append(shown(wsl[0]))
    found += [
        f"PCI device {folder.name}"
        for folder in sorted(root.glob("sys/bus/pci/devices/*"))
        if _content(folder / "vendor") == _NVIDIA
        and _content(folder / "class").startswith(_DISPLAY_CONTROLLER)
    ]
    return tuple(found)


def is_gpu_hidden(environ: Mapping[str, str]) -> bool:
    """Returns whether ``CUDA_VISIBLE_DEVICES`` hides all GPUs, as its user decided."""
    return environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in _HIDDEN


def choose_device(
    wanted: str,
    *,
    is_usable: Callable[[], bool] = torch.cuda.is_available,
    traces: Callable[[], tuple[str, ...]] = gpu_traces,
    environ: Mapping[str, str] = os.environ,
) -> torch.device:
    """Returns the device for ``cpu``, ``cuda``, or ``auto``: the GPU if there is one, else the CPU.

    Tests replace the other arguments, which look at the machine.

    Raises:
        InputError: if a GPU was asked for, or exists, and torch cannot use it.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    if is_usable():
        # With its number: memory caps need one, and loading threads start at the first GPU.
        return torch.device("cuda", launched(environ).local_rank)
    if wanted == "cuda":
        raise InputError(
            "backbone.device: cuda was asked for, but torch finds no usable GPU: 'hepllm doctor' "
            f"explains why; {_ON_THE_CPU}"
        )
    present = () if is_gpu_hidden(environ) else traces()
    if present:
        raise InputError(
            f"backbone.device: there is a GPU, {present[0]}, but torch cannot use it: 'hepllm "
            f"doctor' explains why; {_ON_THE_CPU}"
        )
    return torch.device("cpu")


def prevent_spilling(device: torch.device, root: Path = Path("/")) -> int | None:
    """Caps the memory of a GPU on WSL2, where more would come from the machine, and silently.

    Windows then moves it back and forth, and steps take ten times as long or more. Its own setting
    against that has no effect in WSL2 (https://github.com/microsoft/WSL/issues/11050). A lower cap
    stays.

    Args:
        device: device that holds the model.
        root: folder of ``proc``.

    Returns:
        The cap in bytes; None where none is needed.
    """
    if device.type != "cuda" or wsl_version(root) != 2:
        return None
    free, total = torch.cuda.mem_get_info(device)
    cap = max(0, free + torch.cuda.memory_reserved(device) - LEFT_TO_WINDOWS)
    earlier = torch.cuda.get_per_process_memory_fraction(device)
    torch.cuda.set_per_process_memory_fraction(min(earlier, cap / total), device)
    return cap


def free_cached(device: torch.device) -> None:
    """Gives back what torch keeps of a GPU's memory without using it; does nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def has_native_bfloat16(device: torch.device) -> bool:
    """Returns whether the hardware computes in bfloat16; emulation is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # What torch may use; less than the processor has where ATEN_CPU_CAPABILITY says so.
    is_allowed = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return is_allowed and bool(torch.cpu._is_avx512_bf16_supported())


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """Returns the precision ``float32``, ``bfloat16``, ``float16``, or for ``auto`` the fastest."""
    if wanted != "auto":
        return _PRECISIONS[wanted]
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    return fastest_dtype(capability, native_bfloat16=has_native_bfloat16(device))


def fastest_dtype(capability: tuple[int, int] | None, *, native_bfloat16: bool) -> torch.dtype:
    """Returns bfloat16 if the hardware computes in it, else float16 if that is fast, else float32.

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
