"""Fits of a peak: pulls of mass and number, and jet masses after side-band subtraction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from hepllm.search.jet_masses import JetMass, JetPairs, JetResponse, fit_jet_masses
from hepllm.search.measurements import Measurement
from hepllm.search.peak_shape import PeakShape
from hepllm.search.poisson import fit
from hepllm.search.resonance import SmoothSpectrum, fit_background, fit_resonance, modes_of
from hepllm.search.response import jet_terms, shipped_response
from hepllm.search.scan import Bump, Windows
from hepllm.search.smooth import smooth_background
from hepllm.search.spectra import bin_edges

EDGES = bin_edges(2600, 8000, 0.025)
CENTRES = np.sqrt(EDGES[1:] * EDGES[:-1])
SMOOTH = smooth_background(EDGES, Windows(2, 8), "template", 0.05, 13000)
TEMPLATE = (1 - CENTRES / 13000) ** 8 * CENTRES**-5 * np.diff(EDGES)
BASIS, OFFSET = SMOOTH.factor[:, :2], np.log(TEMPLATE)
KNOWN = SmoothSpectrum.known(BASIS, OFFSET)
SHAPE = PeakShape.shipped()


def _bump(mass: float, counts: np.ndarray, expected: np.ndarray) -> Bump:
    start = int(np.searchsorted(EDGES, 0.94 * mass)) - 1
    inside = slice(start, start + 5)
    return Bump(start, 5, int(counts[inside].sum()), float(expected[inside].sum()), 0.0)


@pytest.mark.parametrize("mass", [3000.0, 3800.0, 5000.0])
def test_mass_and_number_have_unit_pulls(mass: float) -> None:
    random = np.random.default_rng(int(mass))
    background = 200 * TEMPLATE / TEMPLATE.sum()
    expected = background + 60 * SHAPE.shares(EDGES, mass)
    pulls = []
    for _ in range(30):
        counts = random.poisson(expected).astype(float)
        found = fit_resonance(counts, EDGES, KNOWN, _bump(mass, counts, background), SHAPE)
        assert found.is_valid
        for truth, measured in ((mass, found.mass), (60, found.n_signal)):
            side = measured.below if measured.value > truth else measured.above
            pulls.append((measured.value - truth) / side)
    values = np.array(pulls).reshape(30, 2)
    # Means within four, widths within four standard errors of 30 pulls.
    assert np.abs(values.mean(axis=0)).max() < 4 / np.sqrt(30)
    np.testing.assert_allclose(values.std(axis=0), 1, atol=4 / np.sqrt(60))


def test_parts_add_up_to_the_spectrum() -> None:
    counts = np.random.default_rng(1).poisson(
        150 * TEMPLATE / TEMPLATE.sum() + 50 * SHAPE.shares(EDGES, 3500)
    )
    background = 150 * TEMPLATE / TEMPLATE.sum()
    found = fit_resonance(
        counts.astype(float), EDGES, KNOWN, _bump(3500, counts, background), SHAPE
    )
    assert (found.background + found.signal).sum() == pytest.approx(counts.sum(), rel=1e-3)
    assert found.signal.sum() == pytest.approx(found.n_signal.value, rel=1e-3)
    assert found.mass.method == "minos"
    low, high = found.window(2)
    assert (low + high) / 2 == pytest.approx(found.mass.value)


def test_window_is_not_narrower_than_the_resolution() -> None:
    background = 150 * TEMPLATE / TEMPLATE.sum()
    counts = background.round()
    counts[12] += 40  # one bin
    found = fit_resonance(counts, EDGES, KNOWN, _bump(CENTRES[12], counts, background), SHAPE)
    low, high = found.window(1)
    assert high - low == pytest.approx(
        2 * SHAPE.resolution(CENTRES[12]) * found.mass.value, rel=0.15
    )


@pytest.mark.parametrize("mass", [2680.0, 4000.0])
def test_number_is_that_inside_the_range(mass: float) -> None:
    background = 200 * TEMPLATE / TEMPLATE.sum()
    signal = 200 * SHAPE.shares(EDGES, mass)
    bump = Bump(0 if mass < 3000 else 16, 5, 150, 50.0, 0.0)
    found = fit_resonance(background + signal, EDGES, KNOWN, bump, SHAPE)
    assert found.is_valid
    assert found.n_signal.value == pytest.approx(signal.sum(), rel=0.02)
    assert found.signal.sum() == pytest.approx(found.n_signal.value)
    assert (signal.sum() < 180) == (mass < 3000)


def test_interval_that_meets_a_limit_says_so() -> None:
    background = 150 * TEMPLATE / TEMPLATE.sum()
    counts = background.round()
    counts[12] += 40  # narrower than the peak may be
    found = fit_resonance(counts, EDGES, KNOWN, _bump(CENTRES[12], counts, background), SHAPE)
    assert found.width.method == "minos, at limit"
    assert found.width.at_limit
    assert found.width.value - found.width.below >= 0.5 * SHAPE.resolution(CENTRES[12]) - 1e-4
    assert not found.mass.at_limit


def test_width_at_its_limit_is_told() -> None:
    background = 150 * TEMPLATE / TEMPLATE.sum()
    counts = background.round()
    counts[12] += 40
    narrow = fit_resonance(counts, EDGES, KNOWN, _bump(CENTRES[12], counts, background), SHAPE)
    assert narrow.width_at_limit
    counts = (background + 60 * SHAPE.shares(EDGES, 3500)).round()
    plain = fit_resonance(counts, EDGES, KNOWN, _bump(3500, counts, background), SHAPE)
    assert not plain.width_at_limit


def test_a_wide_peak_has_a_free_width() -> None:
    background = 300 * TEMPLATE / TEMPLATE.sum()
    counts = background + 200 * SHAPE.shares(EDGES, 4000, widening=2.0)
    wide = fit_resonance(counts, EDGES, KNOWN, _bump(4000, counts, background), SHAPE)
    assert wide.is_wide
    assert wide.n_signal.method == "minos, free width"
    assert wide.n_signal.value == pytest.approx(200, rel=0.1)
    assert wide.resolution == pytest.approx(2 * SHAPE.resolution(4000), rel=0.1)
    counts = background + 200 * SHAPE.shares(EDGES, 4000)
    narrow = fit_resonance(counts, EDGES, KNOWN, _bump(4000, counts, background), SHAPE)
    assert not narrow.is_wide
    assert narrow.n_signal.method == "minos"


def test_events_beyond_a_gaussian_are_counted() -> None:
    # Tails of the response: a Gaussian of the core's width finds too few events.
    background = 100 * TEMPLATE / TEMPLATE.sum()
    counts = background + 300 * SHAPE.shares(EDGES, 3500)
    found = fit_resonance(counts, EDGES, KNOWN, _bump(3500, counts, background), SHAPE)
    signal = 300 * SHAPE.shares(EDGES, 3500).sum()
    assert found.n_signal.value == pytest.approx(signal, rel=0.01)
    width = SHAPE.resolution(3500) * 3500
    gaussian = np.diff(norm.cdf(EDGES, 3500, width))
    assert gaussian @ (counts - background) / (gaussian @ gaussian) < 0.93 * signal


def test_an_uncertain_offset_widens_the_interval() -> None:
    background = 3000 * TEMPLATE / TEMPLATE.sum()
    counts = (background + 150 * SHAPE.shares(EDGES, 4000)).round()
    bump = _bump(4000, counts, background)
    # Few rejected events leave the offset open.
    modes = modes_of(SMOOTH.shape[:, :4], 500 * TEMPLATE / TEMPLATE.sum())
    known, unknown = (
        fit_resonance(counts, EDGES, one, bump, SHAPE)
        for one in (KNOWN, SmoothSpectrum(BASIS, OFFSET, modes))
    )
    assert unknown.n_signal.above > 1.05 * known.n_signal.above
    assert unknown.n_signal.value == pytest.approx(known.n_signal.value, rel=0.2)


def test_modes_have_the_covariance_of_the_fit() -> None:
    random, truth = np.random.default_rng(8), 800 * TEMPLATE / TEMPLATE.sum()
    columns = SMOOTH.shape[:, :3]
    fitted = fit(random.poisson(truth, (2000, len(truth))).astype(float), columns, SMOOTH.log_width)
    spread = np.log(fitted.expected).std(axis=0)
    modes = modes_of(columns, truth)
    np.testing.assert_allclose(np.sqrt(np.square(modes).sum(axis=1)), spread, rtol=0.15)


def test_mass_has_a_systematic_error_by_the_response() -> None:
    background = 100 * TEMPLATE / TEMPLATE.sum()
    counts = (background + 100 * SHAPE.shares(EDGES, 3500)).round()
    mass = fit_resonance(counts, EDGES, KNOWN, _bump(3500, counts, background), SHAPE).mass
    assert {"calibration", "simulation"} <= set(mass.systematics)
    low, high = mass.interval
    assert low < mass.value - mass.below
    assert high > mass.value + mass.above


def test_peak_of_nearly_all_events_is_found() -> None:
    # One start alone ended in a minimum with a negative number of events.
    counts = (40 * TEMPLATE / TEMPLATE.sum() + 900 * SHAPE.shares(EDGES, 4000)).round()
    expected = counts.sum() * TEMPLATE / TEMPLATE.sum()
    start = int(np.searchsorted(EDGES, 3780)) - 1
    inside = slice(start, start + 4)
    bump = Bump(start, 4, int(counts[inside].sum()), float(expected[inside].sum()), 0.0)
    found = fit_resonance(counts, EDGES, KNOWN, bump, SHAPE)
    assert found.is_valid
    assert found.mass.value == pytest.approx(4000, rel=0.005)
    assert found.n_signal.value == pytest.approx(900, rel=0.05)


@pytest.mark.parametrize("n_events", [1, 3, 25])
def test_background_of_few_events_has_an_error(n_events: int) -> None:
    counts = np.zeros(len(CENTRES))
    counts[:n_events] = 1
    found = fit_background(counts, SMOOTH.factor[:, :4], OFFSET)
    assert np.isfinite(found.error).all()
    assert found.expected.sum() == pytest.approx(n_events, rel=0.05)


def test_background_errors_are_those_of_repetition() -> None:
    random = np.random.default_rng(3)
    truth = 500 * TEMPLATE / TEMPLATE.sum()
    fits = [fit_background(random.poisson(truth).astype(float), BASIS, OFFSET) for _ in range(80)]
    spread = np.std([one.expected for one in fits], axis=0)
    error = np.mean([one.error for one in fits], axis=0)
    np.testing.assert_allclose(spread[:30], error[:30], rtol=0.35)


JETS = JetResponse(shipped_response().jet, 4000.0)


def _jets(light: float, heavy: float, n: int, random: np.random.Generator) -> JetPairs:
    """Jets of signal that follow the response."""
    grid = np.linspace(-2, 2, 2001)
    masses = []
    for mass in (light, heavy):
        cdf = JETS.model.at(jet_terms(np.asarray(mass), np.asarray(4000.0))).cdf(grid)
        masses.append(mass * np.exp(np.interp(random.random(n), cdf, grid)))
    return JetPairs(np.minimum(*masses), np.maximum(*masses))


def _qcd(n: int, random: np.random.Generator) -> JetPairs:
    pairs = random.lognormal(4.8, 0.6, (2, n))
    return JetPairs(np.minimum(*pairs), np.maximum(*pairs))


def _both(first: JetPairs, second: JetPairs) -> JetPairs:
    light = np.concatenate([first.light, second.light])
    return JetPairs(light, np.concatenate([first.heavy, second.heavy]))


def _fit(window: JetPairs, sidebands: JetPairs, n: float, seed: int) -> dict[str, JetMass]:
    return fit_jet_masses(
        window, sidebands, JETS, n_background=n, background_error=5.0, seed=seed, n_replicas=3
    )


@pytest.mark.parametrize(("light", "heavy"), [(80.0, 400.0), (300.0, 500.0), (200.0, 220.0)])
def test_jet_masses_have_unit_pulls_without_bias(light: float, heavy: float) -> None:
    random = np.random.default_rng(int(light))
    pulls = []
    for seed in range(10):
        signal = _jets(light, heavy, 50, random)
        window = _both(signal, _qcd(random.poisson(40), random))
        found = _fit(window, _qcd(300, random), 40.0, seed)
        for jet, truth in (("light", light), ("heavy", heavy)):
            mass = found[jet].peak
            assert mass is not None
            side = mass.below if mass.value > truth else mass.above
            pulls.append((mass.value - truth) / np.hypot(side, mass.systematics["sidebands"]))
    values = np.array(pulls).reshape(-1, 2)
    assert np.abs(values.mean(axis=0)).max() < 4 / np.sqrt(len(values))
    assert (np.abs(values) < 1).mean() > 0.68 - 4 * np.sqrt(0.68 * 0.32 / values.size)


def test_jet_mass_interval_has_all_systematic_errors() -> None:
    random = np.random.default_rng(4)
    window = _both(_jets(90.0, 400.0, 60, random), _qcd(80, random))
    found = _fit(window, _qcd(400, random), 80.0, 1)
    for mass in (found["light"].peak, found["heavy"].peak):
        assert mass is not None
        assert {"calibration", "simulation", "sidebands"} <= set(mass.systematics)
        assert mass.interval[0] < mass.value - mass.below
    assert found["light"].window.sum() == 140
    assert found["light"].background.sum() == pytest.approx(80)


def test_events_without_jet_masses_are_left_out() -> None:
    random = np.random.default_rng(6)
    window = _both(_jets(90.0, 400.0, 60, random), _qcd(40, random))
    sidebands = _qcd(300, random)
    nothing = JetPairs(np.full(50, np.nan), np.full(50, np.nan))
    whole = _fit(window, sidebands, 40.0, 1)["heavy"].peak
    # As many events without masses, in the window and in the side-bands, are left out.
    some = _fit(_both(window, nothing), _both(sidebands, nothing), 40.0 * 350 / 300, 1)
    assert whole is not None
    assert some["heavy"].peak is not None
    assert some["heavy"].peak.value == pytest.approx(whole.value, rel=0.01)
    assert _fit(nothing, nothing, 10.0, 1)["light"].peak is None


def test_no_jet_mass_without_an_excess() -> None:
    pairs = _qcd(100, np.random.default_rng(5))
    assert _fit(pairs, pairs, 98.0, 1)["light"].peak is None
    assert _fit(pairs, pairs.take(np.arange(0)), 0.0, 1)["light"].peak is None


@pytest.mark.parametrize(
    ("value", "below", "above", "text"),
    [
        (226.24, 110.0, 77.1, "226 -110 +77"),
        (0.0201, 1.5e-9, 0.0053, "0.0201 -0.0000 +0.0053"),
        (8.182, 2.8, 3.4, "8.2 -2.8 +3.4"),
        (3500.4, 12.3, 14.6, "3500 -12 +15"),
        (3500.4, float("inf"), 14.6, "3500.40 -inf +14.60"),
    ],
)
def test_measurement_in_words(value: float, below: float, above: float, text: str) -> None:
    assert str(Measurement(value=value, below=below, above=above, method="minos")) == text


def test_measurement_has_both_errors() -> None:
    mass = Measurement(value=3500.4, below=12.3, above=14.6, method="minos")
    both = mass.with_systematics(calibration=3.0, simulation=4.0, nothing=0.0)
    assert str(both) == "3500 -12 +15 +-5 (syst)"
    assert both.systematic == pytest.approx(5.0)
    assert both.interval == pytest.approx((3500.4 - np.hypot(12.3, 5), 3500.4 + np.hypot(14.6, 5)))
    assert both.scaled(2.0).systematics == {"calibration": 6.0, "simulation": 8.0}
    assert Measurement.model_validate(both.tree()) == both
    assert "systematics" not in mass.tree()
