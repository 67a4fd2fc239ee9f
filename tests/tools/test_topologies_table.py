"""The table of decays: one row for each, with the sample that it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner


def test_the_table_has_a_row_for_each_decay(
    load_tool: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    tool = load_tool("topologies")
    page = tmp_path / "page.md"
    arguments = ["--events", "6", "--masses", "500", "--output", str(page)]
    result = CliRunner().invoke(tool.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ")][1:]
    names = [row.split(" | ")[0].strip("| ") for row in rows]
    assert names == ["q", "qq", "bb", "qqq", "tt", "background"]
    assert all(" | 6 | " in row for row in rows)
    assert "## X of 500 GeV" in page.read_text()


def test_a_median_has_its_interval(load_tool: Callable[[str], ModuleType]) -> None:
    tool = load_tool("topologies")
    values = np.append(np.random.default_rng(1).normal(2, 1, 10_000), np.nan)
    found = tool.median(values, np.random.default_rng(2))
    low, high = (float(one) for one in found.split("[")[1].rstrip("]").split(", "))

    assert low < 2.0 < high
    assert high - low == pytest.approx(2 * 1.96 * 0.01253, rel=0.2)
