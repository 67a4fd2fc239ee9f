"""Studies of coverage: intervals against arithmetic, and truths that they find again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.special import expit, ndtr, ndtri
from scipy.stats import binom
from scipy.stats import t as student


@pytest.fixture(scope="module")
def pools(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("pool_coverage")


@pytest.fixture(scope="module")
def cathode(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("cathode_coverage")


def test_an_interval_over_pools_is_students_in_the_logit(pools: ModuleType) -> None:
    right = [20, 30, 40, 38]
    mean = 128.5 / 201
    error = np.std(np.array(right) / 50, ddof=1) / 2 / (mean * (1 - mean))
    reach = student.ppf(0.975, 3) * error
    expected = expit(np.log(mean / (1 - mean)) + np.array([-reach, reach]))
    assert pools.pool_interval(right, 50) == pytest.approx(tuple(expected))


def test_pools_that_agree_by_chance_are_not_surer_than_their_events(pools: ModuleType) -> None:
    low, high = pools.pool_interval([25] * 12, 50)
    of_events = pools.binomial_interval([25] * 12, 50)
    assert low < of_events[0] < of_events[1] < high
    assert binom.sf(299, 600, of_events[0]) == pytest.approx(0.025)
    low, high = pools.pool_interval([50] * 4, 50)  # all right
    assert 0.8 < low < high < 1


def test_pools_that_differ_need_an_interval_over_pools(pools: ModuleType) -> None:
    random = np.random.default_rng(3)
    held = np.array([pools.accuracy_trial(0.05, random) for _ in range(200)]).mean(axis=0)
    assert held[0] > 0.92
    assert held[1] < 0.8
    gains = pools.GAINS["normal"]
    held = np.array([pools.gain_trial(gains(random), random) for _ in range(200)]).mean(axis=0)
    assert held[0] > held[1] + 0.01


def test_the_tables_of_coverage_are_printed(pools: ModuleType) -> None:
    made = CliRunner().invoke(pools.main, ["--trials", "20"])
    assert made.exit_code == 0, made.output
    assert made.output.count("| 20 | ") == 7


def test_a_curve_of_two_parameters_is_fitted_again(cathode: ModuleType) -> None:
    eps_b = cathode.PASSING / 11_001
    found = cathode.fitted(ndtr(1.4 + 0.8 * ndtri(eps_b)), 11_000)
    np.testing.assert_allclose(found, [1.4, 0.8], atol=1e-6)


def test_a_world_without_scatter_has_the_curve_that_was_put_in(cathode: ModuleType) -> None:
    world = cathode.World(np.array([1.5, 1.0]), np.zeros((2, 2)), 11_923)
    random = np.random.default_rng(1)
    curves = world.draw(200, random)
    assert curves.shape == (200, cathode.DEEPEST - 2)  # three events in each of ten are 30 >= 25
    deeper = cathode.World(world.mean, world.covariance, world.n_background, 10)
    assert deeper.draw(1, random).shape == (1, cathode.DEEPEST)
    # SIC at the 100th background event; Phi(1.5 + z) is concave there by little.
    expected = ndtr(1.5 + ndtri(100 / 11_924)) / np.sqrt(100 / 11_923)
    assert curves[:, 97].mean() == pytest.approx(expected, rel=0.02)
    assert world.true_maximum(random, 1) >= expected * 0.98


def test_the_study_of_joined_injections_runs(cathode: ModuleType, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    world = cathode.World(np.array([1.2, 0.7]), np.diag([0.04, 0.004]), 11_923)
    lines = []
    for injection in range(10):
        fold = world.draw(1, random)[0] * np.sqrt(cathode.PASSING[2:] / 11_923)
        unit = {"method": "idealised", "fraction": 0.006, "injection": injection, "folds": 10}
        unit |= {"fold": injection, "members": 1, "partitions": 1}
        lines.append(json.dumps({**unit, "eps_s": [fold[0], fold[0], *fold]}))
    (tmp_path / "units.jsonl").write_text("\n".join(lines))
    words = ["--worlds", "1", "--trials", "30", "--background", "119230", "--batches", "1"]
    made = CliRunner().invoke(cathode.main, [str(tmp_path), *words])
    assert made.exit_code == 0, made.output
    assert "| Student, jackknife | 30 | " in made.output
    share = float(made.output.split("| Student, jackknife | 30 | ")[1].split(" ")[0])
    assert 0.4 < share < 0.95


@pytest.fixture(scope="module")
def evaluation(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("eval_coverage")


def test_the_true_auc_of_normal_distributions(
    evaluation: ModuleType, load_tool: Callable[[str], ModuleType]
) -> None:
    weak = next(one for one in load_tool("mixtures").CLASSIFIERS if one.name == "weak")
    assert evaluation.true_auc(weak) == pytest.approx(ndtr(1 / np.sqrt(2)), abs=1e-6)


def test_the_intervals_of_evaluations_are_counted(evaluation: ModuleType) -> None:
    made = CliRunner().invoke(evaluation.main, ["--trials", "3", "--replicas", "40"])
    assert made.exit_code == 0, made.output
    counts = [int(line.split("|")[2]) for line in made.output.splitlines() if "| AUC" in line]
    assert sum(counts) == 3
    assert "| median of 1,000 jets | 3 | " in made.output
