"""What the categories of a map are in terms of physics, and how a training went by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from hepllm.arrays import Bools, Columns, Floats
from hepllm.cartography.dynamics import Dynamics, Part
from hepllm.cartography.event_map import CATEGORIES, EventMap, divide
from hepllm.cartography.measures import Measures, measure
from hepllm.cartography.records import CategoryRecord, EpochOfClass, EpochRecord, FeatureSummary
from hepllm.config import CartographyConfig
from hepllm.data.dataset import LABEL_NAMES
from hepllm.schema import BACKGROUND, SIGNAL

CLASSES: Mapping[str, int] = {LABEL_NAMES[label]: label for label in (SIGNAL, BACKGROUND)}

_QUANTILES = (0.16, 0.5, 0.84)


def describe_categories(
    event_map: EventMap, columns: Columns
) -> dict[str, dict[str, CategoryRecord]]:
    """Describes the events of each class and category.

    Args:
        event_map: N events.
        columns: their features, NaN where missing.

    Returns:
        Records by class and category; features are in the order of their distance to the other
        events of the class.
    """
    found: dict[str, dict[str, CategoryRecord]] = {}
    for name, label in CLASSES.items():
        of_class = event_map.label == label
        found[name] = {
            category: _describe(event_map, of_class, event_map.is_of(category), columns)
            for category in CATEGORIES
        }
    return found


def _describe(
    event_map: EventMap, of_class: Bools, of_category: Bools, columns: Columns
) -> CategoryRecord:
    chosen, total = of_class & of_category, int(of_class.sum())
    n_events = int(chosen.sum())
    if not n_events:
        return CategoryRecord(n_events=0, share=0.0)
    measures = event_map.measures
    features = {
        name: summarise_feature(values[chosen], values[of_class & ~of_category])
        for name, values in columns.items()
    }
    order = sorted(features, key=lambda name: -(features[name].distance or 0.0))
    return CategoryRecord(
        n_events=n_events,
        share=n_events / total,
        confidence=float(measures.confidence[chosen].mean()),
        variability=float(measures.variability[chosen].mean()),
        correctness=float(measures.correctness[chosen].mean()),
        forgetting=float(measures.forgetting[chosen].mean()),
        area_under_margin=float(measures.area_under_margin[chosen].mean()),
        n_never_learnt=int((measures.correctness[chosen] == 0).sum()),
        features={name: features[name] for name in order},
    )


def summarise_feature(values: Floats, others: Floats) -> FeatureSummary:
    """Summarises a feature of some events; NaN where missing, ``others`` for the distance."""
    present, rest = values[~np.isnan(values)], others[~np.isnan(others)]
    if not len(present):
        return FeatureSummary(median=None, low=None, high=None, distance=None)
    low, median, high = np.quantile(present, _QUANTILES).tolist()
    distance = largest_step(present, rest) if len(rest) else None
    return FeatureSummary(median=median, low=low, high=high, distance=distance)


def largest_step(first: Floats, second: Floats) -> float:
    """The Kolmogorov-Smirnov distance of two samples, neither of which is empty."""
    edges = np.concatenate([first, second])
    shares = [
        np.searchsorted(np.sort(sample), edges, side="right") / len(sample)
        for sample in (first, second)
    ]
    return float(np.abs(shares[0] - shares[1]).max())


def describe_epochs(
    dynamics: Dynamics, part: Part, config: CartographyConfig
) -> Iterator[EpochRecord]:
    """Describes what a part of a training believed of each class in each epoch."""
    record = dynamics.parts[part]
    right = np.zeros(len(dynamics.label), dtype=np.bool_)
    shown_before = np.zeros(len(dynamics.label), dtype=np.bool_)
    for epoch in range(record.n_epochs):
        # The categories of an epoch that does not count are those of itself alone.
        so_far = measure(record, epoch + 1, skip=min(config.skip, epoch))
        margin = record.margin[:, epoch].astype(np.float64)
        shown = ~np.isnan(margin)
        now = np.where(shown, margin > 0, right)
        classes = {}
        for name, label in CLASSES.items():
            mine = dynamics.label == label
            classes[name] = _epoch_of(
                margin[mine & shown],
                record.probability[mine & shown, epoch].astype(np.float64),
                _take(so_far, mine & so_far.is_seen),
                config,
                n_learnt=int((mine & shown_before & now & ~right).sum()),
                n_forgotten=int((mine & shown_before & ~now & right).sum()),
            )
        right, shown_before = now, shown_before | shown
        yield EpochRecord(epochs=part, epoch=epoch + 1, classes=classes)


def _epoch_of(
    margin: Floats,
    probability: Floats,
    so_far: Measures,
    config: CartographyConfig,
    *,
    n_learnt: int,
    n_forgotten: int,
) -> EpochOfClass:
    if not len(margin):
        return EpochOfClass(n_shown=0)
    places = divide(so_far, config)
    return EpochOfClass(
        n_shown=len(margin),
        probability=float(probability.mean()),
        correct=float((margin > 0).mean()),
        loss=float(np.logaddexp(0.0, -margin).mean()),
        margin=float(margin.mean()),
        n_learnt=n_learnt,
        n_forgotten=n_forgotten,
        confidence=float(so_far.confidence.mean()),
        variability=float(so_far.variability.mean()),
        categories={name: int((places == place).sum()) for place, name in enumerate(CATEGORIES)},
    )


def _take(measures: Measures, events: Bools) -> Measures:
    return Measures(**{name: values[events] for name, values in vars(measures).items()})
