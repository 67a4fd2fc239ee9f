from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hepllm.learning.capacity import cap_gpu_memory, device_capacity

GIB = 2**30


def machine(root: Path, *, available: int, own: int = 0, version: str = "Linux") -> Path:
    """A machine of 16 GiB, as files below a folder."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/version").write_text(version)
    (root / "proc/meminfo").write_text(
        f"MemTotal: {16 << 20} kB\nMemAvailable: {available << 20} kB\n"
    )
    (root / "proc/self/status").write_text(f"RssAnon: {own << 20} kB\n")
    return root


@pytest.mark.parametrize(("available", "own"), [(14, 1), (6, 1), (2, 7), (0, 3)])
def test_what_is_free_counts_and_what_this_process_holds(
    tmp_path: Path, available: int, own: int
) -> None:
    """The loaded weights are in the budget, and are no longer free."""
    root = machine(tmp_path, available=available, own=own)
    found = device_capacity(torch.device("cpu"), None, root=root)
    assert found.total == 16 * GIB
    assert found.usable == max(0, available * GIB - int(0.05 * 16 * GIB)) + own * GIB
    limited = device_capacity(torch.device("cpu"), 1.5, root=root)
    assert limited.usable == min(found.usable, int(1.5 * GIB))


def test_processes_of_a_machine_share_what_is_free(tmp_path: Path) -> None:
    root = machine(tmp_path, available=10, own=1)
    alone, third = (
        device_capacity(torch.device("cpu"), None, n_sharing=n, root=root).usable for n in (1, 3)
    )
    assert third - GIB == pytest.approx((alone - GIB) / 3, abs=1)


def test_on_wsl2_a_gpu_leaves_something_to_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (3 * GIB, 8 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 4 * GIB)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a card")
    version = "5.15.153.1-microsoft-standard-WSL2"
    root = machine(tmp_path, available=9, version=version)
    found = device_capacity(torch.device("cuda", 0), None, root=root)
    assert found.usable == 7 * GIB - GIB // 2


@pytest.mark.parametrize(("n_sharing", "uses_nccl"), [(1, True), (2, True), (1, False), (2, False)])
def test_a_gpu_that_exchanges_gradients_has_less(
    monkeypatch: pytest.MonkeyPatch, n_sharing: int, uses_nccl: bool
) -> None:
    """Also where it is the only one of its machine."""
    gib = GIB
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
