from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from hepllm.learning.capacity import cap_gpu_memory, device_capacity, machine_memory

INSTALLED = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_without_limits_it_is_what_is_installed(tmp_path: Path) -> None:
    assert machine_memory(tmp_path) == INSTALLED
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice/job\n",
            "sys/fs/cgroup/user.slice/job/memory.max": "max\n",
        },
    )
    assert machine_memory(tmp_path) == INSTALLED


def test_the_lowest_limit_of_the_groups_above_counts(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/slurm/job_7/step_0\n",
            "sys/fs/cgroup/slurm/job_7/step_0/memory.max": "max\n",
            "sys/fs/cgroup/slurm/job_7/memory.max": f"{2**30}\n",
            "sys/fs/cgroup/slurm/memory.max": f"{2**31}\n",
        },
    )
    assert machine_memory(tmp_path) == 2**30


def test_the_first_version_of_control_groups(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/docker/1\n",
            "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": f"{3 * 2**30}\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert machine_memory(tmp_path) == min(INSTALLED, 3 * 2**30)


def test_ram_is_shared_with_the_system() -> None:
    found = device_capacity(torch.device("cpu"), None)
    assert found.total == machine_memory()
    assert 0.5 * found.total < found.usable < found.total
    assert device_capacity(torch.device("cpu"), 1.5).usable == min(found.usable, int(1.5 * 2**30))


def test_processes_of_a_machine_share_its_ram() -> None:
    alone, third = (device_capacity(torch.device("cpu"), None, n_sharing=n) for n in (1, 3))
    assert third.total == alone.total
    assert third.usable == alone.usable // 3


@pytest.mark.parametrize(("n_sharing", "uses_nccl"), [(1, True), (2, True), (1, False), (2, False)])
def test_a_gpu_that_exchanges_gradients_has_less(
    monkeypatch: pytest.MonkeyPatch, n_sharing: int, uses_nccl: bool
) -> None:
    """Also where it is the only one of its machine."""
    gib = 2**30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (3 * gib, 8 * gib))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 4 * gib)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a card")
    found = device_capacity(torch.device("cuda", 0), None, n_sharing=n_sharing, uses_nccl=uses_nccl)
    assert found.usable == 7 * gib - uses_nccl * gib // 2


def test_a_cpu_has_no_cap() -> None:
    cap_gpu_memory(torch.device("cpu"), 1.0)  # must not ask for a GPU


@pytest.mark.gpu
def test_a_gpu_keeps_to_its_cap() -> None:
    device = torch.device("cuda", 0)
    torch.cuda.empty_cache()
    cap_gpu_memory(device, 1.0)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(2**31, dtype=torch.uint8, device=device)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
