"""The BumpHunter statistic: pyBumpHunter's, ours for batches, and plain Poisson sums."""

from __future__ import annotations

import numpy as np
import pytest
from pyBumpHunter import BumpHunter1D
from scipy.stats import poisson

from hepllm.search.scan import Windows, scan_batch, scan_data

WINDOWS = Windows(2, 6)
EXPECTED = 200 * np.exp(-np.arange(30) / 5.0)
EDGES = np.geomspace(2600, 8000, 31)


def test_batch_agrees_with_the_library(capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(1)
    counts = random.poisson(EXPECTED, (200, 30)).astype(float)
    factors = random.uniform(0.7, 1.3, (200, 1))
    found = scan_batch(counts, EXPECTED * factors, WINDOWS)
    for row, spectrum in enumerate(counts):
        bump = scan_data(spectrum, EXPECTED * factors[row], EDGES, WINDOWS)
        assert -np.log(bump.local_p) == pytest.approx(found.statistic[row], abs=1e-9)
        if found.statistic[row] > 0:
            assert (bump.start, bump.width) == (found.start[row], found.width[row])
    assert capsys.readouterr().out == ""


def test_library_would_not_refit() -> None:
    """Why the pseudo-experiments are our own: its reference is one fixed histogram."""
    hunter = BumpHunter1D(
        rang=[EDGES[0], EDGES[-1]], bins=EDGES, width_min=2, width_max=6, npe=5, nworker=1, seed=1
    )
    hunter.bump_scan(EXPECTED.round(), EXPECTED, is_hist=True)
    np.random.seed(1)  # noqa: NPY002 (as the library does)
    toys = np.random.poisson(EXPECTED[:, None], (30, 5)).T  # noqa: NPY002
    ours = scan_batch(toys.astype(float), np.broadcast_to(EXPECTED, toys.shape), WINDOWS)
    np.testing.assert_allclose(-np.log(hunter.min_Pval_ar[1:]), ours.statistic)


def test_statistic_is_the_least_poisson_probability() -> None:
    counts = np.random.default_rng(2).poisson(EXPECTED).astype(float)
    best = 1.0
    for width in range(2, 7):
        for start in range(30 - width + 1):
            seen, known = counts[start : start + width].sum(), EXPECTED[start : start + width].sum()
            if seen > known:
                best = min(best, float(poisson.sf(seen - 1, known)))
    found = scan_batch(counts[None], EXPECTED[None], WINDOWS)
    assert np.exp(-found.statistic[0]) == pytest.approx(best, rel=1e-9)


def test_deficit_is_no_bump() -> None:
    found = scan_batch(0.5 * EXPECTED[None], EXPECTED[None], WINDOWS)
    assert found.statistic[0] == 0


@pytest.mark.parametrize("n_signal", [300, 3000, 30_000])
def test_injected_bump_is_located_even_where_probabilities_underflow(n_signal: int) -> None:
    counts = EXPECTED.round()
    counts[12:15] += n_signal
    found = scan_batch(counts[None], EXPECTED[None], WINDOWS)
    assert (found.start[0], found.width[0]) == (12, 3)
    assert np.isfinite(found.statistic[0])
    bump = scan_data(counts, EXPECTED, EDGES, WINDOWS)
    assert (bump.start, bump.width) == (12, 3)
    assert bump.n_observed == counts[12:15].sum()
    assert bump.n_expected == pytest.approx(EXPECTED[12:15].sum())


def test_statistic_has_no_jump_where_probabilities_underflow() -> None:
    expected = np.full((4000, 2), 50.0)
    counts = np.stack([np.arange(4000.0), np.zeros(4000)], axis=1) + 100
    statistic = scan_batch(counts, expected, Windows(2, 2)).statistic
    steps = np.diff(statistic)
    assert (steps > 0).all()
    assert steps.max() < 10


def test_global_random_state_is_left_alone() -> None:
    np.random.seed(7)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    scan_data(EXPECTED.round(), EXPECTED, EDGES, WINDOWS)
    np.testing.assert_array_equal(np.random.random(3), expected)  # noqa: NPY002
