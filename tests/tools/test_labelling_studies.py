"""Studies of labels that a language model gives: which events they draw, and their tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hepllm.data.event_table import EventTable

Made = Callable[[int, int, int], EventTable]


@pytest.fixture(scope="module")
def elicitation(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("label_elicitation")


@pytest.fixture(scope="module")
def examples(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("labelled_examples")


def test_pools_share_no_event_and_leave_out_those_of_the_training(
    elicitation: ModuleType, numbered_events: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = {"signal": numbered_events(50, 300, 0), "background": numbered_events(300, 50, 1000)}
    monkeypatch.setattr(
        elicitation,
        "read_dataset",
        lambda folder: SimpleNamespace(load=lambda _: tables[folder.name]),
    )
    draw = elicitation.Draw((Path("signal"), Path("background")), 40, range(5))
    used = np.arange(50, 250, dtype=np.uint64)  # of the 300 signal events, 100 are left
    pools = elicitation.draw_pools(draw, ("m_jj",), used)
    assert [(len(one), int(one.label.sum())) for one in pools] == [(40, 20)] * 5
    digests = np.concatenate([one.event_digest for one in pools])
    assert len(np.unique(digests)) == len(digests)
    assert not np.isin(digests, used).any()
    # Neither the background of the signal's dataset, nor the signal of the background's.
    assert ((digests >= 250) & (digests < 1300)).all()


def test_the_table_of_methods_counts_events_of_all_seeds(elicitation: ModuleType) -> None:
    def row(method: str, accuracy: float, **further: Any) -> dict[str, Any]:
        numbers = {"events": 50, "auc": 0.8, "predictions": 90, "collapsed": accuracy == 0.5}
        numbers["signal_share"] = accuracy / 2
        return {"method": method, "accuracy": accuracy, **numbers, **further}

    rows = [row("icm", one) for one in (0.5, 0.8, 0.9)]
    rows += [row("soft", 0.9, start_accuracy=0.7), row("soft", 0.6, start_accuracy=0.6)]
    _, _, icm, soft, *notes = elicitation.table_of(rows).splitlines()
    assert icm.startswith("| icm | 0.733 [")  # 110 of 150
    assert icm.endswith("| 0.800 (0.500 to 0.900) | 0.800 | 90 | 1 of 3 |")
    assert soft.startswith("| soft | 0.750 [")
    shares, other, note = [one for one in notes if one]
    assert shares == "icm calls 0.25 to 0.45 signal"
    assert other == "soft calls 0.30 to 0.45 signal"
    assert note == "soft above its start in 1 of 2 seeds, equal in 1; median start 0.650"


def test_the_gain_of_examples_is_over_the_same_signal_without(examples: ModuleType) -> None:
    alone, after = (0.6, 0.7, 0.8), (0.7, 0.8, 0.9)
    rows = [
        {"signal": signal, "method": "in context", "count": count, "auc": area}
        for count, areas in ((0, alone), (8, after))
        for signal, area in enumerate(areas)
    ]
    rows += [{"signal": 2, "method": "boosting", "count": 8, "auc": 0.75}]
    _, _, none, eight, boosting = examples.table_of(rows).splitlines()
    assert none == "| in context | 0 | 0.700 | +0.000 [+0.000, +0.000] | 0 of 3 |"
    assert eight == "| in context | 8 | 0.800 | +0.100 [+0.100, +0.100] | 3 of 3 |"
    assert boosting == "| boosting | 8 | 0.750 | -0.050 | 0 of 1 |"


def test_classifiers_of_few_examples_need_both_classes(
    examples: ModuleType, numbered_events: Made
) -> None:
    table, chosen = numbered_events(20, 20, 0), np.array([3, 4, 25, 26])
    taught = dict(examples._taught(table, chosen, np.array([0, 0, 1, 1]), 30))
    assert {name: scores.shape for name, scores in taught.items()} == {"logistic": (10,)}
    assert dict(examples._taught(table, chosen[:2], np.array([0, 0]), 30)) == {}
    assert dict(examples._taught(table, chosen[:0], np.zeros(0), 30)) == {}
