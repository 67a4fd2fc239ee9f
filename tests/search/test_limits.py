"""Upper limits: against counting experiments, and their coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import poisson

from hepllm.search.limits import PeakSearch, limits_by_toys
from hepllm.search.peakfit import fit_with_peak
from hepllm.search.poisson import fit
from hepllm.search.resonance import peak
from hepllm.search.scan import Windows
from hepllm.search.smooth import smooth_background
from hepllm.search.spectra import bin_edges

EDGES = bin_edges(2600, 8000, 0.05)
CENTRES = np.sqrt(EDGES[1:] * EDGES[:-1])
TEMPLATE = (1 - CENTRES / 13000) ** 8 * CENTRES**-5 * np.diff(EDGES)
FACTOR = smooth_background(EDGES, Windows(1, 4), "template", 0.05, 13000).factor[:, :2]
OFFSET = np.log(TEMPLATE)


def _counting(n_seen: int, background: float) -> PeakSearch:
    """A bin with a known background; the only parameter belongs to another bin."""
    expected = np.array([100.0, background, 100.0])
    counts = np.array([100.0, n_seen, 100.0])
    shape, basis = np.array([0.0, 1.0, 0.0]), np.array([[1.0], [0.0], [0.0]])
    return PeakSearch(counts, shape, basis, np.log(expected))


@pytest.mark.parametrize(
    ("n_seen", "background"), [(0, 1e-6), (0, 2.1), (3, 2.1), (6, 2.1), (45, 50.0), (60, 50.0)]
)
def test_limit_is_that_of_a_counting_experiment(n_seen: int, background: float) -> None:
    def excess(size: float) -> float:
        both = poisson.cdf(n_seen, background + size)
        return float(both / poisson.cdf(n_seen, background) - 0.05)

    search = _counting(n_seen, background)
    observed, median, low, high = limits_by_toys(search, np.random.default_rng(1), 2000)
    assert observed == pytest.approx(brentq(excess, 0.1, 200), rel=0.08)
    assert low <= median <= high


def test_asymptotic_limit_holds_for_many_events() -> None:
    # For n = b and Gaussian counts CLs = 2 (1 - Phi(s / sigma)), so that s = 1.96 sigma.
    observed, expected = _counting(10_000, 10_000.0).asymptotic_limits()
    assert observed == pytest.approx(196, rel=0.02)
    assert expected == pytest.approx(observed, rel=1e-3)


def test_fit_without_peak_is_the_smooth_one() -> None:
    random = np.random.default_rng(2)
    counts = random.poisson(300 * TEMPLATE / TEMPLATE.sum(), (50, len(TEMPLATE))).astype(float)
    shape = peak(EDGES, 4000, 0.036)
    smooth = fit(counts, FACTOR, OFFSET)
    found = fit_with_peak(counts, shape, FACTOR, OFFSET, 0.0)
    np.testing.assert_allclose(found.deviance, smooth.deviance, atol=1e-4)
    np.testing.assert_allclose(found.expected, smooth.expected, rtol=1e-2, atol=1e-3)
    free = fit_with_peak(counts, shape, FACTOR, OFFSET, None)
    assert (free.size >= 0).all()
    assert (free.deviance <= found.deviance + 1e-6).all()
    for size in (1.0, 5.0, 20.0):
        fixed = fit_with_peak(counts, shape, FACTOR, OFFSET, size)
        assert (fixed.size == size).all()
        assert (free.deviance <= fixed.deviance + 1e-4).all()


def test_fit_finds_the_peak() -> None:
    shape = peak(EDGES, 4000, 0.036)
    expected = 300 * TEMPLATE / TEMPLATE.sum() + 40 * shape
    found = fit_with_peak(expected[None], shape, FACTOR, OFFSET, None)
    assert found.size[0] == pytest.approx(40, rel=1e-3)
    assert found.deviance[0] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("size", [4.0, 15.0])
def test_limits_cover_what_is_there(size: float) -> None:
    random = np.random.default_rng(int(size))
    shape = peak(EDGES, 4000, 0.036)
    expected = 200 * TEMPLATE / TEMPLATE.sum() + size * shape
    n_spectra = 60
    covered = 0
    for counts in random.poisson(expected, (n_spectra, len(expected))).astype(float):
        search = PeakSearch(counts, shape, FACTOR, OFFSET)
        covered += int(search.log_cls(np.array([size]), random, 150)[0, 0] > np.log(0.05))
    # 95 % less three standard deviations of 60 spectra; a limit that is always high is no limit.
    assert covered >= 0.95 * n_spectra - 3 * np.sqrt(0.05 * 0.95 * n_spectra)
    assert covered < n_spectra or size < 10


def test_data_below_all_spectra_keep_a_limit() -> None:
    """Where the background is not described CLs would be 0 / 0."""
    counts = 100 * TEMPLATE / TEMPLATE.sum()
    counts[:4] += 40
    counts[6:12] = 0
    search = PeakSearch(counts.round(), peak(EDGES, 4000, 0.036), FACTOR, OFFSET)
    observed, _, low, _ = limits_by_toys(search, np.random.default_rng(3), 1000)
    assert 2 < observed < 100
    assert observed < 1.5 * low
