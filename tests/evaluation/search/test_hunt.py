"""The search as a whole on drawn events, and what it reports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hepllm.config import SearchConfig
from hepllm.errors import InputError
from hepllm.evaluation.search.figures import plot_jet_masses, plot_spectrum
from hepllm.evaluation.search.hunt import BoxEvents, SearchResult, search, usable_selections
from hepllm.evaluation.search.resonance import Measurement
from hepllm.evaluation.search.spectra import Selection
from hepllm.evaluation.search.submission import (
    Efficiency,
    ReferenceSignal,
    Truth,
    corrected_number,
    format_submission,
    signal_efficiency,
    submission_tree,
)

MASS, N_SIGNAL, N_BACKGROUND = 4200.0, 120, 12_000
CONFIG = SearchConfig(efficiencies=(0.01, 0.003), max_toys=1000)


def _box(n_signal: int, seed: int, sculpting: float = 0.0) -> tuple[BoxEvents, np.ndarray]:
    """QCD-like events, of which heavy ones score higher by ``sculpting``, and a resonance."""
    random = np.random.default_rng(seed)
    m_jj = 2500 + random.exponential(600, N_BACKGROUND)
    m_jj[:5] = np.nan  # one jet only
    score = random.normal(size=N_BACKGROUND) + sculpting * (np.nan_to_num(m_jj) / 2500 - 1)
    light, heavy = random.lognormal(4.3, 0.5, (2, N_BACKGROUND))
    signal = random.normal(MASS, 0.036 * MASS, n_signal)
    events = BoxEvents(
        score=np.concatenate([score, random.normal(3, 1, n_signal)]),
        m_jj=np.concatenate([m_jj, signal]),
        jet_mass_light=np.concatenate([np.minimum(light, heavy), random.normal(90, 8, n_signal)]),
        jet_mass_heavy=np.concatenate([np.maximum(light, heavy), random.normal(400, 25, n_signal)]),
    )
    return events, np.arange(N_BACKGROUND + n_signal) >= N_BACKGROUND


@pytest.fixture(scope="module")
def found() -> SearchResult:
    return search(_box(N_SIGNAL, 1)[0], CONFIG, 1)


def test_injected_signal_is_found_with_its_mass_and_jets(found: SearchResult) -> None:
    assert found.toys.overall.value == pytest.approx(1 / 1001)
    assert found.n_events == N_BACKGROUND + N_SIGNAL
    mass = found.resonance.mass
    assert abs(mass.value - MASS) < 4 * max(mass.below, mass.above)
    assert max(mass.below, mass.above) < 60
    events, is_signal = _box(N_SIGNAL, 1)
    truth = (is_signal & (events.score > found.chosen.selection.threshold)).sum()
    number = found.resonance.n_signal
    assert abs(number.value - truth) < 4 * max(number.below, number.above)
    light, heavy = found.jet_masses["light"].peak, found.jet_masses["heavy"].peak
    assert light is not None
    assert heavy is not None
    assert abs(light.value - 90) < 8
    assert abs(heavy.value - 400) < 25


def test_nothing_is_claimed_without_signal() -> None:
    result = search(_box(0, 5)[0], CONFIG, 1)
    assert result.toys.overall.value > 0.01
    assert "no excess" in format_submission("box", result, submission_tree(result, None, None))


def test_score_that_follows_the_mass_is_told() -> None:
    result = search(_box(0, 3, sculpting=1.5)[0], CONFIG, 1)
    tree = submission_tree(result, None, None)
    assert any("changes the spectrum outside of the resonance" in one for one in tree["warnings"])
    assert "warning:" in format_submission("box", result, tree)
    assert result.toys.overall.value > 0.005  # smooth sculpting is taken up by the fit


def test_turn_on_in_the_range_is_told() -> None:
    events, _ = _box(0, 4)
    turning_on = events.m_jj < 3200
    kept = ~turning_on | (np.random.default_rng(1).random(len(turning_on)) < 0.3)
    result = search(events.take(kept), CONFIG, 1)
    assert any("m_jj_min" in one for one in submission_tree(result, None, None)["warnings"])


def test_tree_is_json_and_truth_stands_beside(found: SearchResult) -> None:
    events, is_signal = _box(N_SIGNAL, 1)
    reference = ReferenceSignal(
        np.random.default_rng(9).normal(3, 1, 500), np.full(500, MASS), np.ones(500), "simulation"
    )
    truth = Truth(is_signal, events.score, events.m_jj)
    tree = submission_tree(found, reference, truth)
    json.dumps(tree, allow_nan=False)
    assert tree["truth"]["n_signal_box"] == N_SIGNAL
    assert tree["truth"]["median_m_jj_of_signal_gev"] == pytest.approx(MASS, rel=0.02)
    box = tree["n_signal_box"]
    assert abs(box["value"] - N_SIGNAL) < 4 * max(box["below"], box["above"])
    assert any("10000 or more" in one for one in tree["warnings"]) == (tree["p_value"] < 1e-3)
    text = format_submission("box", found, tree)
    assert f"key: {N_SIGNAL} signal events" in text
    assert "S/B" in text


def test_search_is_reproducible(found: SearchResult) -> None:
    again = search(_box(N_SIGNAL, 1)[0], CONFIG, 1)
    assert again.toys == found.toys
    assert again.resonance.mass == found.resonance.mass
    assert again.jet_masses["heavy"].peak == found.jet_masses["heavy"].peak


def test_pictures_are_drawn(found: SearchResult, tmp_path: Path) -> None:
    plot_spectrum("box", found, tmp_path / "spectrum.png")
    plot_jet_masses("box", found, tmp_path / "jets.png")
    for file in tmp_path.iterdir():
        assert file.read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 2


def test_efficiency_has_the_interval_of_clopper_and_pearson() -> None:
    selection = Selection(0.01, 0.0, 10)
    reference = ReferenceSignal(
        np.repeat([1.0, -1.0], [30, 70]), np.full(100, 3000.0), np.ones(100), ""
    )
    found = signal_efficiency(reference, selection, (2600, 8000))
    assert found.value == pytest.approx(0.3)
    assert found.low < 0.3 - 0.9 * np.sqrt(0.21 / 100)
    assert found.high > 0.3 + 0.9 * np.sqrt(0.21 / 100)
    nothing = signal_efficiency(reference, selection, (4000, 8000))
    assert (nothing.value, nothing.low) == (0, 0)
    assert corrected_number(Measurement(10, 1, 1, "minos"), nothing) is None


def test_correction_adds_errors_in_quadrature() -> None:
    number = corrected_number(
        Measurement(50, 3, 4, "minos"), Efficiency(0.5, 0.5 / 1.08, 0.5 / 0.92, 100)
    )
    assert number is not None
    assert number.value == pytest.approx(100)
    assert number.above == pytest.approx(np.hypot(4, 50 * 0.08) / 0.5)
    assert number.below == pytest.approx(np.hypot(3, 50 * 0.08) / 0.5)


def test_too_few_events_are_told() -> None:
    with pytest.raises(InputError, match=r"needs 1000 events with 2600 < m_jj < 8000 GeV, found 9"):
        usable_selections(np.arange(9.0), CONFIG)
    with pytest.raises(InputError, match=r"the selection of 0\.01 keeps 15 of 1500 events"):
        usable_selections(np.arange(1500.0), CONFIG)
    assert len(usable_selections(np.arange(4000.0), CONFIG)) == 1
