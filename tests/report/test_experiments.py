"""The table of a suite: what failed and what is missing is in it; CSV has exact numbers."""

from __future__ import annotations

import csv
import io

import pytest

from hepllm.config.suites import suite_from_tree
from hepllm.evaluation.experiment_records import (
    PER_CLASS,
    ExperimentResult,
    MeasuredSet,
    SuiteRecord,
)
from hepllm.evaluation.suite_summary import summarise
from hepllm.report.experiments import as_csv, suite_page
from hepllm.report.html import as_html
from hepllm.report.markdown import as_markdown
from hepllm.report.text import as_text

VALUES = {"plain": {1: 0.91, 2: 0.93, 3: 0.92}, "wide": {1: 0.921, 3: 0.933}}


def record(seeds: int = 3) -> SuiteRecord:
    names = ["plain", "wide", "broken"]
    tree = {"name": "any", "experiments": dict.fromkeys(names), "metrics": ["auc", "sic_at_0.3"]}
    suite = suite_from_tree({**tree, "seeds": seeds}, "suite")
    results = [
        ExperimentResult(
            name=name,
            dataset="rnd",
            seed=seed,
            seconds=1,
            made_for="",
            sets={
                "rnd-test": MeasuredSet(
                    n_signal=5,
                    n_background=6,
                    metrics={"auc": auc, "sic_at_0.3": None, **dict.fromkeys(PER_CLASS, 0.5)},
                    undefined={"sic_at_0.3": "too little background"},
                )
            },
        )
        for name, found in VALUES.items()
        for seed, auc in found.items()
        if seed <= seeds
    ]
    states = {
        name: {
            f"rnd/seed-{seed}": "done" if seed in VALUES.get(name, {}) else "failed"
            for seed in suite.seeds
        }
        for name in names
    }
    states["broken"]["rnd/seed-1"] = "to run"
    return summarise(suite, states, results, {"broken/rnd/seed-2": "a <wrong> setting"})


@pytest.mark.parametrize("render", [as_markdown, as_html, as_text])
def test_failed_and_missing_ones_are_shown(render: object) -> None:
    assert callable(render)
    text = render(suite_page(record(), {}))
    assert "5 done" in text
    assert "3 failed" in text
    assert "1 to run" in text
    assert "broken/rnd/seed-2" in text
    assert "wrong" in text
    assert "2 of 3" in text
    assert "0 of 3" in text
    assert "no seed is done" in text
    assert "too little background" in text
    assert "[0.8952, 0.9448]" in text


def test_equal_records_give_equal_bytes() -> None:
    for render in (as_markdown, as_html):
        assert render(suite_page(record(), {})) == render(suite_page(record(), {}))


def test_the_csv_has_each_experiment_and_exact_numbers() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(record()))))
    by_key = {(row["experiment"], row["metric"]): row for row in rows}
    plain = by_key["plain", "auc"]
    assert float(plain["mean"]) == (0.91 + 0.93 + 0.92) / 3
    assert plain["values"] == "1:0.91 2:0.93 3:0.92"
    assert by_key["wide", "auc"]["n_pairs"] == "2"
    assert float(by_key["wide", "auc"]["difference"]) == pytest.approx(0.012)
    assert by_key["plain", "sic_at_0.3"]["reason"].startswith("no value in 3 of 3 seeds")
    broken = by_key["broken", ""]
    assert (broken["seeds_failed"], broken["seeds_to_run"]) == ("2", "1")
    assert broken["reason"] == "no seed is done"


def test_one_seed_has_no_interval_and_no_power() -> None:
    found = record(seeds=1)
    assert found.sets[0].power == {}
    assert found.n_tests == 0
    assert "one seed has no interval" in as_markdown(suite_page(found, {}))
