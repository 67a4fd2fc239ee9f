"""Bins of features for boostings."""

from __future__ import annotations

import numpy as np

from hepllm.weak.bins import N_BINS, FeatureBins


def test_bins_are_equally_full_and_keep_the_order() -> None:
    values = np.random.default_rng(1).normal(size=(20_000, 1)) ** 3
    codes = FeatureBins.of(values).codes(values)[:, 0]
    counts = np.bincount(codes.astype(int))
    assert len(counts) == N_BINS
    assert counts.min() > 70
    assert counts.max() < 87
    order = np.argsort(values[:, 0])
    assert (np.diff(codes[order]) >= 0).all()


def test_few_values_are_kept_apart() -> None:
    """Also among many events, and beyond the values that were seen."""
    values = np.tile([[0.1], [0.5], [7.0]], (400, 1))
    bins = FeatureBins.of(values)
    found = bins.codes(np.array([[-9.0], [0.1], [0.5], [7.0], [99.0]]))
    np.testing.assert_array_equal(found[:, 0], [0, 0, 1, 2, 2])


def test_missing_values_stay_missing() -> None:
    values = np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan]])
    codes = FeatureBins.of(values).codes(values)
    np.testing.assert_array_equal(codes[:, 0], [0, np.nan, 1])
    assert np.isnan(codes[:, 1]).all()
