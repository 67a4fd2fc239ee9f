"""How methods that flag events agree, and in which regions of features they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from hepllm.arrays import Bools, Columns, Digests, Ints
from hepllm.cartography.audit_records import PairRecord, RegionRecord
from hepllm.evaluation.efficiency import efficiency
from hepllm.event_filter import parse_event_filter

CONFIDENCE = 0.95

_MOST_LEAVES = 12
_LEAST_SHARE = 0.005
"""Share of the events that a region has at least."""

_FEWEST = 20
"""Flagged events without which no region is sought, in either half."""

_LEAST_RATIO = 2.0
"""How many times as often as on average events of a region are flagged, at least."""


@dataclass(frozen=True, eq=False)
class Method:
    """A method that flags events of N.

    Attributes:
        meaning: what a flagged event is.
        covered: events that it knows, shape (N,).
        flagged: events that it flags, all of them covered, shape (N,).
    """

    meaning: str
    covered: Bools
    flagged: Bools


def compare_methods(methods: Mapping[str, Method]) -> Iterator[PairRecord]:
    """Compares each pair of methods on the events that both know."""
    for (first, one), (second, other) in combinations(methods.items(), 2):
        both = one.covered & other.covered
        n_both = int(both.sum())
        counts = [int((method.flagged & both).sum()) for method in (one, other)]
        shared = int((one.flagged & other.flagged).sum())
        either = sum(counts) - shared
        yield PairRecord(
            first=first,
            second=second,
            n_covered=n_both,
            n_first=counts[0],
            n_second=counts[1],
            n_shared=shared,
            expected=counts[0] * counts[1] / n_both if n_both else None,
            jaccard=shared / either if either else None,
        )


def count_methods(methods: Mapping[str, Method], n_events: int) -> Ints:
    """Number of methods that flag each event, shape (N,)."""
    counts = np.zeros(n_events, dtype=np.int64)
    for one in methods.values():
        counts += one.flagged
    return counts


def find_regions(
    columns: Columns, flagged: Bools, event_digest: Digests, most: int
) -> tuple[RegionRecord, ...]:
    """Finds regions of features in which events are flagged often.

    A decision tree of few leaves finds them in one half of the events, and the share of flagged
    ones is measured in the other, so that its interval is not of the events that chose the region.

    Args:
        columns: features of N events, NaN where missing; only complete ones are used.
        flagged: shape (N,).
        event_digest: shape (N,), which divides the events into halves.
        most: most regions.

    Returns:
        Regions whose interval is above the share of all events, by falling share; as cuts that an
        event filter reads.
    """
    names = [name for name, values in columns.items() if np.isfinite(values).all()]
    is_first = event_digest % np.uint64(2) == 0
    halves = [np.flatnonzero(is_first), np.flatnonzero(~is_first)]
    if not most or not names or min(flagged[rows].sum() for rows in halves) < _FEWEST:
        return ()
    points = np.column_stack([columns[name] for name in names]).astype(np.float32)
    tree = DecisionTreeClassifier(
        max_leaf_nodes=_MOST_LEAVES,
        min_samples_leaf=max(_FEWEST, int(_LEAST_SHARE * len(halves[0]))),
        random_state=0,
    ).fit(points[halves[0]], flagged[halves[0]])
    average = float(flagged.mean())
    found = []
    for cuts in _leaves(tree, names):
        inside = parse_event_filter(cuts, names).mask(columns)
        searched, measured = (inside & np.isin(np.arange(len(inside)), rows) for rows in halves)
        # Cuts are rounded, and so a region may be empty.
        if not searched.any() or flagged[searched].mean() < _LEAST_RATIO * average:
            continue
        rate = efficiency(flagged[measured], np.ones(int(measured.sum())), CONFIDENCE)
        if rate is None or rate.interval[0] <= average:
            continue
        found.append(
            RegionRecord(
                cuts=cuts,
                n_events=int(inside.sum()),
                n_flagged=int(flagged[inside].sum()),
                share=rate.value,
                interval=rate.interval,
                ratio=rate.value / average,
            )
        )
    found.sort(key=lambda region: -region.share)
    return tuple(found[:most])


def _leaves(tree: DecisionTreeClassifier, names: list[str]) -> Iterator[str]:
    """The cuts that lead to each leaf, as text; a tree without a cut has none."""
    nodes = tree.tree_

    def below(node: int, limits: dict[str, tuple[float, float]]) -> Iterator[str]:
        left, right = int(nodes.children_left[node]), int(nodes.children_right[node])
        if left < 0:
            if limits:
                yield " and ".join(_cuts(limits))
            return
        name, cut = names[int(nodes.feature[node])], float(nodes.threshold[node])
        low, high = limits.get(name, (-np.inf, np.inf))
        yield from below(left, {**limits, name: (low, min(high, cut))})
        yield from below(right, {**limits, name: (max(low, cut), high)})

    yield from below(0, {})


def _cuts(limits: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    for name, (low, high) in limits.items():
        if np.isfinite(low) and np.isfinite(high):
            yield f"{low:.4g} < {name} <= {high:.4g}"
        elif np.isfinite(low):
            yield f"{name} > {low:.4g}"
        else:
            yield f"{name} <= {high:.4g}"
