"""Summary of a dataset: its sources, its counts, and each feature by class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from hepllm.arrays import Floats
from hepllm.data.dataset import LABEL_NAMES, Dataset
from hepllm.data.manifest import CutFlowStep, SourceFile
from hepllm.records import Events, Record, Whole
from hepllm.schema import feature_of

QUANTILES = (0.16, 0.5, 0.84)

_GROUP = 8
"""Features read at once, which limits the memory."""


class FeatureSummary(Record):
    """One feature of one class, in the feature's unit."""

    median: float | None
    """Median of the events that have a value; null where none has."""
    low: float | None
    """16 % quantile."""
    high: float | None
    """84 % quantile."""
    missing: float
    """Share of events without a value."""


class FeatureByClass(Record):
    """One feature."""

    unit: str
    """Unit of the feature; empty where it has none."""
    mass_like: bool
    """Whether it follows m_jj, so that it is not in the feature set ``search``."""
    classes: dict[str, FeatureSummary]
    """Summaries by label, for labels that occur."""


class DatasetSummary(Record):
    """What ``hepllm inspect --json`` prints."""

    dataset: str
    """Folder of the dataset."""
    digest: str
    """Digest of its contents."""
    n_events: Events
    """Events in all splits."""
    counts: dict[str, dict[str, int]]
    """Events by label, for each split and for ``all``."""
    duplicate_events: Events
    """Events with the same content as an earlier row of the same source."""
    sources: list[Whole[SourceFile]]
    """Files of its events."""
    cut_flow: list[CutFlowStep]
    """Events left after each step of the selection."""
    features: dict[str, FeatureByClass]
    """Features by name."""
    page: str | None
    """File of the pictures of distributions; null where none was drawn."""


def summarise(
    dataset: Dataset, features: Mapping[str, FeatureByClass], page: str | None = None
) -> DatasetSummary:
    """The summary of a dataset from those of its features and the file of their pictures."""
    keys = ("n_events", "counts", "duplicate_events", "sources", "cut_flow")
    return DatasetSummary(
        dataset=str(dataset.folder),
        digest=dataset.digest,
        features=dict(features),
        page=page,
        **{key: getattr(dataset.manifest, key) for key in keys},
    )


def summarise_feature(name: str, classes: Mapping[str, Floats]) -> FeatureByClass:
    """Quantiles of a feature and its missing values, for each class."""
    feature = feature_of(name)
    return FeatureByClass(
        unit=feature.unit,
        mass_like=feature.mass_like,
        classes={label: _summary(values) for label, values in classes.items()},
    )


def values_by_class(
    dataset: Dataset, names: Sequence[str], split: str | None = None
) -> Iterator[tuple[str, dict[str, Floats]]]:
    """Yields the name of each feature, and its values for each label that occurs.

    Raises:
        InputError: for an unknown feature or split, or a damaged dataset.
    """
    for start in range(0, len(names), _GROUP):
        events = dataset.load(names[start : start + _GROUP], split)
        chosen = {text: events.label == label for label, text in LABEL_NAMES.items()}
        for name in events.names:
            values = events.column(name)
            yield name, {text: values[mask] for text, mask in chosen.items() if mask.any()}


def _summary(values: Floats) -> FeatureSummary:
    present = values[~np.isnan(values)]
    missing = 1 - len(present) / len(values)
    if not len(present):
        return FeatureSummary(median=None, low=None, high=None, missing=missing)
    low, median, high = (float(value) for value in np.quantile(present, QUANTILES))
    return FeatureSummary(median=median, low=low, high=high, missing=missing)
