"""Fits of a peak: pulls of mass and number, and jet masses after side-band subtraction."""

from __future__ import annotations

import numpy as np
import pytest
from iminuit import Minuit

from hepllm.search import resonance
from hepllm.search.jet_masses import excess_mass
from hepllm.search.records import Measurement
from hepllm.search.resonance import fit_background, fit_resonance, peak
from hepllm.search.scan import Bump, Windows
from hepllm.search.smooth import smooth_background
from hepllm.search.spectra import bin_edges

EDGES = bin_edges(2600, 8000, 0.025)
CENTRES = np.sqrt(EDGES[1:] * EDGES[:-1])
SMOOTH = smooth_background(EDGES, Windows(2, 8), "template", 0.05, 13000)
TEMPLATE = (1 - CENTRES / 13000) ** 8 * CENTRES**-5 * np.diff(EDGES)
BASIS, OFFSET = SMOOTH.factor[:, :2], np.log(TEMPLATE)


def _bump(mass: float, counts: np.ndarray, expected: np.ndarray) -> Bump:
    start = int(np.searchsorted(EDGES, 0.94 * mass)) - 1
    inside = slice(start, start + 5)
    return Bump(start, 5, int(counts[inside].sum()), float(expected[inside].sum()), 0.0)


@pytest.mark.parametrize("mass", [3000.0, 3800.0, 5000.0])
def test_mass_and_number_have_unit_pulls(mass: float) -> None:
    random = np.random.default_rng(int(mass))
    background = 200 * TEMPLATE / TEMPLATE.sum()
    expected = background + 60 * peak(EDGES, mass, 0.036)
    pulls = []
    for _ in range(60):
        counts = random.poisson(expected).astype(float)
        found = fit_resonance(counts, EDGES, BASIS, OFFSET, _bump(mass, counts, background))
        assert found.is_valid
        for truth, measured in ((mass, found.mass), (60, found.n_signal)):
            side = measured.below if measured.value > truth else measured.above
            pulls.append((measured.value - truth) / side)
    values = np.array(pulls).reshape(60, 2)
    # Means within four, widths within four standard errors of 60 pulls.
    assert np.abs(values.mean(axis=0)).max() < 4 / np.sqrt(60)
    np.testing.assert_allclose(values.std(axis=0), 1, atol=4 / np.sqrt(120))


def test_parts_add_up_to_the_spectrum() -> None:
    counts = np.random.default_rng(1).poisson(
        150 * TEMPLATE / TEMPLATE.sum() + 50 * peak(EDGES, 3500, 0.036)
    )
    background = 150 * TEMPLATE / TEMPLATE.sum()
    found = fit_resonance(
        counts.astype(float), EDGES, BASIS, OFFSET, _bump(3500, counts, background)
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
    found = fit_resonance(counts, EDGES, BASIS, OFFSET, _bump(CENTRES[12], counts, background))
    low, high = found.window(1)
    assert high - low == pytest.approx(2 * 0.036 * found.mass.value)


@pytest.mark.parametrize("mass", [2680.0, 4000.0])
def test_number_is_that_inside_the_range(mass: float) -> None:
    background = 200 * TEMPLATE / TEMPLATE.sum()
    signal = 200 * peak(EDGES, mass, 0.036)
    bump = Bump(0 if mass < 3000 else 16, 5, 150, 50.0, 0.0)
    found = fit_resonance(background + signal, EDGES, BASIS, OFFSET, bump)
    assert found.is_valid
    assert found.n_signal.value == pytest.approx(signal.sum(), rel=0.02)
    assert found.signal.sum() == pytest.approx(found.n_signal.value)
    assert (signal.sum() < 170) == (mass < 3000)


def test_interval_that_meets_a_limit_says_so() -> None:
    background = 150 * TEMPLATE / TEMPLATE.sum()
    counts = background.round()
    counts[12] += 40  # narrower than the peak may be
    found = fit_resonance(counts, EDGES, BASIS, OFFSET, _bump(CENTRES[12], counts, background))
    assert found.width.method == "minos, at limit"
    assert found.width.at_limit
    assert found.width.value - found.width.below >= 0.02 - 1e-6
    assert not found.mass.at_limit


def test_width_at_its_limit_is_told() -> None:
    background = 150 * TEMPLATE / TEMPLATE.sum()
    counts = background.round()
    counts[12] += 40
    narrow = fit_resonance(counts, EDGES, BASIS, OFFSET, _bump(CENTRES[12], counts, background))
    assert narrow.width_at_limit
    counts = (background + 60 * peak(EDGES, 3500, 0.036)).round()
    plain = fit_resonance(counts, EDGES, BASIS, OFFSET, _bump(3500, counts, background))
    assert not plain.width_at_limit


def test_where_minos_fails_at_a_width_limit_the_width_is_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    background = 150 * TEMPLATE / TEMPLATE.sum()
    counts = background.round()
    counts[12] += 40
    bump = _bump(CENTRES[12], counts, background)
    free = fit_resonance(counts, EDGES, BASIS, OFFSET, bump)
    original = resonance._measure

    def fails(minimum: Minuit, name: str) -> Measurement:
        if minimum.fixed["x2"]:
            return original(minimum, name)
        return Measurement(value=minimum.values[name], below=1e-6, above=1e-6, method="hesse")

    monkeypatch.setattr(resonance, "_measure", fails)
    held = fit_resonance(counts, EDGES, BASIS, OFFSET, bump)
    assert held.mass.method == "minos, width held at its limit"
    assert held.n_signal.method == "minos, width held at its limit"
    assert held.width.is_rough
    # Of the same likelihood, whose width hardly moves the number here.
    assert held.n_signal.below == pytest.approx(free.n_signal.below, rel=0.3)
    assert held.mass.below == pytest.approx(free.mass.below, rel=0.5)


def test_peak_of_nearly_all_events_is_found() -> None:
    # One start alone ended in a minimum with a negative number of events.
    counts = (40 * TEMPLATE / TEMPLATE.sum() + 900 * peak(EDGES, 4000, 0.036)).round()
    expected = counts.sum() * TEMPLATE / TEMPLATE.sum()
    start = int(np.searchsorted(EDGES, 3780)) - 1
    inside = slice(start, start + 4)
    bump = Bump(start, 4, int(counts[inside].sum()), float(expected[inside].sum()), 0.0)
    found = fit_resonance(counts, EDGES, BASIS, OFFSET, bump)
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


def test_jet_mass_of_an_excess_is_found_under_a_large_background() -> None:
    random = np.random.default_rng(4)
    sidebands = random.lognormal(4.6, 0.6, 400)
    window = np.concatenate([random.lognormal(4.6, 0.6, 80), random.normal(400, 25, 60)])
    found = excess_mass(window, sidebands, 80.0, 1)
    assert found.peak is not None
    assert abs(found.peak.value - 400) < 3 * max(found.peak.above, found.peak.below) + 4
    assert 0 < found.peak.above < 25
    assert found.window.sum() == 140
    assert found.background.sum() == pytest.approx(80)


def test_no_jet_mass_without_an_excess() -> None:
    masses = np.random.default_rng(5).lognormal(4.6, 0.6, 100)
    assert excess_mass(masses, masses, 98.0, 1).peak is None
    assert excess_mass(masses, masses[:0], 0.0, 1).peak is None


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
