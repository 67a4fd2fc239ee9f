"""A machine made of files, on which faults can be made to happen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hepllm.installation.machine import Machine

MakeMachine = Callable[..., Machine]


@pytest.fixture
def make_machine(tmp_path: Path) -> MakeMachine:
    """``make_machine({"proc/version": "..."}, environ={...})`` is a machine with these files."""

    def make(files: Mapping[str, str] | None = None, **abilities: Any) -> Machine:
        defaults: dict[str, Any] = {
            "environ": {},
            "output_of": lambda _: "",
            "free_space": lambda _: 10**12,
            "cores": lambda: 8,
        }
        for name, text in (files or {}).items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return Machine(root=tmp_path, **defaults | abilities)

    return make
