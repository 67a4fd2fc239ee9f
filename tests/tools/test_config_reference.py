"""``docs/config.md`` is what its tool makes of the settings."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from hepllm.config import Config, settings_by_path

ROOT = Path(__file__).parents[2]


def test_the_page_in_docs_is_up_to_date() -> None:
    file = ROOT / "tools" / "docs" / "config_reference.py"
    spec = importlib.util.spec_from_file_location("config_reference", file)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    page = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert page == tool.reference_page(), "run: python tools/docs/config_reference.py"
    for path in settings_by_path(Config()):
        assert f"| `{path.rpartition('.')[2]}` |" in page
