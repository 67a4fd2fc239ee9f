"""Checks of the operating system, its memory, disks and cores."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from importlib.metadata import metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet

from hepllm.host import available_memory, total_memory
from hepllm.installation.findings import Finding
from hepllm.installation.machine import Machine, existing_part

GIB = 2**30

QUANTIZED_SHARE = 0.3
"""Size of NF4 weights, with embeddings in 16 bits, relative to 16-bit weights."""

_PROCESS = 2 * GIB
"""Python with its libraries, events, and the weights that are read just now."""
_SHARE_OF_PROGRAMS = 0.9
"""Most of the memory that the system can leave to one program."""
_SMALL_SHARED_MEMORY = 256 * 2**20
_SLOW = ("9p", "drvfs", "virtiofs")
"""File systems through which WSL reaches Windows' disks."""


def check_system(
    machine: Machine,
    *,
    system: str = platform.system(),
    release: str = platform.release(),
    python: str = platform.python_version(),
) -> Finding:
    """Checks the operating system (Linux or WSL2) and Python (as the package declares)."""
    name, found = "system", f"{system} {release}, Python {python}"
    if system != "Linux":
        remedy = (
            "native Windows is not supported; install WSL2: wsl --install"
            if system == "Windows"
            else "supported are Linux and WSL2; use a Linux machine or container"
        )
        return Finding(name, "problem", found, remedy)
    if machine.wsl == 1:
        remedy = "WSL1 is not supported; in Windows: wsl --set-version <distribution> 2"
        return Finding(name, "problem", f"{found}, WSL1", remedy)
    wanted = metadata("hepllm")["Requires-Python"]
    if not SpecifierSet(wanted).contains(python, prereleases=True):
        return Finding(name, "problem", found, f"install Python {wanted}")
    return Finding(name, "ok", found + (", WSL2" if machine.wsl else ""))


def check_memory(machine: Machine, needed: float) -> Finding:
    """Checks whether the free memory is enough for a model.

    Args:
        machine: machine to check.
        needed: bytes of memory, from ``memory_of_model``.
    """
    total, available = total_memory(machine.root), available_memory(machine.root)
    found = f"{total / GIB:.1f} GiB, {available / GIB:.1f} GiB available"
    if machine.wsl:
        found += " (WSL2 takes half of the host's memory by default)"
    if needed <= available:
        return Finding("memory", "ok", found)
    found += f"; the model needs about {needed / GIB:.1f} GiB"
    if needed <= _SHARE_OF_PROGRAMS * total:
        return Finding("memory", "warning", found, "end other programs")
    remedy = "use a machine with more memory, or a smaller model"
    if machine.wsl:
        file = "%UserProfile%\\.wslconfig"
        wanted = int(needed / _SHARE_OF_PROGRAMS / GIB) + 1
        remedy = f"set memory={wanted}GB or more below [wsl2] in {file}, then: wsl --shutdown"
    return Finding("memory", "warning", found, remedy)


def memory_of_model(size: float, *, quantized: bool, on_gpu: bool, element: int) -> float:
    """Returns the bytes of main memory that loading and using a model takes.

    Args:
        size: bytes of its weights, in 16 bits.
        quantized: whether they are quantised to 4 bits.
        on_gpu: whether a GPU holds them, to which they are copied one by one.
        element: bytes of a weight that is not quantised.
    """
    if on_gpu:
        return _PROCESS
    return _PROCESS + size * (QUANTIZED_SHARE if quantized else element / 2)


def check_mounts(machine: Machine, folders: Iterable[Path]) -> Finding:
    """Checks that no folder in use lies on a disk of Windows, which is slow from WSL2."""
    mounts = _mounts(machine)
    slow = []
    for folder in dict.fromkeys(folder.absolute() for folder in folders):
        point, kind = _mount_of(folder, mounts)
        is_windows = re.fullmatch(r"/mnt/[A-Za-z]", point) is not None
        if kind in _SLOW and (is_windows or machine.wsl):
            slow.append(f"{folder} ({kind})")
    if slow:
        remedy = "move it into the Linux file system, such as ~/, which is many times faster"
        return Finding("mounts", "warning", f"on a disk of Windows: {', '.join(slow)}", remedy)
    return Finding("mounts", "ok", "no folder in use lies on a disk of Windows")


def check_disk(
    machine: Machine, hub_cache: Path, cache: Path, *, download: float, converted: float
) -> Finding:
    """Checks whether the disks have space for the model.

    Args:
        machine: machine to check.
        hub_cache: cache of Hugging Face.
        cache: cache of hepllm.
        download: bytes to download into the cache of Hugging Face.
        converted: bytes to write into the cache of hepllm.
    """
    free = {folder: machine.free_space(folder) for folder in (hub_cache, cache)}
    found = "; ".join(f"{size / 1e9:.1f} GB free for {folder}" for folder, size in free.items())
    if download:
        found += f"; to download: {download / 1e9:.1f} GB"
    if free[hub_cache] < download:
        remedy = "free some space, or set HF_HOME to a folder on a larger disk"
        return Finding("disk", "problem", found, remedy)
    same = existing_part(hub_cache).stat().st_dev == existing_part(cache).stat().st_dev
    if free[cache] < converted + (download if same else 0.0):
        found += f"; too little to keep a converted copy of {converted / 1e9:.1f} GB"
        remedy = "free some space, or set HEPLLM_CACHE; without the copy every start converts again"
        return Finding("disk", "warning", found, remedy)
    return Finding("disk", "ok", found)


def check_shared_memory(machine: Machine) -> Finding:
    """Checks the size of ``/dev/shm``, through which processes on a machine exchange data."""
    folder = machine.root / "dev" / "shm"
    if not folder.is_dir():
        return Finding("shared memory", "warning", "no /dev/shm", "mount a tmpfs on /dev/shm")
    free = machine.free_space(folder)
    found = f"{free / GIB:.2f} GiB free in /dev/shm"
    if free < _SMALL_SHARED_MEMORY:
        remedy = "training on several GPUs may need more; in a container: --shm-size=1g"
        return Finding("shared memory", "warning", found, remedy)
    return Finding("shared memory", "ok", found)


def check_cores(machine: Machine) -> Finding:
    """Checks whether threads and workers fit the cores that this process may use."""
    cores, quota = machine.cores(), _core_quota(machine)
    found = f"{cores} usable cores"
    threads = machine.environ.get("OMP_NUM_THREADS", "")
    policy = machine.environ.get("OMP_WAIT_POLICY", "").upper()
    found += f", OMP_NUM_THREADS {threads or 'not set'}, OMP_WAIT_POLICY {policy or 'not set'}"
    if quota and quota < cores:
        found += f"; a quota allows the time of {quota:.1f}"
        remedy = f"set train.threads and --workers to {max(1, int(quota))}"
        return Finding("cores", "warning", found, remedy)
    if threads.isdigit() and int(threads) > cores:
        return Finding("cores", "warning", found, f"unset OMP_NUM_THREADS, or set it to {cores}")
    if policy == "ACTIVE":
        remedy = "unset OMP_WAIT_POLICY: waiting threads occupy cores that others need"
        return Finding("cores", "warning", found, remedy)
    return Finding("cores", "ok", found)


def _core_quota(machine: Machine) -> float:
    """Returns the number of cores whose time a container may use; 0 without a limit."""
    quota, _, period = machine.text("sys/fs/cgroup/cpu.max").partition(" ")
    if not quota.isdigit():
        quota = machine.text("sys/fs/cgroup/cpu/cpu.cfs_quota_us")
        period = machine.text("sys/fs/cgroup/cpu/cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else 0.0


def _mounts(machine: Machine) -> list[tuple[str, str]]:
    """Returns mount points and kinds of file systems from ``/proc/mounts``."""
    rows = [line.split() for line in machine.text("proc/mounts").splitlines()]
    # Spaces in names are written as octal numbers.
    return [(row[1].replace("\\040", " "), row[2]) for row in rows if len(row) > 2]


def _mount_of(folder: Path, mounts: list[tuple[str, str]]) -> tuple[str, str]:
    above = [(point, kind) for point, kind in mounts if folder.is_relative_to(point)]
    return max(above, key=lambda mount: len(mount[0]), default=("/", ""))
