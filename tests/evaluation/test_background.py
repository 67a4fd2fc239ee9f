"""The rules for a minimum of background: what each asks for, and that it is what happens."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from hepllm.config import EvaluationConfig
from hepllm.evaluation.assessment import evaluate_scores
from hepllm.evaluation.background import describe_rule, required_background
from hepllm.evaluation.scores import ScoreTable


@pytest.mark.parametrize(
    ("rule", "changes", "n_background", "expected"),
    [
        ("events", {}, 1000, 10),
        ("events", {"min_background": 3}, 1000, 3),
        ("relative_error", {}, 1000, 25),
        ("relative_error", {"max_relative_error": 0.1}, 1000, 100),
        ("relative_error", {"max_relative_error": 0.3}, 1000, 12),
        ("eps_b", {}, 1_000_000, 101),
        ("eps_b", {}, 99_999, 10),
        ("eps_b", {}, 5000, 1),
        ("eps_b", {"min_eps_b": 0.1}, 50, 6),
        ("cathode", {}, 1_000_000, 1),
    ],
)
def test_rule_as_a_number_of_events(
    rule: str, changes: dict[str, float], n_background: int, expected: int
) -> None:
    config = EvaluationConfig(background_rule=rule, **changes)
    assert required_background(config, n_background) == expected
    assert f"N_min = {expected} " in describe_rule(config, n_background)


@pytest.mark.parametrize("n_background", [10, 999, 12_345])
def test_relative_error_and_eps_b_hold_at_the_minimum_and_not_below(n_background: int) -> None:
    relative = required_background(EvaluationConfig(background_rule="relative_error"), n_background)
    assert 1 / np.sqrt(relative) <= 0.2 < 1 / np.sqrt(relative - 1)
    config = EvaluationConfig(background_rule="eps_b", min_eps_b=0.01)
    n_min = required_background(config, n_background)
    assert n_min / n_background > 0.01 >= (n_min - 1) / n_background


def gaussians(n_signal: int, n_background: int, seed: int) -> ScoreTable:
    generator = np.random.default_rng(seed)
    label = np.repeat([1, 0], [n_signal, n_background])
    return ScoreTable(label, {"llm": generator.normal(size=len(label)) + 2.0 * label})


@pytest.mark.parametrize("rule", ["events", "relative_error", "eps_b", "cathode"])
def test_every_quoted_sic_keeps_the_minimum_and_prints_it(rule: str) -> None:
    config = EvaluationConfig(background_rule=rule, bootstrap=20, min_eps_b=2e-3)
    test, validation = gaussians(4000, 20_000, 1), gaussians(4000, 20_000, 2)
    found = evaluate_scores(test, validation, config, 1).record
    n_min = required_background(config, 20_000)
    assert found.min_background == n_min
    assert found.sic_ceiling == pytest.approx(np.sqrt(20_000 / n_min))
    best = found.max_sic_in_sample
    assert best.n_background_passing is not None
    assert best.n_background_passing >= n_min
    assert found.sic_at["0.5"].value == pytest.approx(0.5 / np.sqrt(norm.sf(2.0)), rel=0.1)


def test_a_stricter_rule_allows_no_larger_maximum() -> None:
    test, validation = gaussians(4000, 20_000, 1), gaussians(4000, 20_000, 2)
    found = [
        evaluate_scores(
            test, validation, EvaluationConfig(background_rule=rule, bootstrap=5), 1
        ).record.max_sic_in_sample.value
        for rule in ("cathode", "events", "relative_error")
    ]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]
