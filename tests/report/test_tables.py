"""Tables of an evaluation, as they are shown in the terminal."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from hepllm.config import EvaluationConfig
from hepllm.evaluation.assessment import evaluate_scores
from hepllm.evaluation.records import ResultsRecord
from hepllm.evaluation.scores import ScoreTable
from hepllm.evaluation.seeds import spread_over_runs
from hepllm.report.cells import score_cell
from hepllm.report.tables import cut_table, difference_table, result_table, spread_table
from hepllm.report.text import as_text

CONFIG = EvaluationConfig(bootstrap=100)


def table(n_signal: int, n_background: int, seed: int) -> ScoreTable:
    generator = np.random.default_rng(seed)
    label = np.repeat([1, 0], [n_signal, n_background])
    hidden = generator.normal(size=len(label)) + 2 * label
    scores = {name: hidden + generator.normal(size=len(label)) for name in ("llm", "boosting")}
    return ScoreTable(label, scores, {"nfa_permuted": generator.permutation(scores["llm"])})


def record(test: ScoreTable, validation: ScoreTable, config: EvaluationConfig) -> ResultsRecord:
    validation = dataclasses.replace(validation, ablations={})
    return evaluate_scores(test, validation, config, 3).record


@pytest.fixture(scope="module")
def results() -> ResultsRecord:
    return record(table(700, 1500, 1), table(800, 800, 2), CONFIG)


def test_the_table_shows_its_numbers(results: ResultsRecord) -> None:
    text = as_text(result_table(results))
    first, second, *_ = (line for line in text.splitlines() if line.startswith("llm   "))
    low, high = results.auc.interval or (0, 0)
    assert f"{results.auc.value:.3f} [{low:.3f}, {high:.3f}]" in first
    assert second.split()[4] == str(results.max_sic.n_background_passing)
    assert "N_s = 700 signal and N_b = 1500 background" in text
    assert "llm with part of its input destroyed:\n  nfa_permuted" in text
    assert f"{results.sic_ceiling:.1f}" in text
    assert f"{results.max_sic_in_sample.value:.2f} (N_b" in text
    assert "N_min = 10 background events" in text


def test_a_lower_bound_stands_where_too_little_background_passes() -> None:
    found = record(table(700, 300, 1), table(80, 80, 2), CONFIG)
    cell, sic = score_cell(found, "sic_at_0.1"), found.sic_at["0.1"]
    assert sic.value is None
    assert sic.lower_bound is not None
    assert cell.value == sic.lower_bound
    assert cell.text.startswith("> ")
    assert sic.lower_bound - 0.11 < float(cell.text.removeprefix("> ")) <= sic.lower_bound
    assert cell.note == f"N_b {sic.n_background_passing}"
    assert cell.text in as_text(result_table(found))


def test_the_maxima_of_papers_have_their_columns_and_the_validation_its_numbers(
    results: ResultsRecord,
) -> None:
    shown = result_table(results)
    assert list(shown.heads[-2:]) == ["max, OmniLearn", "max, CATHODE"]
    cells = shown.groups[0].rows[0].cells[-2:]
    assert [cell.value for cell in cells] == [
        results.max_sic_omnilearn.value,
        results.max_sic_cathode.value,
    ]
    assert cells[1].note == f"N_b {results.max_sic_cathode.n_background_passing}"
    assert "validation data (N_s = 800 and N_b = 800)" in as_text(shown).replace("\n", " ")


def test_differences_have_their_signs(results: ResultsRecord) -> None:
    shown = difference_table(results)
    assert shown is not None
    cell = shown.groups[0].rows[1].cells[0]
    found = results.paired["nfa_permuted"].auc
    assert cell.value == found.estimate
    assert cell.text == f"{found.estimate:+.3f}"
    assert cell.interval == f"[{found.low:+.3f}, {found.high:+.3f}]"


@pytest.mark.parametrize(
    ("n_signal", "n_background"), [(0, 50), (50, 0), (1, 1), (3, 5), (40, 12), (0, 0)]
)
def test_missing_numbers_have_reasons(n_signal: int, n_background: int) -> None:
    found = record(table(n_signal, n_background, 1), table(800, 800, 2), CONFIG)
    text = as_text(result_table(found))
    assert any(sign in f"{as_text(cut_table(found))}\n{text}" for sign in ("-:", "-a:", " > "))
    if 0 in (n_signal, n_background):
        missing = "background" if n_signal else "signal"
        assert f"no metrics: no {missing} events" in text


def test_without_a_cut_there_is_no_confusion_table() -> None:
    generator = np.random.default_rng(1)
    only = {name: generator.normal(size=30) for name in ("llm", "boosting")}
    found = record(table(300, 600, 1), ScoreTable(np.ones(30, dtype=int), only), CONFIG)
    assert "No confusion table: validation data: no background events." in as_text(cut_table(found))


@pytest.mark.parametrize("rule", ["events", "relative_error", "eps_b", "cathode"])
def test_the_rule_for_a_minimum_of_background_is_told(rule: str) -> None:
    config = EvaluationConfig(background_rule=rule, bootstrap=5, min_eps_b=2e-3)
    found = record(table(400, 2000, 1), table(400, 2000, 2), config)
    assert f"N_min = {found.min_background} background events" in as_text(result_table(found))


def test_an_undefined_interval_has_its_reason() -> None:
    config = EvaluationConfig(bootstrap=200, min_background=1, max_undefined=0.0)
    text = as_text(result_table(record(table(300, 300, 1), table(300, 300, 2), config)))
    assert "[-" in text
    assert "replicas" in text.partition("can show no SIC above")[2]


def test_several_runs_are_shown_as_medians() -> None:
    made = [record(table(300, 900, seed), table(300, 900, 99), CONFIG) for seed in range(3)]
    text = as_text(spread_table("test", spread_over_runs(made), 3))
    values = [one.baselines["boosting"].auc.value for one in made]
    assert f"{np.median(np.array(values, dtype=float)):.4f}" in text
    assert text.startswith("Median of 3 runs on test, with the band [16 %, 84 %]")
