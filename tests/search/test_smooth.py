"""The background family: large samples, peaks among rejected events, windows without events."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.stats import chi2

from hepllm.search.peak_shape import PeakShape
from hepllm.search.poisson import deviance, fit
from hepllm.search.scan import Windows, scan_batch
from hepllm.search.smooth import smooth_background
from hepllm.search.spectra import bin_edges

EDGES = bin_edges(2600, 8000, 0.025)
CENTRE = np.sqrt(EDGES[1:] * EDGES[:-1])
SMOOTH = smooth_background(EDGES, Windows(2, 8), "template", 0.05, 13000)


def _spectrum(n_events: float, turn_on: float = 0.0) -> np.ndarray:
    """A power law times an exponential; ``turn_on`` is lost at the lower end."""
    shape = CENTRE**-2.0 * np.exp(-CENTRE / 550) * np.diff(EDGES)
    shape *= 1 - turn_on * np.exp(-(CENTRE - 2600) / 130)
    return n_events * shape / shape.sum()


def test_another_family_with_a_turn_on_is_described_at_full_size() -> None:
    expected = _spectrum(630_000, turn_on=0.15)
    counts = np.random.default_rng(1).poisson(expected, (60, len(expected))).astype(float)
    fitted = SMOOTH.fit_rejected(counts)
    assert fitted.converged.all()
    p_values = chi2.sf(fitted.deviance, len(expected) - fitted.n_parameters)
    assert (p_values < 0.01).mean() < 0.1


def test_small_samples_keep_few_parameters() -> None:
    expected = _spectrum(13_500)
    counts = np.random.default_rng(2).poisson(expected, (200, len(expected))).astype(float)
    assert SMOOTH.fit_rejected(counts).n_parameters.mean() < 4


def test_a_bend_of_the_efficiency_is_not_taken_for_a_bump() -> None:
    before = _spectrum(630_000)
    u = np.log(CENTRE / CENTRE[0])
    after = 70_000 * before * np.exp(2 * u - 0.8 * u**2)
    after /= (before * np.exp(2 * u - 0.8 * u**2)).sum()
    random = np.random.default_rng(3)
    rejected, selected = (
        random.poisson(one, (100, len(u))).astype(float) for one in (before, after)
    )
    fitted = SMOOTH.fit_selected(selected, SMOOTH.fit_rejected(rejected))
    p_values = chi2.sf(fitted.deviance, len(u) - fitted.n_parameters)
    assert (p_values < 0.01).mean() < 0.07


def test_a_peak_among_rejected_events_is_not_followed() -> None:
    expected = _spectrum(135_000)
    signal = 3000 * PeakShape.shipped().shares(EDGES, 4500)
    counts = np.random.default_rng(4).poisson(expected + signal, (20, len(expected)))
    fitted = SMOOTH.fit_rejected(counts.astype(float))
    near = np.abs(CENTRE / 4500 - 1) < 0.05
    assert not fitted.used[:, near].any()
    taken = (fitted.expected[:, near] - expected[near]).sum(axis=1) / signal[near].sum()
    assert abs(taken.mean()) < 0.05
    assert fitted.used.mean() > 0.6
    # The deviance is that of the bins that count.
    inside = fitted.used.astype(float)
    np.testing.assert_allclose(fitted.deviance, deviance(counts, fitted.expected, inside))


def test_spectra_without_a_peak_use_all_bins() -> None:
    counts = np.random.default_rng(5).poisson(_spectrum(135_000), (300, len(CENTRE)))
    assert SMOOTH.fit_rejected(counts.astype(float)).used.all()


def test_template_is_never_empty() -> None:
    counts = np.zeros((1, len(CENTRE)))
    counts[0, :12] = 300 * np.exp(-np.arange(12.0))
    template = np.exp(SMOOTH.template(SMOOTH.fit_rejected(counts.round())))
    assert (template >= 0.2).all()
    large = SMOOTH.fit_rejected(_spectrum(135_000).round()[None])
    np.testing.assert_allclose(
        np.exp(SMOOTH.template(large))[0, :20], large.expected[0, :20], rtol=1e-3
    )


def test_a_turn_on_behind_a_tight_cut_needs_a_third_parameter() -> None:
    """Of 45 events, too few to ask for one, as a hypothesis of heavy jets selects them."""
    before = _spectrum(15_000)
    after = before / (1 + np.exp(-(CENTRE - 3600) / 200))
    after *= 45 / after.sum()
    random = np.random.default_rng(8)
    selected = random.poisson(after, (400, len(after))).astype(float)
    rejected = SMOOTH.fit_rejected(np.repeat(before[None], 400, axis=0))
    fits = [
        replace(SMOOTH, least_factors=least).fit_selected(selected, rejected) for least in (2, 3)
    ]
    assert fits[0].n_parameters.max() == 2
    assert fits[1].n_parameters.max() == 3
    biases = [np.abs(one.expected.mean(axis=0) - after).sum() / 45 for one in fits]
    assert biases[0] > 0.2
    assert biases[1] < 0.6 * biases[0]


def test_selection_that_is_nearly_all_signal_keeps_its_excess() -> None:
    """With three free parameters the factor becomes the peak, or the fit does not converge."""
    factors = replace(SMOOTH, least_factors=3)
    random = np.random.default_rng(5)
    peak = PeakShape.shipped().shares(EDGES, 3400)
    for n_background, n_signal in ((40, 6), (5, 40), (0, 46)):
        expected = n_background * _spectrum(1) + n_signal * peak / peak.sum()
        counts = random.poisson(expected, (20, len(expected))).astype(float)
        rejected = factors.fit_rejected(random.poisson(_spectrum(15_000), counts.shape) * 1.0)
        fitted = factors.fit_selected(counts, rejected)
        assert fitted.converged.all()
        statistic = scan_batch(counts, fitted.expected, factors.windows).statistic
        # 4.5 standard deviations, of which the trials leave most.
        assert (np.median(statistic) > 10) == (n_signal > 6)


def test_constraint_of_the_factor_hardly_moves_what_fifty_events_determine() -> None:
    two, three = SMOOTH, replace(SMOOTH, least_factors=3)
    u = np.log(CENTRE / CENTRE[0])
    expected = 50 * _spectrum(1) * np.exp(u) / (_spectrum(1) * np.exp(u)).sum()
    rejected = two.fit_rejected(_spectrum(15_000)[None])
    fitted = three.fit_selected(expected[None], rejected)
    free = fit(expected[None], two.factor[:, :3], two.template(rejected))
    np.testing.assert_allclose(fitted.expected, free.expected, rtol=0.06, atol=0.02)
