"""The p-values of a scan over the masses of X and Y."""

from __future__ import annotations

import numpy as np
import pytest

from hepllm.config.evaluation import SearchConfig
from hepllm.errors import InputError
from hepllm.hypotheses.hypothesis import Hypothesis
from hepllm.hypotheses.signal import Product, Signal
from hepllm.hypotheses.trained_range import TrainedRange
from hepllm.search.box import BoxEvents
from hepllm.search.mass_plane import plane_points, select_in_plane
from hepllm.search.plane_toys import PlaneResult, run_block, scan_plane
from hepllm.search.plane_toys import _null as null_of

CONFIG = SearchConfig(
    efficiencies=(0.05, 0.01),
    m_jj_min=2600,
    m_jj_max=6000,
    plane={"masses": 4, "m_min": 100, "m_max": 800, "toys": 200, "max_toys": 200},
)
TRAINED = TrainedRange.of(
    [
        Signal((Product(100, "qq"), Product(60, "qq"))),
        Signal((Product(700, "bb"), Product(300, "qqq"))),
    ]
)


def box(n: int, seed: int, n_signal: int = 0) -> tuple[BoxEvents, np.ndarray]:
    """A falling spectrum with jet masses, and a signal of 400 and 200 GeV at 3.5 TeV."""
    random = np.random.default_rng(seed)
    m_jj = 2600 * (1 + random.pareto(6.0, n))
    light, heavy = np.sort(np.exp(random.normal(4.8, 0.7, (2, n))), axis=0)
    if n_signal:
        m_jj[:n_signal] = random.normal(3500, 80, n_signal)
        light[:n_signal] = random.normal(200, 10, n_signal)
        heavy[:n_signal] = random.normal(400, 20, n_signal)
    noise = random.normal(0, 0.3, n)
    return BoxEvents(np.zeros(n), m_jj, light, heavy), noise


def score_of(events: BoxEvents, noise: np.ndarray):
    def score(hypothesis: Hypothesis) -> np.ndarray:
        heavy, light = hypothesis.masses
        distance = np.hypot(
            np.log(events.jet_mass_heavy / heavy), np.log(events.jet_mass_light / light)
        )
        return -distance / 0.2 + noise

    return score


def scan(events: BoxEvents, noise: np.ndarray, seed: int = 1) -> PlaneResult:
    points = plane_points(CONFIG.plane, None)
    spectra = select_in_plane(events, points, score_of(events, noise), CONFIG)
    return scan_plane(spectra, CONFIG, seed)


def test_points_are_all_pairs_in_the_range_of_the_training() -> None:
    config = CONFIG.plane.model_copy(update={"m_min": None, "m_max": None, "masses": 5})
    masses = [one.masses for one in plane_points(config, TRAINED)]
    assert len(masses) == len(set(masses))
    assert all(60 <= light <= 300 and 100 <= heavy <= 700 for heavy, light in masses)
    assert all(light <= heavy for heavy, light in masses)
    assert (700.0, 60.0) in masses
    assert len(plane_points(CONFIG.plane, None)) == 10


def test_points_state_the_decays_that_are_asked_for() -> None:
    config = CONFIG.plane.model_copy(update={"decay_x": "bb", "decay_y": "bb"})
    assert {one.signal.decays for one in plane_points(config, None)} == {("bb", "bb")}


def test_masses_must_be_known_or_set() -> None:
    config = CONFIG.plane.model_copy(update={"m_min": None})
    with pytest.raises(InputError, match=r"plane\.m_min"):
        plane_points(config, None)
    config = CONFIG.plane.model_copy(update={"m_min": 2000, "m_max": 3000})
    with pytest.raises(InputError, match="no pair of masses from 2000 to 3000 GeV"):
        plane_points(config, TRAINED)


def test_spectra_are_those_of_each_point_alone() -> None:
    events, noise = box(5000, 1)
    points, score = plane_points(CONFIG.plane, None), score_of(events, noise)
    spectra = select_in_plane(events, points, score, CONFIG)
    inside = (events.m_jj >= 2600) & (events.m_jj < 6000)
    for place, point in enumerate(points):
        kept = score(point)[inside] > spectra.cuts[place][0].threshold
        counts = np.histogram(events.m_jj[inside][kept], spectra.edges)[0]
        np.testing.assert_array_equal(spectra.selected[place, 0], counts)
        assert spectra.cuts[place][0].efficiency == 0.01
        assert spectra.passing[[place]].sum() == counts.sum()
        assert abs(counts.sum() - 0.01 * inside.sum()) <= 1
    total = np.histogram(events.m_jj, spectra.edges)[0]
    np.testing.assert_array_equal(spectra.rejected + spectra.selected[:, 0], [total] * len(points))


def test_pseudo_experiments_have_the_expected_spectra_and_shared_events() -> None:
    events, noise = box(20_000, 2)
    points = plane_points(CONFIG.plane, None)
    config = CONFIG.model_copy(update={"plane": CONFIG.plane.model_copy(update={"selections": 2})})
    spectra = select_in_plane(events, points, score_of(events, noise), config)
    result = scan_plane(spectra, config, 1)
    null = null_of(spectra, result.background, result.fits)
    counts = null.throw(400, np.random.default_rng(3))
    n_points, n_selections, n_bins = spectra.shape
    by_point = counts.reshape(n_points, n_selections, 400, n_bins)
    # Events of the tighter selection pass the looser one as well.
    assert (by_point[:, 1] <= by_point[:, 0]).all()
    totals = counts.sum(axis=2)
    wanted = spectra.selected.sum(axis=2).ravel()
    np.testing.assert_allclose(totals.mean(axis=1), wanted, rtol=0.05)
    np.testing.assert_allclose(totals.var(axis=1), wanted, rtol=0.35)
    shared = (spectra.passing @ spectra.passing.T).toarray()
    covariance = np.cov(totals)
    np.testing.assert_allclose(covariance, shared, atol=0.35 * wanted.max())
    # The smooth spectra of the points stay theirs.
    for place in range(n_points):
        expected = result.fits.selected[0].expected[place]
        found = by_point[place, 0].mean(axis=0)
        assert np.abs(np.cumsum(found - expected)).max() < 0.05 * expected.sum()


def test_a_block_depends_on_seed_and_number_only() -> None:
    events, noise = box(5000, 1)
    spectra = select_in_plane(
        events, plane_points(CONFIG.plane, None), score_of(events, noise), CONFIG
    )
    result = scan_plane(spectra, CONFIG, 1)
    null = null_of(spectra, result.background, result.fits)
    one, same, other = (run_block(null, 1, block) for block in (3, 3, 4))
    np.testing.assert_array_equal(one.statistic, same.statistic)
    assert not np.array_equal(one.statistic, other.statistic)


def test_a_signal_is_found_at_its_masses() -> None:
    events, noise = box(20_000, 4, n_signal=60)
    result = scan(events, noise)
    assert result.points[result.best].bump.n_observed > 30
    assert result.spectra.hypotheses[result.best].masses == (400.0, 200.0)
    low = result.spectra.edges[result.points[result.best].bump.start]
    assert 3100 < low < 3600
    assert result.overall.n_exceeding == 0
    found = result.extrapolation
    assert found is not None
    assert found.p_point < found.p_value < found.upper < 1e-4
    assert 1 <= result.n_trials <= 10


def test_without_a_signal_nothing_is_found() -> None:
    events, noise = box(20_000, 5)
    result = scan(events, noise)
    assert result.overall.value > 0.02
    assert result.overall.value >= min(one.p_value.value for one in result.points)
