"""The study of few labels: which events and trainings it has, its bands and its picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hepllm.data.event_table import EventTable

Made = Callable[[int, int, int], EventTable]


@pytest.fixture(scope="module")
def study(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("few_labels")


@pytest.fixture(scope="module")
def tables(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("few_labels_tables")


def test_labelled_calibrated_and_unlabelled_events_are_others(
    study: ModuleType, numbered_events: Made
) -> None:
    events = study.Events(numbered_events(4000, 300, 0), numbered_events(100, 100, 5000))
    given = study.draw(events, None, 32, seed=4)
    digests = [one.event_digest for one in (given.labelled, given.validation, given.pool)]
    assert len(np.unique(np.concatenate(digests))) == sum(map(len, digests))
    assert [int(one.label.sum()) for one in (given.labelled, given.validation)] == [16, 16]
    assert given.pool.label.mean() == pytest.approx(study.PRIOR, abs=0.01)
    again = study.draw(events, None, 32, seed=4)
    np.testing.assert_array_equal(again.pool.event_digest, given.pool.event_digest)


def test_the_language_model_has_all_labels_and_seeds_and_one_test(
    study: ModuleType, numbered_events: Made
) -> None:
    planned = [one for one in study.jobs(5, False) if one.method == study.MODEL]
    assert {(one.n_labels, one.seed) for one in planned} == {
        (n_labels, seed) for n_labels in study.LABELS for seed in range(1, 6)
    }
    assert [one.n_labels for one in planned[:10]] == [*study.MODEL_FIRST] * 5
    test = numbered_events(4000, 3500, 0)
    part = study.part_of(test)
    assert (len(part), part.label.mean()) == (study.MODEL_TEST, 0.5)
    np.testing.assert_array_equal(part.event_digest, study.part_of(test).event_digest)


def test_bands_are_the_range_of_three_seeds_and_else_the_central_ones(tables: ModuleType) -> None:
    assert tables.band([0.7, 0.9, 0.8]) == pytest.approx((0.7, 0.8, 0.9))
    low, middle, high = tables.band(np.linspace(0, 1, 101).tolist())
    assert (low, middle, high) == pytest.approx((0.16, 0.5, 0.84))


def test_gains_are_those_of_pairs_of_seeds(tables: ModuleType) -> None:
    """Ratios of 1/2 and 1/8 have a mean of 1/4; a seed without a partner does not count."""
    auc = {("supervised", 1): (0.8, 0.2), ("supervised", 2): (0.6, 0.4)}
    auc |= {("mixture", 1): (0.9, 0.1), ("mixture", 2): (0.5, 0.05), ("mixture", 3): (0.1, 0.9)}
    results = [
        {"job": {"method": method, "n_labels": 8, "seed": seed}, "auc": value, "eps_b": eps_b}
        for (method, seed), (value, eps_b) in auc.items()
    ]
    (row,) = tables.pairs(results[2:], results[:2])[2:]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[:5] == ["adapter + risk, mixture", "8", "2", "+0.000 ± 0.100", "1"]
    assert cells[5].startswith("0.25 [")


def test_several_files_make_one_table_and_picture(
    tables: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = []
    for method in ("supervised", "model", "self-middle"):
        rows = [
            {
                "job": {"part": "labels", "method": method, "n_labels": n_labels, "seed": seed},
                "auc": 0.8 + seed / 100,
                "eps_b": 0.1,
            }
            for n_labels in (8, 32)
            for seed in (1, 2, 3)
        ]
        files.append(tmp_path / f"{method}.jsonl")
        files[-1].write_text("".join(json.dumps(row) + "\n" for row in rows))
    picture = tmp_path / "few.png"
    command = ["few_labels_tables.py", *map(str, files), "--picture", str(picture)]
    monkeypatch.setattr("sys.argv", command)
    tables.main()
    printed = capsys.readouterr().out
    assert "| language model, labels alone | 0.820 [0.810, 0.830] (3) |" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")
