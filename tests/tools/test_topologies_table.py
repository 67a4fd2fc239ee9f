"""The table of decays: one row for each, with the sample that it says."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

TOOLS = Path(__file__).parents[2] / "tools" / "studies"


def test_the_table_has_a_row_for_each_decay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    tool = importlib.import_module("topologies")
    page = tmp_path / "page.md"
    arguments = ["--events", "6", "--masses", "500", "--output", str(page)]
    result = CliRunner().invoke(tool.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ")][1:]
    names = [row.split(" | ")[0].strip("| ") for row in rows]
    assert names == ["q", "qq", "bb", "qqq", "tt", "background"]
    assert all(" | 6 | " in row for row in rows)
    assert "## X of 500 GeV" in page.read_text()


def test_a_median_has_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    tool = importlib.import_module("topologies")
    values = np.append(np.random.default_rng(1).normal(2, 1, 10_000), np.nan)
    found = tool.median(values, np.random.default_rng(2))
    low, high = (float(one) for one in found.split("[")[1].rstrip("]").split(", "))

    assert low < 2.0 < high
    assert high - low == pytest.approx(2 * 1.96 * 0.01253, rel=0.2)
