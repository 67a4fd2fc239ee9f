"""The likelihood of a mixture, on events whose ratio is known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from hepllm.arrays import Bools, Floats
from hepllm.weak.mixture import RatioCounts, Samples, count_ratios, observed_samples
from hepllm.weak.mixture_fit import fit_points, fitted_mixture
from hepllm.weak.mixture_toys import Reach, Truth, divide_again, reach_of_intervals

GRID = np.geomspace(60, 600, 12)
MASSES = np.array([(heavy, light) for heavy in GRID for light in GRID if light <= heavy])
WIDTH = 0.12
"""Resolution of the logarithms of both masses."""


def log_ratio(logs: Floats, masses: Floats) -> Floats:
    """Gaussian signal over a flat background, without the normalisation, (N,)."""
    return np.asarray(-0.5 * (((logs - np.log(masses)) / WIDTH) ** 2).sum(axis=1))


def box(seed: int, n_signal: int, n_each: int = 4000) -> tuple[Floats, Bools]:
    """Logarithms of masses (N, 2) of data, with a signal of 300 and 120 GeV, and template."""
    random = np.random.default_rng(seed)
    flat = random.uniform(np.log(30), np.log(900), (2 * n_each, 2))
    flat[:n_signal] = np.log([300, 120]) + WIDTH * random.normal(size=(n_signal, 2))
    return flat, np.arange(2 * n_each) < n_each


def counted(logs: Floats) -> RatioCounts:
    return count_ratios(MASSES, (log_ratio(logs, one) for one in MASSES))


def test_each_event_is_in_one_bin_and_the_mean_ratio_of_a_template_is_1() -> None:
    logs, is_data = box(1, 100)
    samples = observed_samples(counted(logs), is_data)
    assert (samples.data.sum(axis=-1) == is_data.sum()).all()
    assert (samples.template.sum(axis=-1) == (~is_data).sum()).all()
    mean = (samples.template * samples.excess).sum(axis=-1)
    np.testing.assert_allclose(mean, 0, atol=1e-9)


def test_the_likelihood_is_that_of_events_without_bins() -> None:
    logs, is_data = box(2, 120)
    place = 40
    ratio = np.exp(log_ratio(logs, MASSES[place]))
    excess = ratio / ratio[~is_data].mean() - 1

    def expected(fraction: float) -> float:
        """The logarithm of the probability to be data, given x, over that without a signal."""
        odds = 1 + fraction * excess
        share = is_data.mean()
        total = share * odds + 1 - share
        return float(np.log(odds[is_data]).sum() - np.log(total).sum())

    samples = observed_samples(counted(logs), is_data)
    for fraction in (0.001, 0.02, 0.3):
        found = samples.log_likelihood(np.full((1, len(MASSES)), fraction))[0, place]
        assert found == pytest.approx(expected(fraction), abs=0.3, rel=0.005)
    best = minimize_scalar(lambda f: -expected(f), bounds=(0, 0.9), method="bounded").x
    assert samples.fit().fraction[0, place] == pytest.approx(best, rel=0.04, abs=1e-5)


def test_an_infinite_template_leaves_the_likelihood_of_a_mixture() -> None:
    random = np.random.default_rng(3)
    template = random.uniform(np.log(30), np.log(900), (200_000, 2))
    data = random.uniform(np.log(30), np.log(900), (300, 2))
    logs, is_data = np.concatenate([data, template]), np.arange(200_300) < 300
    counts = count_ratios(MASSES[40:41], [log_ratio(logs, MASSES[40])])
    ratio = np.exp(log_ratio(logs, MASSES[40]))
    excess = (ratio / ratio[~is_data].mean() - 1)[is_data]
    found = observed_samples(counts, is_data).log_likelihood(np.full((1, 1), 0.05))[0, 0]
    assert found == pytest.approx(float(np.log1p(0.05 * excess).sum()), abs=0.3)


def test_a_signal_between_points_is_measured() -> None:
    logs, is_data = box(4, 160)
    counts = counted(logs)
    points = fit_points(counts, is_data)
    place, fraction = points.best, float(points.fraction[points.best])
    assert fraction == pytest.approx(0.04, rel=0.3)
    reach = reach_of_intervals(counts, is_data, Truth(place, fraction), 60, 1)
    assert all(wide >= narrow >= 0.98 for narrow, wide in vars(reach).values())
    found = fitted_mixture(points, reach)
    assert found.heavy.value == pytest.approx(300, rel=0.05)
    assert found.light.value == pytest.approx(120, rel=0.05)
    for one in (found.heavy, found.light, found.fraction):
        (low, high), (lower, higher) = one.intervals
        assert lower <= low <= one.value <= high <= higher
    null = divide_again(counts, is_data, points.statistic, (60, 60), 1)
    assert null.p_value.n_exceeding == 0
    assert null.p_point[place] == pytest.approx(1 / 61)


def test_without_signal_the_interval_of_the_fraction_reaches_0() -> None:
    logs, is_data = box(5, 0)
    points = fit_points(counted(logs), is_data)
    assert fitted_mixture(points, Reach(fraction=(20.0, 30.0))).fraction.intervals[0][0] == 0


def test_a_fraction_that_is_known_better_than_a_step_of_the_profile_has_an_interval() -> None:
    logs, is_data = box(7, 20_000, 50_000)
    masses = np.array([(300.0, 120.0), (330.0, 120.0), (300.0, 105.0)])
    points = fit_points(count_ratios(masses, (log_ratio(logs, one) for one in masses)), is_data)
    found = fitted_mixture(points, Reach()).fraction
    (low, high), (lower, higher) = found.intervals
    assert lower < low < found.value < high < higher
    # Known classes of the data would leave sqrt(f (1 - f) / N).
    assert 1 < (high - low) / 2 / np.sqrt(0.4 * 0.6 / 50_000) < 3
    assert found.value == pytest.approx(0.4, rel=0.03)


def test_p_values_are_flat_without_signal() -> None:
    n_below = 0
    for seed in range(20):
        logs, is_data = box(100 + seed, 0, 600)
        counts = counted(logs)
        points = fit_points(counts, is_data)
        p_value = divide_again(counts, is_data, points.statistic, (39, 39), seed).p_value.value
        n_below += p_value <= 0.5
    assert 4 <= n_below <= 16  # outside with a probability of 0.3 %


def test_more_divisions_are_made_until_enough_exceed_the_data() -> None:
    logs, is_data = box(6, 0, 600)
    counts = counted(logs)
    statistic = np.full(len(MASSES), 1e-9)
    assert divide_again(counts, is_data, statistic, (50, 400), 1).p_value.n_toys == 50
    statistic = np.full(len(MASSES), 1e9)
    assert divide_again(counts, is_data, statistic, (50, 120), 1).p_value.n_toys == 120


def test_points_can_be_taken_and_joined() -> None:
    logs, is_data = box(7, 50, 500)
    whole = counted(logs)
    again = whole.take(range(30)).joined(whole.take(range(30, len(MASSES))))
    first, second = (observed_samples(one, is_data) for one in (whole, again))
    np.testing.assert_array_equal(first.data, second.data)
    np.testing.assert_array_equal(first.excess, second.excess)


def test_an_event_that_is_drawn_twice_counts_twice() -> None:
    logs, is_data = box(8, 0, 300)
    times = is_data[:, np.newaxis] * 2.0
    samples = Samples.of(counted(logs), times, 1.0 * ~is_data[:, np.newaxis])
    assert samples.share[0, 0, 0] == pytest.approx(2 / 3)
