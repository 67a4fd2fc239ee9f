"""Efficiencies as a function of the masses: what the points say, and how sure it is between."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from hepllm.errors import InputError
from hepllm.search.signal_grid import EfficiencyByMass, SignalGrid, masses_at
from hepllm.search.spectra import ScoreCut

MASSES = np.array(
    [
        (m_zprime, m_x, m_y)
        for m_zprime in (2700.0, 3500.0, 4600.0, 6000.0, 7400.0)
        for m_x in (100.0, 200.0, 400.0)
        for m_y in (100.0, 200.0, 400.0)
        if m_y <= m_x
    ]
)


def _truth(masses: np.ndarray) -> np.ndarray:
    """An efficiency that rises with Z' and is highest for jets of one mass."""
    z, x, y = np.log(masses / [4000, 250, 120]).T
    return expit(0.5 + z - 1.5 * x**2 - y**2)


def _fitted(n_events: int, seed: int = 1) -> EfficiencyByMass:
    random = np.random.default_rng(seed)
    total = np.full(len(MASSES), n_events)
    return EfficiencyByMass.of_counts(MASSES, random.binomial(total, _truth(MASSES)), total, "grid")


def _between(n_points: int) -> np.ndarray:
    random = np.random.default_rng(3)
    z = np.exp(random.uniform(*np.log([2700, 7400]), n_points))
    jets = np.sort(np.exp(random.uniform(*np.log([100, 400]), (n_points, 2))), axis=1)
    return np.column_stack([z, jets[:, ::-1]])


@pytest.mark.parametrize("n_events", [60, 1000])
def test_errors_between_points_cover(n_events: int) -> None:
    points = _between(300)
    found = _fitted(n_events).at(points)
    value, low, high = (logit([getattr(one, key) for one in found]) for key in
                        ("value", "low", "high"))  # fmt: skip
    pulls = (value - logit(_truth(points))) / ((high - low) / 2)
    assert abs(pulls.mean()) < 0.6
    # This truth is smoother than the process, so the errors are too large rather than too small.
    assert 0.1 < pulls.std() < 1.3


def test_jets_of_the_grid_are_known_at_any_mass() -> None:
    points = np.array([(m_zprime, 200, 100) for m_zprime in (2900, 3200, 4000, 5200, 6700)])
    widths = []
    for n_events in (60, 2000):
        found = _fitted(n_events).at(points)
        for one, truth in zip(found, _truth(points), strict=True):
            assert abs(logit(one.value) - logit(truth)) < 2 * (logit(one.high) - logit(one.low))
        widths.append(np.mean([one.high - one.low for one in found]))
    assert widths[0] < 0.15
    assert widths[1] < 0.6 * widths[0]
    (between,) = _fitted(2000).at(np.array([[4000, 280, 140]]))
    assert between.high - between.low > 2 * widths[1]


def test_points_with_many_events_are_reproduced() -> None:
    found = _fitted(100_000).at(MASSES)
    np.testing.assert_allclose([one.value for one in found], _truth(MASSES), rtol=0.02)
    assert all(one.low < one.value < one.high for one in found)
    assert found[0].of == "grid, Z' 2700, X 100, Y 100 GeV"


def test_error_grows_away_from_the_points() -> None:
    near, far = _fitted(500).at(np.array([[4600, 200, 100], [30_000, 200, 100]]))
    assert far.high - far.low > 2 * (near.high - near.low)


def test_no_event_passes() -> None:
    none = np.zeros(len(MASSES), dtype=np.int64)
    (found,) = EfficiencyByMass.of_counts(MASSES, none, none + 300, "grid").at(MASSES[:1])
    assert 0 < found.value < 0.005
    assert found.high < 0.02


def _grid(**changes: object) -> SignalGrid:
    random = np.random.default_rng(5)
    each = np.repeat(MASSES, 200, axis=0)
    values = {
        "score": random.normal(size=len(each)),
        "m_jj": each[:, 0] * np.exp(random.normal(0, 0.03, len(each))),
        "masses": each[:, [0, 2, 1]],  # the lighter jet first
        "points": MASSES,
        "triggering": np.full(len(MASSES), 200),
        "generated": np.full(len(MASSES), 400),
        "description": "grid",
    }
    return SignalGrid(**(values | changes))  # type: ignore[arg-type]


def test_efficiency_counts_cut_and_range() -> None:
    grid = _grid()
    fitted = grid.efficiency(ScoreCut(0.5, 0.0, 1), (2600.0, 8000.0))
    inside, at_the_end = fitted.at(masses_at([4600.0, 2700.0], (100.0, 200.0)))
    assert inside.value == pytest.approx(0.5, abs=0.05)
    # 11 % of a peak of 3 % at 2700 GeV is below 2600 GeV.
    assert at_the_end.value == pytest.approx(0.45, abs=0.06)
    assert fitted.n_events == len(grid.score)
    (trigger,) = grid.trigger_efficiency().at(masses_at([4600.0], (200.0, 100.0)))
    assert trigger.value == pytest.approx(0.5, abs=0.02)


def test_grid_knows_what_it_covers() -> None:
    grid = _grid()
    assert grid.covers(2700.0)
    assert not grid.covers(2600.0)
    pairs = {tuple(pair) for pair in grid.pairs_at(7000.0).tolist()}
    assert pairs == {tuple(point[1:]) for point in MASSES.tolist()}
    heaviest = grid.pairs_at(1500.0).max()
    assert heaviest == 200.0  # 400 GeV are more of 1500 GeV than of any Z' in the grid


def test_a_few_points_are_no_grid() -> None:
    with pytest.raises(InputError, match="5 points of masses, fewer than the 8"):
        _grid(points=MASSES[:5])
