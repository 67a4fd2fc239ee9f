"""Splits by hash."""

from __future__ import annotations

import numpy as np
import pytest

from hepllm.config import SplitConfig
from hepllm.data.writer import assign_splits


def test_split_shares() -> None:
    digests = np.random.default_rng(1).integers(0, 2**64, 100_000, dtype=np.uint64)
    shares = np.bincount(assign_splits(digests, SplitConfig()), minlength=3) / 100_000
    # Five standard deviations of a binomial are 0.008.
    np.testing.assert_allclose(shares, [0.6, 0.15, 0.25], atol=0.008)


def test_consecutive_digests_are_mixed_too() -> None:
    digests = np.arange(100_000, dtype=np.uint64)
    shares = np.bincount(assign_splits(digests, SplitConfig()), minlength=3) / 100_000
    np.testing.assert_allclose(shares, [0.6, 0.15, 0.25], atol=0.008)


def test_an_event_has_one_split_wherever_it_stands() -> None:
    digests = np.random.default_rng(1).integers(0, 2**64, 1000, dtype=np.uint64)
    order = np.random.default_rng(2).permutation(1000)[:300]
    splits = assign_splits(digests, SplitConfig())
    np.testing.assert_array_equal(assign_splits(digests[order], SplitConfig()), splits[order])


def test_another_seed_deals_anew() -> None:
    digests = np.random.default_rng(1).integers(0, 2**64, 10_000, dtype=np.uint64)
    one, other = (assign_splits(digests, SplitConfig(seed=seed)) for seed in (1, 2))
    agreement = (one == other).mean()
    assert agreement == pytest.approx(0.6**2 + 0.15**2 + 0.25**2, abs=0.03)


@pytest.mark.parametrize(("shares", "expected"), [((1, 0, 0), 0), ((0, 1, 0), 1), ((0, 0, 1), 2)])
def test_a_share_of_one_takes_all(shares: tuple[int, int, int], expected: int) -> None:
    config = SplitConfig(train=shares[0], val=shares[1], test=shares[2])
    digests = np.random.default_rng(1).integers(0, 2**64, 1000, dtype=np.uint64)
    assert set(assign_splits(digests, config)) == {expected}
