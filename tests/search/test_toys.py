"""Global p-values: formula, trials, reproducibility, flatness without a signal."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.stats import kstest

from hepllm.search import toys
from hepllm.search.scan import Windows
from hepllm.search.smooth import Method, smooth_background
from hepllm.search.spectra import bin_edges
from hepllm.search.toys import (
    NullHypothesis,
    Outcome,
    PValue,
    examine,
    global_p_value,
    goodness_outside,
    null_hypothesis,
    run_block,
    throw,
)

EDGES = bin_edges(2600, 8000, 0.05)


def _truth(
    method: Method = "template", n_events: float = 15_000, shares: tuple[float, ...] = (0.01, 0.003)
) -> NullHypothesis:
    background = smooth_background(EDGES, Windows(1, 4), method, 0.05, 13000)
    centre = np.sqrt(EDGES[1:] * EDGES[:-1])
    before = (1 - centre / 13000) ** 8 * centre**-5.0 * np.diff(EDGES)
    before *= n_events / before.sum()
    after = before * centre**2
    selected = np.array([share * n_events * after / after.sum() for share in shares])
    return NullHypothesis(background, before - selected[0], selected)


def _p_value(truth: NullHypothesis, n_toys: int, seed: int) -> float:
    fits, outcome = examine(truth.background, *throw(truth, 1, np.random.default_rng([seed, 9])))
    null = null_hypothesis(truth.background, fits)
    return global_p_value(null, outcome, seed=seed, n_toys=n_toys, max_toys=n_toys).overall.value


def _outcome(statistic: list[float]) -> Outcome:
    zeros = np.zeros((1, len(statistic)))
    return Outcome(np.array([statistic]), zeros, np.zeros(1), np.zeros(1, dtype=bool))


@pytest.mark.parametrize(("k", "n", "p"), [(0, 9999, 1e-4), (10_000, 10_000, 1.0), (4, 99, 0.05)])
def test_p_value_counts_the_data_among_the_toys(k: int, n: int, p: float) -> None:
    assert PValue(k, n).value == pytest.approx(p)


def test_significance_is_one_sided() -> None:
    assert PValue(0, 740).significance == pytest.approx(3.0, abs=0.01)


def test_a_p_value_of_1_has_no_significance() -> None:
    assert PValue(1000, 1000).significance is None
    assert PValue(999, 1000).significance == pytest.approx(-3.09, abs=0.01)


def test_toys_of_a_tighter_selection_are_among_those_of_a_looser_one() -> None:
    truth = _truth()
    rejected, (loose, tight) = throw(truth, 2000, np.random.default_rng(1))
    assert (tight <= loose).all()
    drawn = (rejected, loose, tight)
    for counts, expected in zip(drawn, (truth.rejected, *truth.selected), strict=True):
        pull = (counts.mean(axis=0) - expected) / np.sqrt(expected / len(counts))
        assert np.abs(pull).max() < 4.5


def test_a_bump_is_left_out_of_the_fit_around_it() -> None:
    truth = _truth()
    basis, offset = truth.background.factor[:, :2], np.log(truth.rejected)
    random = np.random.default_rng(7)
    away = np.abs(np.arange(len(EDGES) - 1) - 8) > 3
    values = []
    for _ in range(40):
        counts = random.poisson(truth.selected[0]).astype(float)
        counts[8] += 100
        found = goodness_outside(counts, basis, offset, away, 1)
        assert found is not None
        values.append(found.value)
    assert kstest(values, "uniform").pvalue > 0.001
    wavy = truth.selected[0] * np.where(np.arange(len(away)) % 4 < 2, 2.0, 0.3)
    assert (bad := goodness_outside(wavy.round(), basis, offset, away, 1)) is not None
    assert bad.value < 0.01
    few = np.arange(len(away)) < 4
    assert goodness_outside(counts, basis, offset, few, 1) is None


def test_several_selections_count_as_trials() -> None:
    truth = _truth()
    block = run_block(truth, 1, 0)
    # As extreme as one toy in a hundred in the first selection, nothing in the second.
    level = float(np.sort(block.statistic[:, 0])[-10])
    result = global_p_value(truth, _outcome([level, 0.0]), seed=1, n_toys=1000, max_toys=1000)
    assert result.by_selection[0].n_exceeding == 10
    expected = int((block.statistic.max(axis=1) >= level).sum())
    assert result.overall.n_exceeding == expected > 10
    assert expected <= 10 + (block.statistic[:, 1] >= level).sum()


def test_number_of_toys_grows_only_where_the_data_are_extreme() -> None:
    truth = _truth()
    usual = global_p_value(truth, _outcome([2.0, 2.0]), seed=1, n_toys=1000, max_toys=3000)
    assert usual.overall.n_toys == 1000
    extreme = global_p_value(truth, _outcome([80.0, 0.0]), seed=1, n_toys=1000, max_toys=3000)
    assert extreme.overall == PValue(0, 3000)
    # Only where they cannot count it is the p-value extrapolated.
    assert usual.rare is None
    assert extreme.rare is not None
    assert extreme.rare.value < 1e-9


def test_blocks_depend_on_seed_and_number_alone() -> None:
    truth = _truth()
    again, other = run_block(truth, 1, 3), run_block(truth, 1, 4)
    np.testing.assert_array_equal(run_block(truth, 1, 3).statistic, again.statistic)
    assert (again.statistic != other.statistic).any()


def test_workers_do_not_change_the_result() -> None:
    truth, data = _truth(), _outcome([4.0, 4.0])
    ask = partial(global_p_value, truth, data, seed=5, n_toys=2000, max_toys=2000)
    assert ask(workers=1) == ask(workers=2)


def test_toys_whose_fit_fails_count_as_extreme(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = _truth()

    def block(*_: object) -> Outcome:
        failed = np.arange(1000) < 30
        return Outcome(np.zeros((1000, 1)), np.zeros((1000, 1)), np.zeros(1000), failed)

    monkeypatch.setattr(toys, "run_block", block)
    result = global_p_value(truth, _outcome([50.0]), seed=1, n_toys=1000, max_toys=1000)
    assert result.n_failed == result.overall.n_exceeding == 30
    assert result.by_selection[0].n_exceeding == 30


def test_toys_whose_fit_fails_do_not_hide_a_bad_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def block(*_: object) -> Outcome:
        failed = np.arange(1000) < 30
        deviance = np.where(failed, 1e6, np.arange(1000) / 10)
        return Outcome(np.zeros((1000, 1)), deviance[:, None], deviance, failed)

    monkeypatch.setattr(toys, "run_block", block)
    data = Outcome(np.zeros((1, 1)), np.full((1, 1), 99.6), np.array([200.0]), np.array([False]))
    result = global_p_value(_truth(), data, seed=1, n_toys=1000, max_toys=1000)
    assert result.goodness[0] == PValue(4, 1000)
    assert result.rejected_goodness == PValue(0, 1000)


def test_background_is_fitted_again_in_each_toy() -> None:
    truth = _truth()
    rejected, selected = throw(truth, 200, np.random.default_rng(3))
    fits, outcome = examine(truth.background, rejected, selected)
    assert not outcome.failed.any()
    for counts, fitted in zip(selected, fits.selected, strict=True):
        # A fit with a free normalisation has as many events as its spectrum.
        np.testing.assert_allclose(fitted.expected.sum(axis=1), counts.sum(axis=1), rtol=1e-4)


def test_few_p_values_without_signal_are_small() -> None:
    truth = _truth(shares=(0.01,))
    values = np.array([_p_value(truth, 1000, seed) for seed in range(40)])
    # Binomial(40, 0.05): more than 7 has a probability of 0.0007.
    assert (values <= 0.05).sum() <= 7
    assert (values > 0.5).any()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["template", "dijet"])
def test_p_values_are_flat_without_signal(method: Method) -> None:
    truth = _truth(method)
    values = np.array([_p_value(truth, 1000, seed) for seed in range(1000)])
    assert kstest(values, "uniform").pvalue > 0.01
