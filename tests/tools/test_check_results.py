"""What a release must reach: each bound is told when it is missed, and only then."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

GOOD = {
    "auc": 0.95,
    "baselines": {"boosting": {"auc": 0.96}},
    "paired": {"boosting": {"auc": {"estimate": -0.01, "low": -0.02}}},
    "ablation": {"nfa_permuted": {"auc": 0.55}},
}
BOUNDS = ("--min-nfa-drop", "0.05", "--min-boosting-auc", "0.9")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("paired", "boosting", "auc", "estimate"), -0.03, "AUC is 0.0300 below the boosting's"),
        (("paired", "boosting", "auc", "low"), -0.04, "lower bound of that difference is -0.0400"),
        (("baselines", "boosting", "auc"), 0.89, "the boosting's AUC is 0.8900, below 0.9"),
        (("ablation", "nfa_permuted", "auc"), 0.92, "lowers the AUC by 0.0300 only, not 0.05"),
        ((), 0.0, "as good as it must be"),
    ],
)
def test_each_bound_is_held(
    path: tuple[str, ...],
    value: float,
    message: str,
    load_tool: Callable[[str], ModuleType],
    tmp_path: Path,
) -> None:
    metrics = copy.deepcopy(GOOD)
    place = metrics
    for key in path[:-1]:
        place = place[key]  # type: ignore[assignment]
    if path:
        place[path[-1]] = value
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps(metrics), encoding="utf-8")
    made = CliRunner().invoke(load_tool("check_results").main, [str(file), *BOUNDS])
    assert made.exit_code == (1 if path else 0)
    assert made.output.count(f"{file}: ") == 1
    assert message in made.output
