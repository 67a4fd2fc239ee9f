from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from hepllm.arrays import Bools, Floats
from hepllm.learning.unsupervised_risk import (
    Kind,
    Mixture,
    NoMixtureError,
    estimate,
    events_needed,
    fit_mixture,
    labelled_hinge_risk,
    split_moments,
)

KINDS: tuple[Kind, ...] = ("mixture", "split", "posterior")


def gaussians(
    n_events: int, prior: float, apart: float, seed: int, sigma: tuple[float, float] = (1.5, 0.8)
) -> tuple[Floats, Bools]:
    random = np.random.default_rng(seed)
    is_signal = random.random(n_events) < prior
    drawn = random.normal(size=n_events)
    scores = np.where(is_signal, apart / 2 + sigma[1] * drawn, -apart / 2 + sigma[0] * drawn)
    return scores, is_signal


@pytest.mark.parametrize("prior", [0.5, 0.1])
@pytest.mark.parametrize("means", [(-1.0, 1.0), (-3.0, 0.2), (0.5, -0.5)])
def test_the_closed_form_is_the_integral_of_the_hinge_loss(
    prior: float, means: tuple[float, float]
) -> None:
    mixture = Mixture(np.array([1 - prior, prior]), np.array(means), np.array([1.7, 0.3]))
    expected = 0.0
    for share, mean, sigma, sign in zip(
        mixture.share, mixture.mean, mixture.sigma, (-1, 1), strict=True
    ):
        total, _ = quad(
            lambda x, m=mean, s=sigma, y=sign: max(0.0, 1 - y * x) * norm.pdf(x, m, s),
            mean - 12 * sigma,
            mean + 12 * sigma,
            points=[sign],
            epsabs=1e-12,
        )
        expected += share * total
    assert mixture.hinge_risk() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("prior", [0.5, 0.1])
@pytest.mark.parametrize("apart", [1.5, 2.0, 3.0])
def test_the_risk_without_labels_is_that_with_labels(prior: float, apart: float) -> None:
    ratios = []
    for seed in range(5):
        scores, is_signal = gaussians(20_000, prior, apart, seed)
        expected = labelled_hinge_risk(scores, is_signal, prior)
        ratios.append(estimate(scores, prior, "mixture").value / expected)
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)


def test_the_split_misses_the_overlap_of_the_classes() -> None:
    scores, is_signal = gaussians(20_000, 0.5, 2.0, 1)
    expected = labelled_hinge_risk(scores, is_signal, 0.5)
    assert estimate(scores, 0.5, "split").value < 0.7 * expected
    scores, is_signal = gaussians(20_000, 0.5, 20.0, 1)
    moments, side = split_moments(scores, is_signal.mean())
    np.testing.assert_array_equal(side == 1, is_signal)
    assert moments.sigma == pytest.approx([1.5, 0.8], rel=0.05)  # no variances


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prior", [0.5, 0.2])
def test_derivatives_by_finite_differences(kind: Kind, prior: float) -> None:
    scores, _ = gaussians(200, prior, 3.0, 4)
    slope, step = estimate(scores, prior, kind).slope, 1e-5
    for event in range(0, 200, 11):
        moved = np.zeros(200)
        moved[event] = step
        above, below = (estimate(scores + sign * moved, prior, kind).value for sign in (1, -1))
        assert slope[event] == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-9)


def test_the_fit_is_a_maximum_of_the_likelihood_and_follows_scale_and_origin() -> None:
    scores, _ = gaussians(2000, 0.2, 3.0, 5)
    found = fit_mixture(scores, 0.2)

    def likelihood(mean: Floats, sigma: Floats) -> float:
        density = norm.pdf(scores[:, np.newaxis], mean, sigma) @ found.share
        return float(np.log(density).sum())

    best = likelihood(found.mean, found.sigma)
    for one in np.eye(4) * 1e-3:
        for sign in (-1, 1):
            moved = sign * one
            assert likelihood(found.mean + moved[:2], found.sigma + moved[2:]) < best
    other = fit_mixture(7 + 100 * scores, 0.2)
    np.testing.assert_allclose(other.mean, 7 + 100 * found.mean, rtol=1e-6)
    np.testing.assert_allclose(other.sigma, 100 * found.sigma, rtol=1e-6)


def test_a_heap_has_no_mixture() -> None:
    with pytest.raises(NoMixtureError, match="all scores are equal"):
        fit_mixture(np.ones(100), 0.3)
    # Of events at equal distances there are no two Gaussians of equal weight far apart.
    with pytest.raises(NoMixtureError):
        fit_mixture(norm.ppf((np.arange(500) + 0.5) / 500), 0.5)


def test_the_penalty_is_a_divergence_of_fractions() -> None:
    scores = np.array([-1.0, 0.0, 3.0])
    mean = (1 / (1 + np.exp(-scores))).mean()
    expected = 0.1 * np.log(0.1 / mean) + 0.9 * np.log(0.9 / (1 - mean))
    found = estimate(scores, 0.1, "posterior")
    assert found.value == pytest.approx(expected)
    assert (found.slope > 0).all()  # too much signal: down with the scores
    assert estimate(scores, float(mean), "posterior").value == pytest.approx(0, abs=1e-12)
    assert np.isfinite(estimate(np.array([-1e4, -1e4]), 0.5, "posterior").slope).all()


def test_events_that_an_estimate_needs() -> None:
    assert [events_needed(prior) for prior in (0.5, 0.1, 0.9, 0.01)] == [60, 300, 300, 3000]
