from __future__ import annotations

import numpy as np
import pytest

from hepllm.cartography.overlaps import Method, compare_methods, count_methods, find_regions
from hepllm.event_filter import parse_event_filter


def mask(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.bool_)


def test_methods_are_compared_on_events_that_both_know() -> None:
    methods = {
        "one": Method("", mask(1, 1, 1, 1, 0), mask(1, 1, 0, 0, 0)),
        "other": Method("", mask(0, 1, 1, 1, 1), mask(0, 1, 1, 0, 1)),
    }
    (pair,) = compare_methods(methods)
    assert (pair.n_covered, pair.n_first, pair.n_second, pair.n_shared) == (3, 1, 2, 1)
    assert pair.expected == pytest.approx(2 / 3)
    assert pair.jaccard == pytest.approx(1 / 2)
    np.testing.assert_array_equal(count_methods(methods, 5), [1, 2, 1, 0, 1])


def test_methods_without_common_events_have_no_numbers() -> None:
    methods = {
        "one": Method("", mask(1, 0), mask(0, 0)),
        "other": Method("", mask(0, 1), mask(0, 0)),
    }
    (pair,) = compare_methods(methods)
    assert (pair.expected, pair.jaccard) == (None, None)


def test_a_planted_region_is_found_and_measured_in_the_other_half() -> None:
    random = np.random.default_rng(1)
    columns = {name: random.random(20_000) for name in ("jet1_mass", "jet2_mass", "m_jj")}
    columns["jet2_tau21"] = np.where(random.random(20_000) < 0.1, np.nan, 0.5)
    inside = (columns["jet1_mass"] > 0.7) & (columns["jet2_mass"] < 0.3)
    flagged = random.random(20_000) < np.where(inside, 0.3, 0.01)
    digest = random.integers(0, 2**63, 20_000).astype(np.uint64)
    first, *_ = find_regions(columns, flagged, digest, 3)
    assert first.interval[0] < 0.3 < first.interval[1]
    chosen = parse_event_filter(first.cuts, list(columns)).mask(columns)
    assert (first.n_events, first.n_flagged) == (chosen.sum(), flagged[chosen].sum())
    assert (chosen & inside).sum() > 0.9 * chosen.sum()
    assert first.ratio == pytest.approx(first.share / flagged.mean())
    assert find_regions(columns, flagged, digest, 0) == ()


def test_there_is_no_region_where_events_are_flagged_at_random() -> None:
    random = np.random.default_rng(2)
    columns = {"m_jj": random.random(20_000)}
    flagged = random.random(20_000) < 0.05
    digest = random.integers(0, 2**63, 20_000).astype(np.uint64)
    assert find_regions(columns, flagged, digest, 4) == ()
    assert find_regions(columns, flagged & (columns["m_jj"] > 0.999), digest, 4) == ()
