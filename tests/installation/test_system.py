from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hepllm.installation.machine import Machine
from hepllm.installation.system import (
    check_cores,
    check_disk,
    check_memory,
    check_mounts,
    check_shared_memory,
    check_system,
    memory_of_model,
)

MakeMachine = Callable[..., Machine]

WSL1 = {"proc/version": "Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)"}
WSL2 = {"proc/version": "Linux version 5.15.153.1-microsoft-standard-WSL2"}
LINUX = {"proc/version": "Linux version 6.8.0-45-generic"}
MISTRAL = 14.5e9


def meminfo(total_gib: float) -> dict[str, str]:
    kib = int(total_gib * 2**20)
    return {"proc/meminfo": f"MemTotal: {kib} kB\nMemFree: 5 kB\nMemAvailable: {kib // 2} kB\n"}


def test_linux_and_wsl2_are_supported(make_machine: MakeMachine) -> None:
    plain = check_system(make_machine(), system="Linux", release="6.8", python="3.12.1")
    assert (plain.level, plain.found) == ("ok", "Linux 6.8, Python 3.12.1")
    inside = check_system(make_machine(WSL2), system="Linux", release="5.15", python="3.11.0")
    assert inside.level == "ok"
    assert "WSL2" in inside.found


@pytest.mark.parametrize(
    ("system", "remedy"), [("Windows", "wsl --install"), ("Darwin", "Linux and WSL2")]
)
def test_other_systems_are_not(make_machine: MakeMachine, system: str, remedy: str) -> None:
    finding = check_system(make_machine(), system=system, release="1", python="3.12.1")
    assert finding.level == "problem"
    assert remedy in finding.remedy


def test_wsl1_is_not(make_machine: MakeMachine) -> None:
    finding = check_system(make_machine(WSL1), system="Linux", release="4.4", python="3.12.1")
    assert finding.level == "problem"
    assert "--set-version" in finding.remedy


def test_an_old_python_is_a_problem(make_machine: MakeMachine) -> None:
    finding = check_system(make_machine(), system="Linux", release="6.8", python="3.10.14")
    assert finding.level == "problem"
    assert ">=3.11" in finding.remedy


def needed(*, quantized: bool, on_gpu: bool, element: int = 2) -> float:
    return memory_of_model(MISTRAL, quantized=quantized, on_gpu=on_gpu, element=element)


def test_a_gpu_takes_weights_one_by_one(make_machine: MakeMachine) -> None:
    """Whatever their size: a laptop with half of its 8 GiB in WSL2 is enough."""
    for quantized in (True, False):
        finding = check_memory(
            make_machine(WSL2 | meminfo(7.6)), needed(quantized=quantized, on_gpu=True)
        )
        assert finding.level == "ok"
        assert "7.6 GiB, 3.8 GiB available" in finding.found


def test_a_cpu_holds_the_weights(make_machine: MakeMachine) -> None:
    whole = [needed(quantized=False, on_gpu=False, element=n) for n in (2, 4)]
    assert whole[1] - whole[0] == pytest.approx(MISTRAL)
    packed = needed(quantized=True, on_gpu=False)
    assert 4 * 2**30 < packed < 7 * 2**30
    assert check_memory(make_machine(meminfo(32)), whole[0]).level == "ok"
    assert check_memory(make_machine(meminfo(16)), packed).level == "ok"
    finding = check_memory(make_machine(meminfo(16)), whole[0])
    assert finding.level == "warning"
    assert "a smaller model" in finding.remedy


def test_what_others_hold_is_not_free(make_machine: MakeMachine) -> None:
    finding = check_memory(make_machine(meminfo(8)), needed(quantized=True, on_gpu=False))
    assert finding.level == "warning"
    assert finding.remedy == "end other programs"


def test_only_in_wsl_is_anybody_sent_to_wslconfig(make_machine: MakeMachine) -> None:
    finding = check_memory(make_machine(WSL2 | meminfo(4)), needed(quantized=True, on_gpu=False))
    assert "set memory=7GB or more below [wsl2]" in finding.remedy
    plain = check_memory(make_machine(meminfo(4) | LINUX), needed(quantized=True, on_gpu=False))
    assert "wsl" not in plain.remedy


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_container_has_the_memory_of_its_limit(make_machine: MakeMachine, file: str) -> None:
    limited = meminfo(64) | {f"sys/fs/cgroup/{file}": f"{8 * 2**30}\n"}
    assert "8.0 GiB, 8.0 GiB available" in check_memory(make_machine(limited), 0).found


MOUNTS = {
    "proc/mounts": (
        "/dev/sdc / ext4 rw 0 0\n"
        "C:\\134 /mnt/c 9p rw,aname=drvfs 0 0\n"
        "D:\\134 /data/big\\040disk 9p rw,aname=drvfs 0 0\n"
        "none /mnt/wsl tmpfs rw 0 0\n"
    )
}


def test_folders_on_windows_disks_are_slow(make_machine: MakeMachine) -> None:
    machine = make_machine(WSL2 | MOUNTS)
    finding = check_mounts(machine, [Path("/home/me"), Path("/mnt/c/Users/me/data")])
    assert finding.level == "warning"
    assert "/mnt/c/Users/me/data (9p)" in finding.found
    assert "/home/me" not in finding.found
    # A mount point with a blank, which the kernel writes as an octal number.
    assert check_mounts(machine, [Path("/data/big disk/x")]).level == "warning"
    assert check_mounts(machine, [Path("/home/me"), Path("/mnt/wsl/x")]).level == "ok"


def test_another_machine_may_have_9p_for_its_own_reasons(make_machine: MakeMachine) -> None:
    machine = make_machine({"proc/mounts": "root / 9p rw 0 0\n"})
    assert check_mounts(machine, [Path("/home/me")]).level == "ok"


def disk(machine: Machine, folder: Path, download: float, converted: float) -> tuple[str, str]:
    hub, own = folder / "hub", folder / "own"
    found = check_disk(machine, hub, own, download=download, converted=converted)
    return found.level, found.remedy


def test_a_full_disk_is_a_problem_before_the_download(
    make_machine: MakeMachine, tmp_path: Path
) -> None:
    free = {"hub": 14e9, "own": 100e9}
    machine = make_machine(free_space=lambda folder: free[folder.name])
    level, remedy = disk(machine, tmp_path, MISTRAL, 4e9)
    assert level == "problem"
    assert "HF_HOME" in remedy
    assert disk(machine, tmp_path, 0.0, 4e9)[0] == "ok"  # it is there already


def test_both_caches_on_one_disk_need_room_together(
    make_machine: MakeMachine, tmp_path: Path
) -> None:
    machine = make_machine(free_space=lambda _: 17e9)
    level, remedy = disk(machine, tmp_path, MISTRAL, 4e9)
    assert level == "warning"
    assert "HEPLLM_CACHE" in remedy
    assert disk(make_machine(free_space=lambda _: 19e9), tmp_path, MISTRAL, 4e9)[0] == "ok"


def test_the_small_shared_memory_of_containers_is_told(make_machine: MakeMachine) -> None:
    small = make_machine({"dev/shm/x": ""}, free_space=lambda _: 64 * 2**20)
    finding = check_shared_memory(small)
    assert finding.level == "warning"
    assert "--shm-size" in finding.remedy
    assert check_shared_memory(make_machine({"dev/shm/x": ""})).level == "ok"


def test_no_shared_memory_is_told(make_machine: MakeMachine) -> None:
    assert check_shared_memory(make_machine()).level == "warning"


@pytest.mark.parametrize(
    ("environ", "level"),
    [
        ({}, "ok"),
        ({"OMP_NUM_THREADS": "8", "OMP_WAIT_POLICY": "PASSIVE"}, "ok"),
        ({"OMP_NUM_THREADS": "16"}, "warning"),
        ({"OMP_WAIT_POLICY": "active"}, "warning"),
    ],
)
def test_openmp_settings_that_hurt_are_told(
    make_machine: MakeMachine, environ: dict[str, str], level: str
) -> None:
    finding = check_cores(make_machine(environ=environ))
    assert finding.level == level
    assert bool(finding.remedy) == (level != "ok")


@pytest.mark.parametrize(
    "files",
    [
        {"sys/fs/cgroup/cpu.max": "250000 100000\n"},
        {
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    ],
)
def test_a_quota_of_time_counts_less_than_its_cores(
    make_machine: MakeMachine, files: dict[str, str]
) -> None:
    finding = check_cores(make_machine(files))
    assert finding.level == "warning"
    assert "the time of 2.5" in finding.found
    assert "--workers to 2" in finding.remedy


def test_no_quota_is_no_limit(make_machine: MakeMachine) -> None:
    assert check_cores(make_machine({"sys/fs/cgroup/cpu.max": "max 100000\n"})).level == "ok"
