from __future__ import annotations

import os
from pathlib import Path

import pytest

from hepllm.host import available_memory, own_memory, total_memory, wsl_version

INSTALLED = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
MEMINFO = {"proc/meminfo": "MemTotal: 1000 kB\nMemFree: 5 kB\nMemAvailable: 600 kB\nHugePages: 0\n"}


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_without_limits_it_is_what_is_installed(tmp_path: Path) -> None:
    assert total_memory(tmp_path) == INSTALLED
    limits = {
        "proc/self/cgroup": "0::/user.slice/job\n",
        "sys/fs/cgroup/user.slice/job/memory.max": "max\n",
    }
    tree(tmp_path, MEMINFO | limits)
    assert total_memory(tmp_path) == 1000 << 10
    assert available_memory(tmp_path) == 600 << 10


def test_this_machine_answers() -> None:
    assert total_memory() <= INSTALLED
    assert 0 < available_memory() < total_memory()
    assert 0 < own_memory() < total_memory()


def test_the_lowest_limit_of_the_groups_above_counts(tmp_path: Path) -> None:
    limits = {
        "proc/self/cgroup": "0::/slurm/job_7/step_0\n",
        "sys/fs/cgroup/slurm/job_7/step_0/memory.max": "max\n",
        "sys/fs/cgroup/slurm/job_7/memory.max": "400000\n",
        "sys/fs/cgroup/slurm/memory.max": "500000\n",
    }
    assert total_memory(tree(tmp_path, MEMINFO | limits)) == 400000


def test_files_that_a_group_has_read_are_not_used_memory(tmp_path: Path) -> None:
    limits = {
        "proc/self/cgroup": "0::/job\n",
        "sys/fs/cgroup/job/memory.max": "500000\n",
        "sys/fs/cgroup/job/memory.current": "450000\n",
        "sys/fs/cgroup/job/memory.stat": "anon 200000\nfile 250000\ninactive_file 240000\n",
    }
    assert available_memory(tree(tmp_path, MEMINFO | limits)) == 500000 - (450000 - 240000)


def test_the_first_version_of_control_groups(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory/docker/1"
    limits = {
        "proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/docker/1\n",
        f"{group}/memory.limit_in_bytes": "300000\n",
        f"{group}/memory.usage_in_bytes": "100000\n",
        f"{group}/memory.stat": "inactive_file 1\ntotal_inactive_file 40000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    tree(tmp_path, MEMINFO | limits)
    assert total_memory(tmp_path) == 300000
    assert available_memory(tmp_path) == 240000


def test_a_process_holds_what_no_file_backs(tmp_path: Path) -> None:
    status = "Name: x\nVmRSS:\t 900 kB\nRssAnon:\t     700 kB\nRssFile:\t 200 kB\n"
    assert own_memory(tree(tmp_path, {"proc/self/status": status})) == 700 << 10


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("Linux version 6.8.0-45-generic", 0),
        ("Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)", 1),
        ("Linux version 5.15.153.1-microsoft-standard-WSL2", 2),
    ],
)
def test_windows_below(version: str, expected: int, tmp_path: Path) -> None:
    assert wsl_version(tree(tmp_path, {"proc/version": version})) == expected
