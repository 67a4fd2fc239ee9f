"""Tools as modules: they are scripts, and import each other by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

_TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module")
def load_tool() -> Iterator[Callable[[str], ModuleType]]:
    """``load_tool("case_means")`` is ``tools/studies/case_means.py``."""
    with pytest.MonkeyPatch.context() as patch:
        for folder in ("bench", "docs", "studies"):
            patch.syspath_prepend(str(_TOOLS / folder))
        yield importlib.import_module
