"""The study of weak supervision on CATHODE's features: what it divides, mixes and joins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.stats import t as student


@pytest.fixture(scope="module")
def study(load_tool: Callable[[str], ModuleType]) -> ModuleType:
    return load_tool("cathode_weak")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with CATHODE's columns: m_jj in TeV, four features, label."""
    generator = np.random.default_rng(1)
    rows = generator.random((4000, 6))
    rows[:, 0] = generator.uniform(3.3, 3.7, 4000)
    rows[:, 5] = np.arange(4000) >= 3000
    rows[rows[:, 5] == 1, 1] **= 4
    folder = tmp_path_factory.mktemp("cathode")
    np.save(folder / "innerdata_train.npy", rows)
    return folder


def test_events_are_tested_once_and_never_by_what_saw_them(study: ModuleType, source: Path) -> None:
    pool = study.read_pool(source)
    assert pool.background_m.min() >= 3300
    shares = [study.share_of(pool, study.Part(3, fold, 5)) for fold in range(5)]
    tested = np.concatenate([share.test for share in shares])
    np.testing.assert_array_equal(np.sort(tested), np.arange(3000))
    for share in shares:
        together = np.concatenate([share.test, share.data, share.template])
        np.testing.assert_array_equal(np.sort(together), np.arange(3000))
        for method in study.LEARNT:
            assert not np.isin(share.test, study.learnt_from(pool, method, share)).any()
        gap = pool.background_m[study.learnt_from(pool, "gap", share)]
        assert not ((gap >= 3400) & (gap < 3600)).any()
        assert not np.isin(study.learnt_from(pool, "half", share), share.data).any()


@pytest.mark.parametrize("method", ["idealised", "cwola", "supervised"])
def test_both_samples_weigh_the_same(study: ModuleType, source: Path, method: str) -> None:
    pool = study.read_pool(source)
    share = study.share_of(pool, study.Part(0, 0, 5))
    training = study.training_of(method, pool, share, np.arange(50), None)
    label, weight = training.label, training.weight
    assert weight[label == 1].sum() == pytest.approx(weight[label == 0].sum())


def test_the_efficiency_at_the_kth_background_event(study: ModuleType) -> None:
    eps_s = study.signal_above(np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.6, 0.9, 1.0]))
    np.testing.assert_allclose(eps_s, [0.5, 0.75, 1.0])


def test_a_small_run_goes_on_where_it_ended(
    study: ModuleType, source: Path, tmp_path: Path
) -> None:
    def run(fractions: str) -> list[dict[str, Any]]:
        words = ["run", str(source), str(tmp_path), "--methods", "idealised,cwola,search"]
        words += ["--fractions", fractions, "--injections", "1", "--members", "1"]
        result = CliRunner().invoke(study.main, [*words, "--folds", "2", "--each", "2"])
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in (tmp_path / "units.jsonl").read_text().splitlines()]

    first = run("0.05")
    assert len(first) == 6
    both = run("0.05,0.02")
    assert both[:6] == first
    assert len(both) == 12
    table = CliRunner().invoke(study.main, ["table", str(tmp_path), "--background", "3000"])
    assert table.output.count("| idealised |") == 2
    words = ["picture", str(tmp_path), str(tmp_path / "a.png"), "--background", "3000"]
    drawn = CliRunner().invoke(study.main, words)
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_injections_are_joined_at_equal_background_efficiency(study: ModuleType) -> None:
    curve = np.linspace(0.5, 0.6, 40)
    injections = [
        [{"eps_s": list(curve + shift), "fold": fold, "folds": 2}]
        for fold, shift in enumerate((0.0, 0.1))
    ]
    found = study.joined_maximum(injections, 1000)
    # Of both folds, 13 events in each are the first 25; the mean curve is 0.05 above the first.
    assert found.eps_b == pytest.approx(13 * 2 / 1000)
    assert found.sic == pytest.approx((curve[12] + 0.05) / np.sqrt(found.eps_b))
    # The jackknife of two is half of their difference, whose t has one degree of freedom.
    half = student.ppf(0.84, 1) * 0.05 / np.sqrt(found.eps_b)
    assert (found.low, found.high) == pytest.approx((found.sic - half, found.sic + half))


def test_an_interval_of_equal_maxima_is_students(study: ModuleType) -> None:
    values = np.random.default_rng(4).normal(5, 1, 10)
    low, high = study.jackknife_interval(np.stack([values, values - 9], axis=1))
    half = student.ppf(0.84, 9) * values.std(ddof=1) / np.sqrt(10)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert np.isnan(study.jackknife_interval(values[:1, np.newaxis])).all()


def test_the_strength_of_a_training(study: ModuleType) -> None:
    # 1,000 events in two folds: 250 of data and as many of template, which fluctuate by sqrt(500).
    assert study.strength_of("idealised", 0.1, 2, 1000) == pytest.approx(25 / np.sqrt(500))
    # All 500 are data, and a template twice as large adds half of their variance.
    assert study.strength_of("gap", 0.1, 2, 1000) == pytest.approx(50 / np.sqrt(750))
    assert np.isnan(study.strength_of("cwola", 0.1, 2, 1000))


def test_what_is_published_at_a_strength(study: ModuleType) -> None:
    variance = 59_618 + 59_618**2 / 136_429
    low, high = 191 / np.sqrt(variance), 382 / np.sqrt(variance)
    assert study.published_at("idealised", low) == pytest.approx(6.6)
    assert study.published_at("idealised", high) == pytest.approx(15.1)
    assert study.published_at("idealised", (low + high) / 2) == pytest.approx((6.6 + 15.1) / 2)
    assert np.isnan(study.published_at("idealised", 1.1 * high))
    assert np.isnan(study.published_at("cwola", 1.0))
