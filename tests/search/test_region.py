"""Parts of the mass range that a search is restricted to, and p-values of several."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hepllm.config import SearchConfig
from hepllm.errors import InputError
from hepllm.search.box import BoxEvents
from hepllm.search.hunt import prepare_background, search
from hepllm.search.region import MassRegion, after_trials
from hepllm.search.scan import Windows, scan_batch, scan_data
from hepllm.search.spectra import bin_edges
from hepllm.search.submission import findings_of, search_box
from hepllm.search.toys import PValue

CONFIG = SearchConfig(efficiencies=(0.02,), toys=1000, max_toys=1000, limit_step=0.2, limit_toys=20)
EDGES = bin_edges(CONFIG.m_jj_min, CONFIG.m_jj_max, CONFIG.bin_width)


def _box(masses: tuple[float, ...]) -> BoxEvents:
    """Falling background, and a resonance of high scores at each mass."""
    random = np.random.default_rng(3)
    m_jj = [2600 + random.exponential(600, 6000)]
    m_jj += [random.normal(mass, 0.03 * mass, 60) for mass in masses]
    score = random.normal(size=sum(map(len, m_jj)))
    score[6000:] += 4
    none = np.full(len(score), np.nan)
    return BoxEvents(score, np.concatenate(m_jj), none, none)


def test_a_region_has_whole_bins() -> None:
    region = MassRegion(float(EDGES[10]), float(EDGES[15]))
    assert region.bins(EDGES) == (10, 15)
    assert MassRegion(EDGES[10] * 0.999, EDGES[15] * 1.001).bins(EDGES) == (10, 15)
    assert MassRegion(EDGES[10] * 1.001, EDGES[15] * 0.999).bins(EDGES) == (11, 14)


def test_windows_stay_inside() -> None:
    random = np.random.default_rng(1)
    expected = 200 * np.exp(-np.arange(30) / 5.0)
    counts = random.poisson(expected, (50, 30)).astype(float)
    both = np.broadcast_to(expected, counts.shape)
    found = scan_batch(counts, both, Windows(2, 6, 8, 14))
    alone = scan_batch(counts[:, 8:14], both[:, 8:14], Windows(2, 6))
    np.testing.assert_allclose(found.statistic, alone.statistic, rtol=1e-9)
    np.testing.assert_array_equal(found.start, alone.start + 8)
    edges = np.geomspace(2600, 8000, 31)
    bump = scan_data(counts[0], expected, edges, Windows(2, 6, 8, 14))
    assert -np.log(bump.local_p) == pytest.approx(found.statistic[0], abs=1e-9)
    assert 8 <= bump.start <= 14 - bump.width


@pytest.mark.parametrize("p_value", [1e-9, 0.004, 0.3, 1.0])
def test_trials_are_those_of_independent_searches(p_value: float) -> None:
    assert after_trials(p_value, 7) == pytest.approx(1 - (1 - p_value) ** 7)
    assert after_trials(p_value, 1) == p_value


def test_the_smallest_of_uniform_p_values_is_uniform_after_trials() -> None:
    smallest = np.random.default_rng(5).random((20_000, 6)).min(axis=1)
    after = np.array([after_trials(float(one), 6) for one in smallest])
    for level in (0.05, 0.3, 0.8):
        error = np.sqrt(level * (1 - level) / len(after))
        assert abs((after < level).mean() - level) < 4 * error


def test_p_values_count_trials() -> None:
    assert PValue(4, 999, trials=3).value == pytest.approx(1 - 0.995**3)


def test_only_excesses_in_the_region_count() -> None:
    """Of two resonances, each region has its own; the p-value counts both regions."""
    events = _box((3400, 4800))
    regions = [MassRegion(float(EDGES[low]), float(EDGES[low + 8]), 2) for low in (7, 20)]
    for region, mass in zip(regions, (3400, 4800), strict=True):
        result = search(events, CONFIG, 1, region=region)
        low, high = region.low, region.high
        edges, bump = result.spectra.edges, result.chosen.bump
        assert low <= edges[bump.start] * 1.0001
        assert edges[bump.start + bump.width] <= high * 1.0001
        assert result.resonance.mass.value == pytest.approx(mass, rel=0.04)
        assert low <= result.chosen.local.mass <= high
        toys = result.toys.overall
        alone = replace(toys, trials=1).value
        assert toys.value == pytest.approx(1 - (1 - alone) ** 2)
        found = findings_of(result, None)
        assert (found.region_gev, found.n_regions) == ((low, high), 2)


def test_limits_are_those_of_the_region() -> None:
    region = MassRegion(float(EDGES[20]), float(EDGES[28]))
    _, found = search_box(_box(()), CONFIG, 1, region=region)
    assert found.upper_limits is not None
    masses = [one.mass_gev for one in found.upper_limits.by_mass]
    assert region.low * 0.999 < min(masses) < max(masses) < region.high * 1.001


def test_a_region_without_a_window_is_refused() -> None:
    with pytest.raises(InputError, match="has 1 bins, fewer than"):
        prepare_background(EDGES, CONFIG, MassRegion(float(EDGES[3]), float(EDGES[4])))
