from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from hepllm.errors import InputError
from hepllm.weak.density import fit_sidebands, interpolate
from hepllm.weak.flow import FlowSettings

pytest.importorskip("zuko")

REGION = SimpleNamespace(low=3300.0, high=3700.0)
QUICK = FlowSettings(transforms=2, hidden=(16,), max_epochs=4, n_best=2, batch=256)


def toy(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two features: the mean of the first follows m_jj, the second follows the first."""
    generator = np.random.default_rng(seed)
    m_jj = 2500 * (1 - generator.random(count)) ** (-1 / 4)
    first = m_jj / 1000 + 0.3 * generator.standard_normal(count)
    second = 0.5 * first + 0.1 * generator.standard_normal(count)
    return np.column_stack([first, second]), m_jj


def test_equal_seeds_give_equal_events_and_the_region_is_not_looked_at() -> None:
    features, m_jj = toy(2000, 1)
    inside = (m_jj >= REGION.low) & (m_jj < REGION.high)
    once = interpolate(features, m_jj, REGION, 300, 5, settings=QUICK)
    changed = np.where(inside[:, None], np.nan, features)
    np.testing.assert_array_equal(once, interpolate(changed, m_jj, REGION, 300, 5, settings=QUICK))
    assert not np.array_equal(once, interpolate(features, m_jj, REGION, 300, 6, settings=QUICK))
    assert once.shape == (300, 2)
    assert np.isfinite(once).all()


def test_a_single_event_can_be_drawn() -> None:
    assert interpolate(*toy(600, 8), REGION, 1, 5, settings=QUICK).shape == (1, 2)


def test_absent_values_are_part_of_the_template() -> None:
    features, m_jj = toy(3000, 2)
    features[::5, 1] = np.nan
    drawn = interpolate(features, m_jj, REGION, 2000, 1, settings=QUICK)
    assert np.isnan(drawn[:, 1]).mean() == pytest.approx(0.2, abs=0.05)
    assert np.isfinite(drawn[:, 0]).all()


@pytest.mark.slow
def test_the_template_agrees_with_the_background_of_the_region() -> None:
    features, m_jj = toy(30_000, 3)
    inside = (m_jj >= REGION.low) & (m_jj < REGION.high)
    density = fit_sidebands(features, m_jj, REGION, 1, FlowSettings(max_epochs=15))
    drawn, drawn_m = density.sample(20_000, 2)
    truth = features[inside]
    assert ks_2samp(drawn_m, m_jj[inside]).statistic < 0.03
    for index in range(2):
        assert ks_2samp(drawn[:, index], truth[:, index]).statistic < 0.04
    assert np.corrcoef(drawn.T)[0, 1] == pytest.approx(np.corrcoef(truth.T)[0, 1], abs=0.02)
    # The sidebands themselves do not: their mean, for one, is elsewhere.
    assert ks_2samp(features[~inside][:, 0], truth[:, 0]).statistic > 0.2


def test_samples_come_from_all_of_the_best_epochs() -> None:
    features, m_jj = toy(2000, 4)
    flow = fit_sidebands(features, m_jj, REGION, 1, QUICK).density.flow
    assert len(flow.states) == 2
    assert list(flow.validation_loss) == sorted(flow.validation_loss)
    assert flow.n_epochs == 4


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    features, m_jj = toy(2000, 5)
    with pytest.raises(InputError, match="do not fit m_jj"):
        interpolate(features, m_jj[:-1], REGION, 10, 1, settings=QUICK)
    with pytest.raises(InputError, match="at least one event"):
        interpolate(features, m_jj, REGION, 0, 1, settings=QUICK)
    with pytest.raises(InputError, match="100 on either side"):
        interpolate(features, m_jj, SimpleNamespace(low=2500.0, high=3700.0), 10, 1, settings=QUICK)
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(InputError, match=r"pip install 'hepllm\[weak\]'"):
        interpolate(features, m_jj, REGION, 10, 1, settings=QUICK)
