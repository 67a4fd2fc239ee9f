"""Upper limits: against counting experiments, and their coverage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm, poisson

from hepllm.config import SearchConfig
from hepllm.search.box import BoxEvents, SearchResult
from hepllm.search.cls import QUANTILES, PeakTest, PseudoExperiments
from hepllm.search.hunt import search
from hepllm.search.limit_model import (
    FittedSelections,
    expected_outside,
    near_bins,
    shape_variations,
)
from hepllm.search.limit_records import UpperLimit
from hepllm.search.limits import limit_masses, upper_limits
from hepllm.search.measurements import SignalEfficiency
from hepllm.search.peak_shape import PeakShape
from hepllm.search.peakfit import PeakModel, fit_peaks
from hepllm.search.poisson import fit
from hepllm.search.scan import Windows
from hepllm.search.signal_grid import factors_of
from hepllm.search.smooth import smooth_background
from hepllm.search.spectra import BoxSpectra, bin_edges

EDGES = bin_edges(2600, 8000, 0.05)
CENTRES = np.sqrt(EDGES[1:] * EDGES[:-1])
TEMPLATE = (1 - CENTRES / 13000) ** 8 * CENTRES**-5 * np.diff(EDGES)
BACKGROUND = smooth_background(EDGES, Windows(1, 4), "template", 0.05, 13000)
FACTOR = BACKGROUND.factor[:, :2]
OFFSET = np.log(TEMPLATE)
PEAK = PeakShape.shipped()
MASS = 4000.0
SHAPE = PEAK.shares(EDGES, MASS) / PEAK.shares(EDGES, MASS).sum()
MODEL = PeakModel(SHAPE[None], FACTOR, OFFSET)
LOG_LEVEL = np.log(0.05)


def _efficiency(value: float, error: float) -> SignalEfficiency:
    low, high = value - error, value + error
    return SignalEfficiency(value=value, low=low, high=high, n_events=400, of="simulation")


def _counting(n_seen: int, background: float) -> PeakTest:
    """A bin with a known background; the only parameter belongs to another bin."""
    expected = np.array([100.0, background, 100.0])
    counts = np.array([100.0, n_seen, 100.0])
    shape, basis = np.array([0.0, 1.0, 0.0]), np.array([[1.0], [0.0], [0.0]])
    return PeakTest.of(counts, shape, basis, np.log(expected))


@pytest.mark.parametrize(
    ("n_seen", "background"), [(0, 1e-6), (0, 2.1), (3, 2.1), (6, 2.1), (45, 50.0), (60, 50.0)]
)
def test_limit_is_that_of_a_counting_experiment(n_seen: int, background: float) -> None:
    def excess(size: float) -> float:
        both = poisson.cdf(n_seen, background + size)
        return float(both / poisson.cdf(n_seen, background) - 0.05)

    found, _ = _counting(n_seen, background).limits(np.random.default_rng(1), 2000)
    assert found.observed == pytest.approx(brentq(excess, 0.1, 200), rel=0.06)
    assert list(found.expected) == sorted(found.expected)


def test_empty_spectra_give_three_events() -> None:
    test = PeakTest.of(np.zeros(len(SHAPE)), SHAPE, FACTOR, OFFSET)
    found, in_box = test.limits(np.random.default_rng(1), 1000)
    assert found.observed == pytest.approx(-np.log(0.05), rel=0.05)
    assert found.expected == pytest.approx([-np.log(0.05)] * 5, rel=0.05)
    assert in_box == found


def test_asymptotic_limit_holds_for_many_events() -> None:
    # For n = b and Gaussian counts CLs = 2 (1 - Phi(s / sigma)), so that s = 1.96 sigma.
    test = _counting(10_000, 10_000.0)
    observed, expected = test.asymptotic_limits()
    assert observed == pytest.approx(196, rel=0.02)
    assert expected == pytest.approx(observed, rel=1e-3)
    found, _ = test.limits(np.random.default_rng(1), 1000)
    assert found.observed == pytest.approx(observed, rel=0.05)
    # Equation 89 of arXiv:1007.1727, with CLs.
    n_sigma = norm.ppf(QUANTILES)
    bands = 100 * (norm.ppf(1 - 0.05 * norm.cdf(n_sigma)) + n_sigma)
    assert found.expected == pytest.approx(bands, rel=0.06)


def test_fit_without_peak_is_the_smooth_one() -> None:
    random = np.random.default_rng(2)
    counts = random.poisson(300 * TEMPLATE / TEMPLATE.sum(), (50, len(TEMPLATE))).astype(float)
    smooth = fit(counts, FACTOR, OFFSET)
    found = fit_peaks(MODEL, counts, 0.0)
    np.testing.assert_allclose(found.deviance, smooth.deviance, atol=1e-4)
    np.testing.assert_allclose(found.expected, smooth.expected, rtol=1e-2, atol=1e-3)
    free = fit_peaks(MODEL, counts, None)
    assert (free.size >= 0).all()
    assert (free.deviance <= found.deviance + 1e-6).all()
    for size in (1.0, 5.0, 20.0):
        fixed = fit_peaks(MODEL, counts, size, free)
        assert (fixed.size == size).all()
        assert (free.deviance <= fixed.deviance + 1e-4).all()
        np.testing.assert_allclose(
            fixed.deviance, fit_peaks(MODEL, counts, size).deviance, atol=1e-4
        )


def test_fit_finds_both_peaks() -> None:
    other = PEAK.shares(EDGES, 5500.0)
    model = PeakModel(np.array([SHAPE, other]), FACTOR, OFFSET)
    expected = 300 * TEMPLATE / TEMPLATE.sum() + 40 * SHAPE + 15 * other
    found = fit_peaks(model, expected[None], None)
    np.testing.assert_allclose(found.sizes[0], [40, 15], rtol=1e-2)
    assert found.deviance[0] == pytest.approx(0, abs=1e-4)
    fixed = fit_peaks(model, expected[None], 40.0, found)
    assert fixed.sizes[0, 1] == pytest.approx(15, rel=1e-2)


@pytest.mark.parametrize("size", [4.0, 25.0])
def test_limits_cover_what_is_there(size: float) -> None:
    random = np.random.default_rng(int(size))
    expected = 200 * TEMPLATE / TEMPLATE.sum() + size * SHAPE
    n_spectra = 60
    covered = 0
    for counts in random.poisson(expected, (n_spectra, len(expected))).astype(float):
        toys = PseudoExperiments.of(PeakTest.of(counts, SHAPE, FACTOR, OFFSET), random, 150)
        covered += int(toys.observed(size)[0, 0] > LOG_LEVEL)
    # 95 % less three standard deviations of 60 spectra; a limit that is always high is no limit.
    assert covered >= 0.95 * n_spectra - 3 * np.sqrt(0.05 * 0.95 * n_spectra)
    assert covered < n_spectra or size < 10


def test_limit_of_a_peak_with_tails_covers_where_a_gaussian_does_not() -> None:
    """The limit at the mean of 30 events with tails, from expected events without fluctuation."""
    background = 400 * TEMPLATE / TEMPLATE.sum()
    wide = PEAK.shares(EDGES, MASS, widening=1.5)
    counts = background + 40 * wide / wide.sum()
    _, variations = shape_variations(PEAK, EDGES, MASS)
    narrow = PEAK.shares(EDGES, MASS, widening=0.5)
    fitted = {
        name: fit_peaks(PeakModel(shape[None] / shape.sum(), FACTOR, OFFSET), counts[None], None)
        for name, shape in (("true", wide), ("narrow", narrow), ("mean", variations.mean(axis=0)))
    }
    assert fitted["true"].size[0] == pytest.approx(40, rel=1e-2)
    assert fitted["narrow"].size[0] < fitted["mean"].size[0] < 40


def test_shapes_vary_around_their_mean() -> None:
    mean, variations = shape_variations(PEAK, EDGES, MASS)
    np.testing.assert_allclose(variations.mean(axis=0), mean)
    np.testing.assert_allclose(variations.sum(axis=1), 1)
    centres = variations @ CENTRES
    assert 0.5 * 0.002 < centres.std() / MASS < 3 * 0.002
    assert mean @ CENTRES == pytest.approx(MASS, rel=0.02)


def test_error_of_the_efficiency_raises_the_limit_in_the_box_only() -> None:
    counts = np.round(200 * TEMPLATE / TEMPLATE.sum())
    sure = PeakTest.of(counts, SHAPE, FACTOR, OFFSET)
    unsure = PeakTest(counts, MODEL, SHAPE[None], factors_of(_efficiency(0.4, 0.12)))
    without, same = sure.limits(np.random.default_rng(4), 1000)
    selected, in_box = unsure.limits(np.random.default_rng(4), 1000)
    assert same == without
    assert selected.observed == pytest.approx(without.observed, rel=0.06)
    assert selected.expected[2] == pytest.approx(without.expected[2], rel=0.06)
    assert 1.05 * selected.observed < in_box.observed < 2 * selected.observed
    assert in_box.expected[2] > 1.05 * selected.expected[2]


def test_factors_are_those_of_the_interval() -> None:
    factors = factors_of(_efficiency(0.4, 0.04))
    assert factors[len(factors) // 2] == 1
    assert (np.diff(factors) > 0).all()
    assert np.quantile(factors, [0.16, 0.84]) == pytest.approx([0.9, 1.1], abs=0.02)
    assert factors_of(None).tolist() == [1.0]


def test_data_below_all_spectra_keep_a_limit() -> None:
    """Where the background is not described CLs would be 0 / 0."""
    counts = 100 * TEMPLATE / TEMPLATE.sum()
    counts[:4] += 40
    counts[6:12] = 0
    test = PeakTest.of(counts.round(), SHAPE, FACTOR, OFFSET)
    found, _ = test.limits(np.random.default_rng(3), 1000)
    assert 2 < found.observed < 100
    assert found.observed > 0.9 * found.expected[0]


def _selections(signal: float = 0.0, failing: float = 0.0) -> FittedSelections:
    """A selection of 300 of 10,000 events, with a peak in it and one among the rejected events."""
    rejected = 10_000 * TEMPLATE / TEMPLATE.sum() + failing * SHAPE
    selected = 300 * TEMPLATE / TEMPLATE.sum() + signal * SHAPE
    return FittedSelections(BoxSpectra(EDGES, rejected, selected[None]), BACKGROUND, 4, [2])


def test_signal_that_fails_the_cut_is_no_background() -> None:
    for failing in (0.0, 400.0):
        test = _selections(40, failing).test(0, SHAPE[None], np.ones(1))
        found = fit_peaks(test.model, test.counts[None], None)
        np.testing.assert_allclose(found.sizes[0], [40, failing], rtol=0.03, atol=2)


def test_error_of_the_template_counts() -> None:
    """With the rejected events fitted as well, q is smaller than with their fit held fixed."""
    selections = _selections()
    test = selections.test(0, SHAPE[None], np.ones(1))
    held = PeakTest.of(selections.spectra.selected[0], SHAPE, FACTOR, OFFSET)
    sizes = np.array([5.0, 10.0, 20.0])
    for size in sizes:
        q = []
        for one in (test, held):
            free = fit_peaks(one.model, one.counts[None], None)
            q.append(one.statistic(one.counts[None], free, size)[0])
        assert 0.5 * q[1] < q[0] < q[1] + 1e-6


def test_data_near_a_mass_do_not_decide_about_the_selection() -> None:
    used = _selections().outside(near_bins(EDGES, MASS, PEAK))
    values = [
        expected_outside(_selections(signal).test(0, SHAPE[None], np.ones(1)), used)
        for signal in (0.0, 100.0)
    ]
    # Only the tails of the peak are outside.
    assert values[0] == pytest.approx(values[1], rel=0.1)
    excess = _selections(100.0).test(0, SHAPE[None], np.ones(1)).asymptotic_limits()[0]
    assert excess > 5 * values[1]


def test_excess_is_no_background_of_other_masses() -> None:
    elsewhere = 5500.0
    shape = PEAK.shares(EDGES, elsewhere)
    near = np.tile(near_bins(EDGES, elsewhere, PEAK), 2)

    def background(signal: float, failing: float, other: np.ndarray | None) -> np.ndarray:
        test = _selections(signal, failing).test(0, shape[None], np.ones(1), other)
        parameters = test.without_signal()[1].parameters
        return test.model.background(parameters)[0, near]

    expected = background(0, 0, None)
    assert np.abs(background(200, 400, None) / expected - 1).max() > 0.1
    np.testing.assert_allclose(background(200, 400, SHAPE) / expected, 1, atol=0.03)


FINE = bin_edges(2600, 8000, 0.025)
FINE_BACKGROUND = smooth_background(FINE, Windows(2, 8), "template", 0.05, 13000)


def _strong(n_signal: float, seed: int) -> tuple[PeakTest, PeakTest]:
    """Tests of 8 background events, with three parameters of the factor: with signal, without."""
    random = np.random.default_rng([seed, 8])
    centres = np.sqrt(FINE[1:] * FINE[:-1])
    template = (1 - centres / 13000) ** 8 * centres**-5 * np.diff(FINE)
    rejected, selected = (
        random.poisson(size * template / template.sum()).astype(float) for size in (4500, 8)
    )
    shape = PEAK.shares(FINE, 3500.0)[None] / PEAK.shares(FINE, 3500.0).sum()
    counts = selected + random.poisson(n_signal * shape[0]), selected
    with_signal, without = (
        FittedSelections(BoxSpectra(FINE, rejected, one[None]), FINE_BACKGROUND, 3, [3]).test(
            0, shape, np.ones(1)
        )
        for one in counts
    )
    return with_signal, without


def test_strong_signal_is_found_where_it_is_most_likely() -> None:
    for seed in range(8):
        test, _ = _strong(40, seed)
        counts = test.counts[None]
        found = fit_peaks(test.model, counts, None)
        others = [
            fit_peaks(test.model, counts, None, fit_peaks(test.model, counts, size))
            for size in (10.0, 20.0, 40.0)
        ]
        assert found.deviance[0] < min(one.deviance[0] for one in others) + 1e-3


def test_fit_that_takes_a_strong_signal_for_background_leaves_it() -> None:
    for seed in range(8):
        test, _ = _strong(40, seed)
        free = replace(test.model, precision=None)
        assert fit_peaks(free, test.counts[None], None).size[0] > 20


def test_expected_limit_beside_a_strong_signal_is_that_without_it() -> None:
    for seed in range(12):
        with_signal, without = (one.asymptotic_limits()[1] for one in _strong(40, seed))
        assert without / 1.8 < with_signal < 1.8 * without


def test_constraint_hardly_moves_what_fifty_events_determine() -> None:
    test, _ = _strong(0, 1)
    expected = test.model.background(fit_peaks(test.model, test.counts[None], 0.0).parameters)[0]
    many = replace(test, counts=6 * expected)
    free = replace(many, model=replace(many.model, precision=None))
    limits = [one.asymptotic_limits()[1] for one in (many, free)]
    assert limits[0] == pytest.approx(limits[1], rel=0.05)


def test_bins_that_the_fit_of_rejected_events_leaves_out_are_left_out() -> None:
    selections = _selections(40)
    selections.spectra.rejected[5:8] *= 2
    used = np.ones(len(CENTRES), dtype=bool)
    used[5:8] = False
    selections = replace(selections, used=used)
    test = selections.test(0, SHAPE[None], np.ones(1))
    assert len(test.counts) == 2 * len(CENTRES) - 3
    found = fit_peaks(test.model, test.counts[None], None)
    np.testing.assert_allclose(found.sizes[0], [40, 0], rtol=0.03, atol=2)
    near = near_bins(EDGES, MASS, PEAK)
    assert selections.outside(near).sum() == len(test.counts) - near.sum() - (near & used).sum()


def _result(n_signal: int) -> SearchResult:
    random = np.random.default_rng(8)
    m_jj = 2500 + random.exponential(600, 6000)
    score = random.normal(size=6000)
    signal = MASS * np.exp(random.normal(0, 0.03, n_signal))
    scores = np.concatenate([score, random.normal(3, 1, n_signal)])
    masses = np.concatenate([m_jj, signal])
    jets = np.full(len(masses), 100.0)
    return search(BoxEvents(scores, masses, jets, 3 * jets), CONFIG, 1)


CONFIG = SearchConfig(
    efficiencies=(0.03, 0.01), max_toys=1000, limit_step=0.12, limit_toys=200, bin_width=0.05,
    narrowest=1, widest=4,
)  # fmt: skip
EFFICIENCIES = [_efficiency(0.8, 0.05), _efficiency(0.6, 0.05)]


@pytest.mark.parametrize("n_signal", [0, 60])
def test_limits_exist_over_the_mass_range_with_and_without_an_excess(n_signal: int) -> None:
    result = _result(n_signal)
    assert result.is_excess == (n_signal > 0)
    limits = upper_limits(result, CONFIG, 1, efficiencies=EFFICIENCIES)
    masses = [one.mass_gev for one in limits.by_mass]
    assert masses == sorted(masses)
    assert masses[0] < 2830
    assert masses[-1] > 7400
    assert np.diff(np.log(masses)).max() <= CONFIG.limit_step
    assert limits.efficiency_of == "simulation"
    assert not limits.efficiency_by_mass
    for one in limits.by_mass:
        assert one.selection in CONFIG.efficiencies
        assert one.box is not None
        assert one.signal_efficiency is not None
        for limit in (one.selected, one.box):
            assert limit.expected_95 is not None
            ends = [limit.expected_95[0], *limit.expected_68, limit.expected_95[1]]
            assert [*ends[:2], limit.expected, *ends[2:]] == sorted([*ends, limit.expected])
            assert limit.expected > 2.8
        assert one.box.observed * one.signal_efficiency.value > one.selected.observed
    nearest = min(limits.by_mass, key=lambda one: abs(one.mass_gev - MASS))
    ratio = nearest.selected.observed / nearest.selected.expected
    assert (ratio > 2) == (n_signal > 0)


@pytest.mark.slow
def test_limits_do_not_depend_on_the_workers() -> None:
    result = _result(0)
    config = CONFIG.model_copy(update={"limit_step": 0.2, "limit_toys": 20})
    alone = upper_limits(result, config, 1, efficiencies=EFFICIENCIES)
    several = upper_limits(
        result, config.model_copy(update={"workers": 2}), 1, efficiencies=EFFICIENCIES
    )
    assert alone == several


def test_without_efficiencies_the_loosest_selection_is_used() -> None:
    config = CONFIG.model_copy(update={"limit_step": 0.19, "limit_toys": 50})
    limits = upper_limits(_result(0), config, 1)
    assert {one.selection for one in limits.by_mass} == {0.03}
    assert all(one.box is one.signal_efficiency is None for one in limits.by_mass)
    assert limits.efficiency_of is None


def test_masses_of_the_curve_are_two_widths_inside() -> None:
    masses = limit_masses(EDGES, 0.04, PEAK)
    assert masses[0] * (1 - 2 * PEAK.resolution(2600)) == pytest.approx(2600)
    assert masses[-1] * (1 + 2 * PEAK.resolution(8000)) == pytest.approx(8000)
    assert len(masses) > 20


def test_limits_of_a_former_version_are_read() -> None:
    tree = {
        "mass_gev": 3500.0,
        "is_largest_fluctuation": True,
        "efficiency": 0.03,
        "n_signal_selected": 17.5,
        "expected": 14.25,
        "expected_16": 10.5,
        "expected_84": 20.5,
        "n_signal_box": 35.0,
    }
    found = UpperLimit.model_validate(tree)
    assert found.selected.observed == 17.5
    assert found.box is not None
    assert found.box.observed == 35.0
    assert found.box.expected_68 == (21.0, 41.0)
    assert found.selected.expected_95 is None
