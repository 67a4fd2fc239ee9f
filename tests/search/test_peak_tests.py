"""Local significance and spurious signals against an independent fit, truth and arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from iminuit import Minuit
from scipy.stats import norm

from hepllm.search.joint_model import JointModel
from hepllm.search.peak_tests import PeakShapes, local_peak, spurious_signal
from hepllm.search.poisson import deviance
from hepllm.search.scan import Windows
from hepllm.search.smooth import Method, smooth_background
from hepllm.search.spectra import bin_edges

EDGES = bin_edges(2600, 8000, 0.025)
CENTRE = np.sqrt(EDGES[1:] * EDGES[:-1])
BEFORE = (1 - CENTRE / 13000) ** 8 * CENTRE**-5.0 * np.diff(EDGES)
REJECTED = 15_000 * BEFORE / BEFORE.sum()
SELECTED = 0.05 * REJECTED * CENTRE / CENTRE.mean()


def _share(mass: float) -> np.ndarray:
    return PeakShapes.at(EDGES, np.array([mass])).share[0]


def _background(method: Method = "template") -> tuple[np.ndarray, np.ndarray, JointModel]:
    background = smooth_background(EDGES, Windows(2, 8), method, 0.0, 13000)
    random = np.random.default_rng(1)
    rejected = random.poisson(REJECTED, (1, len(CENTRE))).astype(float)
    selected = random.poisson(SELECTED, (1, len(CENTRE))).astype(float)
    fitted = background.fit_rejected(rejected)
    n_parameters = 3 if method == "dijet" else 2
    return rejected, selected, JointModel.of(background, fitted, n_parameters)


def test_profile_likelihood_agrees_with_minuit() -> None:
    rejected, selected, model = _background()
    selected[0] += np.random.default_rng(2).poisson(40 * _share(4000))
    shape = _share(4000)
    counts = np.append(rejected[0], selected[0])
    background = smooth_background(EDGES, Windows(2, 8), "template", 0.0, 13000)

    def cost(parameters: np.ndarray) -> float:
        before = np.exp(background.log_width + background.shape[:, :3] @ parameters[:3])
        after = before * np.exp(background.factor[:, :2] @ parameters[3:5])
        expected = np.append(before, after + parameters[5] * shape)
        return float(deviance(counts, np.maximum(expected, 1e-9)))

    start = background.shape[:, :3].T @ (np.log(REJECTED) - background.log_width)
    ratio = background.factor[:, :2].T @ np.log(SELECTED / REJECTED)
    minimum = Minuit(cost, [*start, *ratio, 10.0])
    minimum.errordef, minimum.strategy = Minuit.LEAST_SQUARES, 2
    minimum.migrad(ncall=50_000)
    free, n_signal = minimum.fval, minimum.values["x5"]
    minimum.fixed["x5"], minimum.values["x5"] = True, 0.0
    minimum.migrad(ncall=50_000)
    size, sigma = model.fit_peak(model.joined(rejected, selected), model.shapes(shape[None])[0])
    assert size[0] == pytest.approx(n_signal, rel=0.01)
    assert sigma[0] ** 2 == pytest.approx(minimum.fval - free, rel=0.01)


@pytest.mark.parametrize("method", ["template", "dijet"])
def test_local_p_values_are_flat_at_a_fixed_mass(method: Method) -> None:
    *_, model = _background(method)
    random = np.random.default_rng(3)
    drawn = [random.poisson(one, (3000, len(CENTRE))).astype(float) for one in (REJECTED, SELECTED)]
    shape = model.shapes(PeakShapes.at(EDGES, np.array([3600.0])).share)[0]
    _, sigma = model.fit_peak(model.joined(*drawn), shape)
    for level in (0.1, 1.0, 2.0):
        share, expected = (sigma > level).mean(), norm.sf(level)
        assert abs(share - expected) < 4.5 * np.sqrt(expected / 3000)


def test_an_injected_peak_is_found_at_its_mass() -> None:
    rejected, selected, model = _background()
    selected[0] += np.random.default_rng(4).poisson(60 * _share(4600))
    found = local_peak(model, rejected[0], selected[0], EDGES)
    assert abs(found.mass - 4600) < 100
    assert abs(found.n_signal - 60) < 30
    assert found.significance > 5
    assert found.p_value == pytest.approx(norm.sf(found.significance))
    masses = PeakShapes.over(EDGES)
    all_fits = [model.fit_peak(model.joined(rejected, selected), model.shapes(one[None])[0])
                for one in masses.share]  # fmt: skip
    assert found.significance >= max(float(sigma[0]) for _, sigma in all_fits) - 1e-6


def test_bins_that_the_rejected_fit_leaves_out_do_not_count() -> None:
    background = smooth_background(EDGES, Windows(2, 8), "template", 0.0, 13000)
    rejected = REJECTED + 2000 * _share(4000)
    fitted = background.fit_rejected(rejected.round()[None])
    model = JointModel.of(background, fitted, 2)
    assert 6 < (~model.used).sum() < 20
    found = local_peak(model, rejected, SELECTED, EDGES)
    assert found.significance < 0.5


def test_a_misfit_is_a_spurious_signal() -> None:
    background = smooth_background(EDGES, Windows(2, 8), "template", 0.0, 13000)
    basis = background.factor[:, :2]
    none = spurious_signal(REJECTED, REJECTED, SELECTED, basis, EDGES)
    assert np.abs(none.n_signal).max() < 1e-9
    assert none.beyond_noise.max() == 0
    bump = 600 * _share(4000)
    found = spurious_signal(REJECTED + bump, REJECTED, SELECTED, basis, EDGES)
    place = int(np.abs(found.mass - 4000).argmin())
    scale = float(np.interp(4000, CENTRE, SELECTED / REJECTED))
    assert found.n_signal[place] == pytest.approx(600 * scale, rel=0.1)
    assert found.systematic_at(4000) == pytest.approx(abs(found.n_signal[place]))
    # Twenty times as many events are scaled down: their fluctuations shrink by the root.
    assert found.noise[place] / found.error[place] == pytest.approx(np.sqrt(scale), rel=0.1)
    assert found.systematic_at(2900) == 0


def test_noise_of_a_spurious_signal_is_that_of_drawn_spectra() -> None:
    background = smooth_background(EDGES, Windows(2, 8), "template", 0.0, 13000)
    random = np.random.default_rng(5)
    found = [
        spurious_signal(
            random.poisson(REJECTED), REJECTED, SELECTED, background.factor[:, :2], EDGES
        )
        for _ in range(300)
    ]
    spread = np.std([one.n_signal for one in found], axis=0)
    np.testing.assert_allclose(spread, found[0].noise, rtol=0.2)
