from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hepllm.installation.machine import Machine, existing_part, free_space, output_of

NATIVE = "Linux version 6.8.0-45-generic (buildd@lcy02) (gcc 13.2.0) #45-Ubuntu SMP"
WSL1 = "Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com) (gcc version 5.4.0) #1"
WSL2 = "Linux version 5.15.153.1-microsoft-standard-WSL2 (root@941d701f84f1) (gcc 11.2.0) #1 SMP"


@pytest.mark.parametrize(("version", "expected"), [(NATIVE, 0), (WSL1, 1), (WSL2, 2), ("", 0)])
def test_wsl_is_known_by_its_kernel(
    make_machine: Callable[..., Machine], version: str, expected: int
) -> None:
    assert make_machine({"proc/version": version}).wsl == expected


def test_a_file_that_is_not_there_is_empty(make_machine: Callable[..., Machine]) -> None:
    assert make_machine().text("proc/nothing") == ""


def test_programs_that_are_missing_or_fail_say_nothing() -> None:
    assert output_of(["no-such-program-anywhere"]) == ""
    assert output_of([sys.executable, "-c", "print(1); raise SystemExit(3)"]) == ""
    assert output_of([sys.executable, "-c", "print(1)"]) == "1"


def test_space_is_that_of_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    assert existing_part(tmp_path / "a" / "b") == tmp_path
    assert free_space(tmp_path / "a" / "b") > 0
