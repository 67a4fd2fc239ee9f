from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hepllm.errors import InputError
from hepllm.weak.spectrum import in_region, interpolate_spectrum

REGION = SimpleNamespace(low=3300.0, high=3700.0)


def falling(count: int, seed: int) -> np.ndarray:
    """Masses from 2500 GeV with the density m^-6."""
    return np.asarray(2500 * (1 - np.random.default_rng(seed).random(count)) ** (-1 / 5))


def test_the_region_is_predicted_within_its_statistics() -> None:
    pulls = []
    for seed in range(40):
        m_jj = falling(20_000, seed)
        predicted = interpolate_spectrum(m_jj, REGION).expected.sum()
        truth = 20_000 * ((3300 / 2500) ** -5 - (3700 / 2500) ** -5)
        pulls.append((predicted - truth) / np.sqrt(truth))
    assert abs(np.mean(pulls)) < 0.5
    assert np.std(pulls) < 1.6


def test_events_inside_do_not_matter() -> None:
    m_jj = falling(20_000, 1)
    peak = np.random.default_rng(2).normal(3500, 30, 2000)
    peak = peak[in_region(peak, REGION)]
    plain = interpolate_spectrum(m_jj, REGION)
    with_peak = interpolate_spectrum(np.concatenate([m_jj, peak]), REGION)
    np.testing.assert_array_equal(plain.expected, with_peak.expected)


def test_draws_lie_inside_and_follow_the_spectrum() -> None:
    spectrum = interpolate_spectrum(falling(50_000, 3), REGION)
    drawn = spectrum.draw(200_000, np.random.default_rng(1))
    assert drawn.min() >= REGION.low
    assert drawn.max() < REGION.high
    low, high = (3300.0**-5 - 3700.0**-5), (3300.0**-5 - 3500.0**-5)
    assert (drawn < 3500).mean() == pytest.approx(high / low, abs=0.01)


@pytest.mark.parametrize(
    ("m_jj", "region", "words"),
    [
        (np.full(300, 3000.0), REGION, "0 events are above"),
        (np.full(300, 5000.0), REGION, "0 events are below"),
        (np.array([3000.0, np.nan]), REGION, "no positive number in 1 rows, the first is 1"),
        (np.array([3000.0, -1.0]), REGION, "no positive number"),
        (np.full(300, 3000.0), SimpleNamespace(low=3700.0, high=3300.0), "is empty"),
    ],
)
def test_refusals(m_jj: np.ndarray, region: SimpleNamespace, words: str) -> None:
    with pytest.raises(InputError, match=words):
        interpolate_spectrum(m_jj, region)
