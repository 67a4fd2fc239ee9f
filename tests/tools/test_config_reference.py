"""``docs/config.md`` is what its tool makes of the settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from hepllm.config import Config, settings_by_path

ROOT = Path(__file__).parents[2]


def test_the_page_in_docs_is_up_to_date(load_tool: Callable[[str], ModuleType]) -> None:
    page = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    expected = load_tool("config_reference").reference_page()
    assert page == expected, "run: python tools/docs/config_reference.py"
    for path in settings_by_path(Config()):
        assert f"| `{path.rpartition('.')[2]}` |" in page
