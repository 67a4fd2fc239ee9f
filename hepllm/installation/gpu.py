"""Checks of the GPU: whether it exists, whether torch can use it, and its precision."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from hepllm.config import BackboneConfig
from hepllm.installation.findings import Finding, Level
from hepllm.installation.machine import Machine

GIB = 2**30

_OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
"""Major version of the first driver that runs programs of each CUDA major version.

From table 1 of "Minor Version Compatibility" in NVIDIA's CUDA Compatibility guide.
"""

_WSL_SMI = "/usr/lib/wsl/lib/nvidia-smi"


@dataclass(frozen=True)
class Gpu:
    """A device that torch can see.

    Attributes:
        total: bytes of memory.
        free: bytes of unused memory.
        capability: compute capability.
        native_bfloat16: whether the hardware computes in bfloat16.
        fault: why a product of matrices failed; empty if it was right.
    """

    name: str
    total: int
    free: int
    capability: tuple[int, int]
    native_bfloat16: bool
    fault: str = ""


@dataclass(frozen=True)
class TorchBuild:
    """The build of torch, and the devices that it finds.

    Attributes:
        version: version of torch.
        cuda: version of CUDA in the build; None for a CPU build.
        rocm: version of ROCm in the build, if any.
        gpus: devices that torch can use.
        error: error of torch if there are none.
    """

    version: str
    cuda: str | None
    rocm: str | None = None
    gpus: tuple[Gpu, ...] = ()
    error: str = ""

    @property
    def title(self) -> str:
        """Versions of torch and CUDA, as text."""
        return f"torch {self.version}, {f'CUDA {self.cuda}' if self.cuda else 'no CUDA'}"


def probe_torch() -> TorchBuild:
    """Asks torch for its devices, and tests a product of matrices on each of them."""
    import torch

    n_gpus, fault = torch.cuda.device_count() if torch.cuda.is_available() else 0, ""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        fault = str(error).partition("\n")[0]
    gpus = tuple(_probe_gpu(index) for index in range(n_gpus))
    return TorchBuild(torch.__version__, torch.version.cuda, torch.version.hip, gpus, fault)


def _probe_gpu(index: int) -> Gpu:
    import torch

    device, fault = torch.device("cuda", index), ""
    about, free = torch.cuda.get_device_properties(device), 0
    try:
        free = torch.cuda.mem_get_info(device)[0]
        ones = torch.ones(256, 256, device=device)
        if float((ones @ ones).sum()) != 256.0**3:
            fault = "a product of matrices came out wrong"
    except RuntimeError as error:
        fault = str(error).partition("\n")[0]
    with torch.cuda.device(device):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    capability = (about.major, about.minor)
    return Gpu(about.name, about.total_memory, free, capability, native, fault)


def driver_version(machine: Machine) -> str:
    """Returns the version of NVIDIA's driver; empty where none is loaded."""
    text = machine.text("proc/driver/nvidia/version")
    loaded = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)", text)
    return loaded[1] if loaded else _ask_smi(machine, "--query-gpu=driver_version")


def find_gpus(machine: Machine) -> tuple[str, ...]:
    """Returns signs of NVIDIA GPUs, whether torch can use them or not."""
    from hepllm.model.devices import gpu_traces

    traces = gpu_traces(machine.root)
    name = "" if traces else _ask_smi(machine, "--query-gpu=name")
    return (f"{name} (nvidia-smi)",) if name else traces


def check_gpu(
    machine: Machine,
    build: TorchBuild,
    wanted: str,
    *,
    can_open: Callable[[str], bool] = lambda file: os.access(file, os.R_OK | os.W_OK),
) -> Finding:
    """Checks whether the device that the configuration wants (``backbone.device``) can be used.

    A GPU that exists and cannot be used is a problem, unless the configuration wants the CPU.
    """
    if build.gpus:
        return _check_usable(machine, build)
    present = find_gpus(machine)
    if present:
        return _check_unusable(machine, build, wanted, present[0], can_open)
    if wanted == "cuda":
        found = f"backbone.device is cuda, and there is no NVIDIA GPU; {build.title}"
        return Finding("gpu", "problem", found, "set backbone.device=cpu")
    if machine.wsl and (machine.root / "dev" / "dxg").exists():
        found = f"no NVIDIA GPU, or its driver for Windows is missing; {build.title}"
        remedy = "if this computer has one, install NVIDIA's driver in Windows, not in WSL2"
        return Finding("gpu", "warning", found, remedy)
    return Finding("gpu", "ok", f"no NVIDIA GPU, the CPU is used; {build.title}")


def check_precision(config: BackboneConfig, build: TorchBuild) -> Finding:
    """Checks whether the hardware is fast in the precision that the model would compute in."""
    import torch

    from hepllm.model.devices import choose_dtype, fastest_dtype, has_native_bfloat16

    device, capability, place = torch.device("cpu"), None, "the CPU"
    if build.gpus and config.device != "cpu":
        first = build.gpus[0]
        device, capability = torch.device("cuda"), first.capability
        native, place = first.native_bfloat16, f"the GPU (compute capability {_dotted(first)})"
    else:
        native = has_native_bfloat16(device)
    automatic = fastest_dtype(capability, native_bfloat16=native)
    dtype = automatic if config.dtype == "auto" else choose_dtype(config.dtype, device)
    chosen, best = (str(kind).removeprefix("torch.") for kind in (dtype, automatic))
    on_gpu = capability is not None
    return _judge_precision(f"{chosen} on {place}", chosen, best, native=native, on_gpu=on_gpu)


def _judge_precision(found: str, chosen: str, best: str, *, native: bool, on_gpu: bool) -> Finding:
    remedy = f"set backbone.dtype=auto, which means {best} here"
    if chosen == "bfloat16" and not native:
        found += ", which only emulates it: slow"
    elif chosen == "float16" and best != chosen:
        found += f", where {best} is better"
    elif chosen == "float32" and on_gpu:
        found += "; 16 bits would be faster and smaller"
        if best == chosen:
            remedy = "GPUs are fast in 16 bits from compute capability 7.0 on"
    else:
        how = {"bfloat16": ", in hardware", "float16": ", with the loss scaled"}
        return Finding("precision", "ok", f"{found}{how.get(chosen, '')}")
    return Finding("precision", "warning", found, remedy)


def _check_usable(machine: Machine, build: TorchBuild) -> Finding:
    listed = "; ".join(
        f"{gpu.name}, {gpu.free / GIB:.1f} of {gpu.total / GIB:.1f} GiB free, "
        f"compute capability {_dotted(gpu)}"
        for gpu in build.gpus
    )
    found = f"{listed}; {build.title}, driver {driver_version(machine) or 'unknown'}"
    if machine.wsl == 2:
        found += (
            "; WSL2 would take the machine's memory when the GPU's is full, and slow down without "
            "a word, so torch is held to what is free"
        )
    broken = [gpu for gpu in build.gpus if gpu.fault]
    if broken:
        remedy = (
            "this build of torch may be too new or too old for it: install a build for compute "
            f"capability {_dotted(broken[0])}, or set backbone.device=cpu"
        )
        return Finding("gpu", "problem", f"{found}; {broken[0].name}: {broken[0].fault}", remedy)
    if build.rocm:
        remedy = "hepllm is not tested with ROCm"
        return Finding("gpu", "warning", f"{found}, ROCm {build.rocm}", remedy)
    return Finding("gpu", "ok", found)


def _check_unusable(
    machine: Machine, build: TorchBuild, wanted: str, gpu: str, can_open: Callable[[str], bool]
) -> Finding:
    from hepllm.model.devices import is_gpu_hidden

    if is_gpu_hidden(machine.environ):
        found = f"{gpu} is hidden by CUDA_VISIBLE_DEVICES; {build.title}"
        level: Level = "problem" if wanted == "cuda" else "warning"
        return Finding("gpu", level, found, "to use it: unset CUDA_VISIBLE_DEVICES")
    reason, remedy = _diagnose(machine, build, can_open)
    if wanted == "cpu":
        found = f"{gpu} is not used (backbone.device is cpu; {reason}); {build.title}"
        return Finding("gpu", "warning", found, f"to use it: {remedy}")
    found = f"{gpu} exists, but {reason}; {build.title}"
    return Finding("gpu", "problem", found, f"{remedy}; or set backbone.device=cpu")


def _diagnose(
    machine: Machine, build: TorchBuild, can_open: Callable[[str], bool]
) -> tuple[str, str]:
    """Returns why a GPU that exists cannot be used, and what to do."""
    if build.cuda is None:
        reason = "this build of torch is for CPUs only"
        return reason, "install a CUDA build: https://pytorch.org/get-started/locally"
    driver = driver_version(machine)
    if not driver:
        where = "in Windows, not in WSL2" if machine.wsl else "of your distribution, then restart"
        return "NVIDIA's driver is not loaded", f"install NVIDIA's driver {where}"
    oldest = _OLDEST_DRIVER.get(int(build.cuda.partition(".")[0]), 0)
    if int(driver.partition(".")[0]) < oldest:
        reason = f"its driver {driver} is too old for CUDA {build.cuda}"
        older = "a torch build for an older CUDA"
        return reason, f"update the driver to {oldest} or newer, or install {older}"
    files = sorted((machine.root / "dev").glob("nvidia[0-9]*"))
    if not machine.wsl and not any(can_open(str(file)) for file in files):
        reason = "this process may not use /dev/nvidia*"
        return reason, "start the container with --gpus all, or ask the batch system for a GPU"
    reason = f"torch reports: {build.error or 'no device'}"
    return reason, "check whether nvidia-smi works; after an update of the driver, restart"


def _ask_smi(machine: Machine, query: str) -> str:
    """Returns the first line of nvidia-smi, which on WSL2 is often not on the search path."""
    for program in ("nvidia-smi", _WSL_SMI):
        answer = machine.output_of([program, query, "--format=csv,noheader"])
        if answer:
            return answer.splitlines()[0].strip()
    return ""


def _dotted(gpu: Gpu) -> str:
    return ".".join(map(str, gpu.capability))
