"""Batched Poisson fits against iminuit, truth and arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, kstest, poisson

from hepllm.search.poisson import (
    count_parameters,
    deviance,
    fit,
    fit_sizes,
    orthonormal,
)
from hepllm.search.resonance import fit_background
from hepllm.search.scan import Windows
from hepllm.search.smooth import smooth_background
from hepllm.search.spectra import bin_edges

EDGES = bin_edges(2600, 8000, 0.025)
SMOOTH = smooth_background(EDGES, Windows(2, 8), "dijet", 0.05, 13000)
X = np.sqrt(EDGES[1:] * EDGES[:-1]) / 13000
DIJET = (1 - X) ** 8 * X**-5 * np.diff(EDGES)


def _draw(n_events: float, n_spectra: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    expected = n_events * DIJET / DIJET.sum()
    shape = (n_spectra, len(expected))
    return np.random.default_rng(seed).poisson(expected, shape).astype(float), expected


@pytest.mark.parametrize("n_events", [60, 1000, 100_000])
@pytest.mark.parametrize("n_columns", [2, 3, 4])
def test_batch_agrees_with_iminuit(n_events: int, n_columns: int) -> None:
    counts, _ = _draw(n_events, 5, n_columns)
    basis = SMOOTH.shape[:, :n_columns]
    batch = fit(counts, basis, SMOOTH.log_width)
    assert batch.converged.all()
    for spectrum, expected, lowest in zip(counts, batch.expected, batch.deviance, strict=True):
        minuit = fit_background(spectrum, basis, SMOOTH.log_width)
        assert minuit.deviance == pytest.approx(lowest, abs=1e-3)
        difference = np.abs(minuit.expected - expected)
        assert (difference < 0.02 * minuit.error + 1e-6).all()


def test_likelihood_equations_hold() -> None:
    counts, _ = _draw(500, 20, 3)
    basis = SMOOTH.shape[:, :3]
    fitted = fit(counts, basis, SMOOTH.log_width)
    np.testing.assert_allclose((counts - fitted.expected) @ basis, 0, atol=1e-3)


def test_known_spectrum_is_recovered_without_bias() -> None:
    counts, expected = _draw(20_000, 400, 4)
    basis = SMOOTH.shape[:, :3]
    fitted = fit(counts, basis, SMOOTH.log_width)
    # The covariance of the fit, from the Fisher information of the truth.
    covariance = np.linalg.inv(basis.T @ (expected[:, None] * basis))
    error = expected * np.sqrt(np.einsum("bp,pq,bq->b", basis, covariance, basis))
    pulls = (fitted.expected - expected) / error
    assert np.abs(pulls.mean(axis=0)).max() < 4 / np.sqrt(400)
    np.testing.assert_allclose(pulls.std(axis=0), 1, atol=4 / np.sqrt(2 * 400))


def test_deviance_follows_chi_squared_for_many_events() -> None:
    counts, _ = _draw(20_000_000, 300, 5)
    lowest = fit(counts, SMOOTH.shape[:, :3], SMOOTH.log_width).deviance
    assert kstest(lowest, chi2(counts.shape[1] - 3).cdf).pvalue > 0.01


def test_deviance_is_twice_the_likelihood_ratio() -> None:
    counts, expected = np.array([0.0, 3.0, 7.0]), np.array([0.4, 2.5, 9.0])
    ratio = poisson.logpmf(counts, np.maximum(counts, 1e-300)) - poisson.logpmf(counts, expected)
    assert deviance(counts, expected) == pytest.approx(2 * ratio.sum())


@given(st.integers(0, 2**31), st.floats(5, 5000))
@settings(max_examples=25)
def test_no_other_parameters_are_better(seed: int, n_events: float) -> None:
    counts, _ = _draw(n_events, 1, seed)
    counts[0, [0, 10, 20]] += 1  # enough bins for a maximum to exist
    basis = SMOOTH.shape[:, :3]
    fitted = fit(counts, basis, SMOOTH.log_width)
    assert fitted.converged.all()
    nearby = np.random.default_rng(seed).normal(0, 0.05, (50, 3)) @ basis.T
    assert (deviance(counts, fitted.expected * np.exp(nearby)) >= fitted.deviance - 1e-6).all()


def test_bins_that_do_not_count_change_nothing() -> None:
    counts, _ = _draw(2000, 3, 6)
    used = np.ones(counts.shape, dtype=bool)
    used[:, 10:15] = False
    spoiled = counts.copy()
    spoiled[:, 10:15] = 999
    one, other = (fit(c, SMOOTH.shape[:, :3], SMOOTH.log_width, used) for c in (counts, spoiled))
    np.testing.assert_allclose(one.expected, other.expected)
    np.testing.assert_allclose(one.deviance, other.deviance)


def test_further_parameters_are_asked_for_as_often_as_chance_would() -> None:
    counts, _ = _draw(3000, 1000, 7)
    sizes = count_parameters(counts, SMOOTH.shape, SMOOTH.log_width, n_min=3, parameter_p=0.05)
    share = (sizes > 3).mean()
    assert 0.03 < share < 0.08
    fitted = fit_sizes(counts, SMOOTH.shape, SMOOTH.log_width, sizes)
    plain = fit(counts, SMOOTH.shape[:, :3], SMOOTH.log_width)
    assert (fitted.deviance[sizes == 3] == plain.deviance[sizes == 3]).all()
    assert (plain.deviance - fitted.deviance)[sizes > 3].min() > chi2.isf(0.05, 1)


def test_curvature_is_found() -> None:
    counts, expected = _draw(20_000, 20, 8)
    bent = expected * np.exp(6 * (np.log(X) - np.log(X).mean()) ** 2)
    spectra = np.random.default_rng(9).poisson(bent, counts.shape).astype(float)
    basis = orthonormal(SMOOTH.factor)
    sizes = count_parameters(spectra, basis, np.log(expected), n_min=2, parameter_p=0.05)
    assert (sizes >= 3).all()
    few = count_parameters(
        spectra[:, :] * (np.arange(len(X)) < 1), basis, np.log(expected), n_min=2,
        parameter_p=0,
    )  # fmt: skip
    assert (few == 2).all()


def test_few_events_get_no_further_parameter() -> None:
    counts = np.zeros((1, len(X)))
    counts[0, :12] = 5  # 60 events, fewer than 25 for each of three parameters
    sizes = count_parameters(counts, SMOOTH.factor, np.log(DIJET), n_min=2, parameter_p=0.9)
    assert sizes[0] == 2


def test_basis_spans_the_dijet_function() -> None:
    logarithm = np.log(DIJET) - SMOOTH.log_width
    coefficients = SMOOTH.shape[:, :3].T @ logarithm
    np.testing.assert_allclose(SMOOTH.shape[:, :3] @ coefficients, logarithm, rtol=1e-9)
