"""``docs/metrics.md`` is what its tool makes of the records, and names what scripts rely on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("metrics_reference")


def test_the_page_in_docs_is_up_to_date(tool: ModuleType) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert page == tool.reference_page(), "run: python tools/docs/metrics_reference.py"
    for key in ("auc", "max_sic_interval", "sic_at_X_n_background_passing", "p_value", "starts"):
        assert f"| `{key}` |" in page
    assert "| `resonance_mass_gev` | [Measurement](#measurement) | GeV |" in page


def test_every_key_has_its_sentence(tool: ModuleType) -> None:
    rows = [line for line in tool.reference_page().splitlines() if line.startswith("| `")]
    assert len(rows) > 200
    assert [row for row in rows if not row.endswith(". |")] == []


def test_every_link_leads_somewhere(tool: ModuleType) -> None:
    page = tool.reference_page()
    titles = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    anchors = {title.lower().replace(".", "").replace(" ", "-") for title in titles}
    links = {part.partition(")")[0] for part in page.split("](#")[1:]}
    assert links <= anchors
    assert len(anchors) == len(titles)
