"""The response of masses: the tailed shape, its fit to simulated signal, and the shipped record."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from hepllm.search.crystal_ball import CrystalBall
from hepllm.search.peak_shape import PeakShape
from hepllm.search.response import Response, ShapeModel, jet_terms, m_jj_terms, shipped_response
from hepllm.search.response_fit import SignalEvents, fit_jets, fit_m_jj, fit_selection
from hepllm.search.spectra import bin_edges

EDGES = bin_edges(2600, 8000, 0.025)


def _ball(**changes: float) -> CrystalBall:
    values = {"location": 0.0, "scale": 0.03, "low": 1.2, "low_power": 3.0, "high": 1.6}
    return CrystalBall(**{**values, "high_power": 2.5, **changes})


@given(
    low=st.floats(0.3, 3),
    high=st.floats(0.3, 3),
    low_power=st.floats(1.5, 20),
    high_power=st.floats(1.5, 20),
)
def test_density_is_the_slope_of_the_distribution(
    low: float, high: float, low_power: float, high_power: float
) -> None:
    ball = _ball(low=low, high=high, low_power=low_power, high_power=high_power)
    for first, last in ((-0.3, -0.04), (-0.04, 0.01), (0.01, 0.5)):
        joints = sorted({first, last, -0.03 * low, 0.03 * high, 0.0})
        inside = [one for one in joints if first < one < last]
        area = quad(ball.pdf, first, last, points=inside or None, limit=200)[0]
        assert ball.cdf(last) - ball.cdf(first) == pytest.approx(area, abs=1e-7)
    assert ball.cdf(-1e9) == pytest.approx(0, abs=1e-3)
    assert ball.cdf(1e9) == pytest.approx(1, abs=1e-3)


def test_far_tails_make_a_gaussian() -> None:
    gauss = _ball(low=6.0, high=6.0)
    assert gauss.cdf(np.array([-0.03, 0.0, 0.06])) == pytest.approx([0.1587, 0.5, 0.9772], abs=1e-4)


def test_shipped_response_is_a_record_of_its_schema() -> None:
    shipped = shipped_response()
    assert Response.model_validate(shipped.tree()) == shipped
    assert shipped.sample.n_points >= 100
    for model in (shipped.m_jj, shipped.jet):
        assert np.linalg.eigvalsh(np.array(model.covariance)).min() > 0


@pytest.mark.parametrize("mass", [3000.0, 4000.0, 5500.0])
def test_peak_has_tails_and_its_true_mass(mass: float) -> None:
    shape = PeakShape.shipped()
    shares = shape.shares(EDGES, mass)
    assert (shares > 0).all()
    assert 0.9 < shares.sum() <= 1
    width = shape.resolution(mass)
    assert 0.02 < width < 0.045
    edges = mass * np.array([1e-3, 1 - 3 * width, 1 + 3 * width, 1e3])
    below, _, above = shape.shares(edges, mass)
    # A Gaussian would have 0.3 % there.
    assert 0.02 < below + above < 0.2
    fine = np.geomspace(0.8 * mass, 1.2 * mass, 4001)
    assert fine[shape.shares(fine, mass).argmax()] == pytest.approx(mass, rel=0.01)


def test_a_wider_peak_has_a_wider_core() -> None:
    shape = PeakShape.shipped()
    middle = np.array([3900.0, 4100.0])
    narrow, wide = (shape.shares(middle, 4000.0, widening=one)[0] for one in (1.0, 1.3))
    assert wide < 0.9 * narrow


def _drawn(n: int, seed: int) -> SignalEvents:
    """Signal whose masses follow the shipped response."""
    random, shipped = np.random.default_rng(seed), shipped_response()
    points = np.array([[3000, 80, 300], [3500, 120, 500], [4500, 150, 250], [5500, 300, 400]])
    m_zprime, light, heavy = points[random.integers(len(points), size=n)].T.astype(float)

    def factor(ball: CrystalBall) -> np.ndarray:
        grid = np.linspace(-1.5, 1.5, 1201)
        low = random.random(n)
        spread = CrystalBall(*(getattr(ball, one)[:, None] for one in ball.__dataclass_fields__))
        heights = spread.cdf(grid)
        return np.exp([np.interp(u, row, grid) for u, row in zip(low, heights, strict=True)])

    jets = [one * factor(shipped.jet.at(jet_terms(one, m_zprime))) for one in (light, heavy)]
    m_jj = m_zprime * factor(shipped.m_jj.at(m_jj_terms(m_zprime, light, heavy)))
    return SignalEvents(m_jj, np.minimum(*jets), np.maximum(*jets), m_zprime, light, heavy)


def test_a_fit_to_drawn_signal_returns_the_response() -> None:
    events, shipped = _drawn(1500, 4), shipped_response()
    found = fit_m_jj(events, shipped.m_jj)
    terms = m_jj_terms(np.array([3500.0]), np.array([120.0]), np.array([500.0]))
    truth, fitted = (model.at(terms) for model in (shipped.m_jj, found))
    assert fitted.location[0] == pytest.approx(truth.location[0], abs=0.005)
    assert fitted.scale[0] == pytest.approx(truth.scale[0], rel=0.15)
    jets = fit_jets(events, shipped.jet)
    for mass in (120.0, 500.0):
        term = jet_terms(np.array([mass]), np.array([3500.0]))
        truth, fitted = (model.at(term) for model in (shipped.jet, jets))
        assert fitted.location[0] == pytest.approx(truth.location[0], abs=0.02)
        assert fitted.scale[0] == pytest.approx(truth.scale[0], rel=0.3)


def test_selection_error_is_interpolated_in_the_logarithm_of_the_cut() -> None:
    model = shipped_response().jet.model_copy(
        update={"selection_errors": ((0.01, 0.2), (0.1, 0.0))}
    )
    at = [model.selection_error(eps_b) for eps_b in (0.001, 0.01, 10**-1.5, 0.1, 0.5)]
    assert at == pytest.approx([0.2, 0.2, 0.1, 0.0, 0.0])
    assert model.model_copy(update={"selection_errors": ()}).selection_error(0.01) == 0


def test_shipped_tight_cuts_shift_jets_more_than_loose_ones() -> None:
    for model in (shipped_response().jet, shipped_response().groomed_jet):
        assert model.selection_error(0.001) > model.selection_error(0.01) > 0.05
        assert model.selection_error(0.1) < 0.05


@pytest.mark.parametrize("size", [0.0, 0.3])
def test_preferences_of_a_cut_are_measured_beyond_statistics(size: float) -> None:
    random = np.random.default_rng(5)
    model = shipped_response().jet.model_copy(update={"interpolation_error": 0.0})
    points = [
        _drawn_point(model, (4000.0, 100.0, 400.0), sign * size, random)
        for sign in (-1, 1, -1, 1, -1, 1)
    ]
    ((eps_b, error),) = fit_selection(model, {0.01: points}).selection_errors
    assert eps_b == 0.01
    assert error == pytest.approx(size, abs=0.06)


def _drawn_point(
    model: ShapeModel, masses: tuple[float, float, float], shift: float, random: np.random.Generator
) -> SignalEvents:
    """Draws 2,000 events whose jets are shifted by a number of widths of the core."""
    n_events, grid = 2000, np.linspace(-1, 1, 20_001)
    m_zprime, m_light, m_heavy = masses
    jets = []
    for mass in (m_light, m_heavy):
        ball = model.at(jet_terms(np.asarray(mass), np.asarray(m_zprime)))
        x = np.interp(random.random(n_events), ball.cdf(grid), grid) + shift * float(ball.scale)
        jets.append(mass * np.exp(x))
    light, heavy = np.minimum(*jets), np.maximum(*jets)
    ones = np.ones(n_events)
    return SignalEvents(
        m_zprime * ones, light, heavy, m_zprime * ones, m_light * ones, m_heavy * ones
    )
