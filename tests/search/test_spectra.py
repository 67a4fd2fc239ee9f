"""Selections by the box's own quantiles, and shape distances."""

from __future__ import annotations

import numpy as np
import pytest

from hepllm.search.spectra import (
    bin_edges,
    choose_cuts,
    make_spectra,
    shape_distance,
)


def test_bins_have_equal_width_over_mass() -> None:
    edges = bin_edges(2600, 8000, 0.025)
    assert (edges[0], edges[-1]) == pytest.approx((2600, 8000))
    np.testing.assert_allclose(np.diff(np.log(edges)), 0.025, rtol=0.02)


def test_selections_keep_their_shares() -> None:
    scores = np.random.default_rng(1).normal(size=12_345)
    selections = choose_cuts(scores, [0.003, 0.01, 0.1])
    assert [one.efficiency for one in selections] == [0.1, 0.01, 0.003]
    for one in selections:
        assert one.n_selected == (scores > one.threshold).sum()
        assert abs(one.n_selected - one.efficiency * 12_345) <= 1


def test_tied_scores_fail_together() -> None:
    scores = np.array([0.0] * 90 + [1.0] * 10)
    (selection,) = choose_cuts(scores, [0.05])
    assert selection.n_selected in (0, 10)


def test_spectra_count_each_event_once() -> None:
    random = np.random.default_rng(2)
    m_jj, scores = random.uniform(2600, 8000, 5000), random.normal(size=5000)
    edges = bin_edges(2600, 8000, 0.1)
    selections = choose_cuts(scores, [0.1, 0.01])
    spectra = make_spectra(m_jj, scores, selections, edges)
    np.testing.assert_array_equal(
        spectra.rejected + spectra.selected[0], np.histogram(m_jj, edges)[0]
    )
    assert spectra.selected.sum(axis=1).tolist() == [one.n_selected for one in selections]
    assert (spectra.selected[1] <= spectra.selected[0]).all()


def test_distance_of_equal_shapes_is_what_chance_gives() -> None:
    random = np.random.default_rng(3)
    found = [
        shape_distance(random.exponential(size=150), random.exponential(size=5000), 1)
        for _ in range(100)
    ]
    p_values = np.array([one.ks_p for one in found if one is not None])
    above = np.mean([one.js > one.js_95 for one in found if one is not None])
    assert len(p_values) == 100
    assert (p_values < 0.05).mean() < 0.15
    assert above < 0.15


def test_sculpted_shape_is_told() -> None:
    random = np.random.default_rng(4)
    found = shape_distance(random.exponential(1.5, 300), random.exponential(1.0, 5000), 1)
    assert found is not None
    assert found.ks_p < 1e-3
    assert found.js > found.js_95


def test_jensen_shannon_is_one_bit_for_disjoint_shapes() -> None:
    found = shape_distance(np.arange(5000.0) + 10_000, np.arange(5000.0), 1)
    assert found is not None
    assert found.js == pytest.approx(1)
    assert found.ks == 1


def test_few_events_have_no_shape() -> None:
    assert shape_distance(np.arange(9.0), np.arange(5000.0), 1) is None
