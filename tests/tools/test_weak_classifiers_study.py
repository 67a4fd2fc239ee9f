"""The comparison of classifiers without labels: boxes, their test, and what is measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner

from hepllm.data.event_table import EventTable
from hepllm.evaluation.scores import ScoredEvents

Made = Callable[[int, int, int], EventTable]


@pytest.fixture(scope="module")
def tool(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("weak_classifiers")


def test_a_box_and_its_test_share_no_event(tool: ModuleType, numbered_events: Made) -> None:
    background, signal = numbered_events(500, 0, 0), numbered_events(0, 100, 1000)
    pools = tool.Boxes(background, signal, numbered_events(50, 0, 2000), None)
    box, test = pools.draw(300, 0.02, seed=3)
    assert (len(box), int(box.label.sum())) == (300, 6)
    assert len(test) == 206 + 94 + 50
    assert not np.isin(test.event_digest, box.event_digest).any()
    assert len(np.unique(np.concatenate([box.event_digest, test.event_digest]))) == 650


def test_the_sic_at_a_background_is_that_of_the_counts(tool: ModuleType) -> None:
    score = np.concatenate([np.arange(1000), np.full(30, 995.5), np.full(70, 10.5)])
    label = np.repeat([0, 1], [1000, 100])
    events = ScoredEvents(score, label, np.ones(1100))
    # 10 of 1,000 background events are at 990 or above, and 30 of 100 signal events.
    assert tool.sic_at_background(events, 0.01) == pytest.approx(0.3 / np.sqrt(0.01))
    assert tool.sic_at_background(events, 0.001) == 0


def test_the_table_compares_with_the_boosting_of_the_same_box(
    tool: ModuleType, tmp_path: Path
) -> None:
    lines = [
        {
            "classifier": name,
            "fraction": 0.01,
            "seed": seed,
            "seconds": 3.0,
            "sic_0.001": 1.0,
            "sic_0.01": value,
            "max_sic": 2.0,
            "local_sigma": 4.0,
            "p_value": 0.001,
        }
        for name, seed, value in (
            ("boosting", 1, 3.0),
            ("boosting", 2, 4.0),
            ("mlp", 1, 1.0),
            ("mlp", 2, 4.0),
            ("mlp", 3, 9.0),
        )
    ]
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    made = CliRunner().invoke(tool.main, ["table", str(tmp_path)])
    assert made.exit_code == 0, made.output
    assert "| 1.0% | boosting | 2 | 1 [1, 1] | 3.5 [3.16, 3.84] |" in made.output
    # Differences of 2 and 0; the third box has no boosting.
    told = "1.0%, sic_0.01: boosting minus mlp +1.00 ± 1.00, above 0 in 1 of 2"
    assert told in made.output.splitlines()
