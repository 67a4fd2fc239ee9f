"""``hepllm inspect``: what is in a dataset, as numbers and as a page of pictures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hepllm.arrays import Floats
from hepllm.data.dataset import LABEL_NAMES, Dataset, EventTable, read_dataset
from hepllm.errors import RunError
from hepllm.pictures.features import FeatureHistograms, plot_features
from hepllm.schema import FEATURES, SPLITS, is_search_safe

QUANTILES = (0.16, 0.5, 0.84)
PAGE = "features.png"

_GROUP = 8
"""Features read at once: memory stays bounded for any number of features."""


@dataclass(frozen=True)
class FeatureSummary:
    """One feature of one class; NaN where there is no value.

    Attributes:
        median: of the events that have a value.
        low: 16 % quantile.
        high: 84 % quantile.
        missing: share of events without a value.
    """

    median: float
    low: float
    high: float
    missing: float


@dataclass(frozen=True)
class Inspection:
    """What ``inspect_dataset`` found.

    Attributes:
        dataset: the dataset.
        counts: events by label, for each split and for ``all``.
        summaries: by feature, then by label; only labels that occur.
        page: the pictures; None where none were asked for.
    """

    dataset: Dataset
    counts: dict[str, dict[str, int]]
    summaries: dict[str, dict[str, FeatureSummary]]
    page: Path | None

    def as_json(self) -> dict[str, Any]:
        """Everything as a JSON tree; null where there is no value."""
        manifest = self.dataset.manifest
        return {
            "dataset": str(self.dataset.folder),
            "digest": self.dataset.digest,
            "n_events": manifest.n_events,
            "counts": self.counts,
            "duplicate_events": manifest.duplicate_events,
            "sources": [source.model_dump() for source in manifest.sources],
            "cut_flow": [cut.model_dump() for cut in manifest.cut_flow],
            "features": {
                name: {
                    "unit": FEATURES[name].unit,
                    "mass_like": FEATURES[name].mass_like,
                    "classes": {label: _finite(asdict(one)) for label, one in classes.items()},
                }
                for name, classes in self.summaries.items()
            },
            "page": str(self.page) if self.page else None,
        }

    def as_text(self) -> str:
        """Tables for a terminal."""
        return f"{self._sources()}\n\n{self._counts()}\n\n{self._features()}"

    def _sources(self) -> str:
        manifest = self.dataset.manifest
        lines = [f"{self.dataset.folder}: {manifest.n_events} events"]
        lines += [f"  from {source.file}: {source.events} events" for source in manifest.sources]
        lines += [f"  {cut.name}: {cut.events}" for cut in manifest.cut_flow]
        if manifest.duplicate_events:
            lines.append(f"  {manifest.duplicate_events} events stand more than once in a source")
        return "\n".join(lines)

    def _counts(self) -> str:
        labels = list(LABEL_NAMES.values())
        lines = [f"{'split':8s}" + "".join(f"{label:>12s}" for label in labels)]
        for split in (*SPLITS, "all"):
            cells = "".join(f"{self.counts[split][label]:12d}" for label in labels)
            lines.append(f"{split:8s}{cells}")
        return "\n".join(lines)

    def _features(self) -> str:
        labels = [label for label, number in self.counts["all"].items() if number]
        head = f"{'feature':20s}{'unit':5s}"
        head += "".join(
            f"{f'{label}: median [16 %, 84 %]':>40s}{'missing':>9s}" for label in labels
        )
        lines = [head]
        for name, classes in self.summaries.items():
            mark = "" if is_search_safe((name,)) else "*"
            cells = "".join(_cell(classes[label]) for label in labels)
            lines.append(f"{name + mark:20s}{FEATURES[name].unit:5s}{cells}")
        return "\n".join([*lines, "* follows m_jj; not in the feature set 'search'"])


def inspect_dataset(folder: Path, *, page: Path | None, split: str | None = None) -> Inspection:
    """Reads a dataset and summarises it.

    Args:
        folder: the dataset.
        page: PNG file for the distributions; None draws nothing.
        split: events of this split only.

    Raises:
        InputError: no dataset, a damaged one, or no such split.
        RunError: the page cannot be written.
    """
    dataset = read_dataset(folder)
    names = tuple(dataset.manifest.features)
    summaries: dict[str, dict[str, FeatureSummary]] = {}
    histograms: list[FeatureHistograms] = []
    for start in range(0, len(names), _GROUP):
        events = dataset.load(names[start : start + _GROUP], split)
        for name in events.names:
            classes = _by_class(events, name)
            summaries[name] = {label: _summary(values) for label, values in classes.items()}
            if page is not None:
                histograms.append(FeatureHistograms.of(FEATURES[name], classes))
    counts = dataset.manifest.counts
    if page is not None:
        title = f"{folder.name}, {split} split" if split else folder.name
        try:
            plot_features(histograms, title, counts[split or "all"], page)
        except OSError as error:
            raise RunError(
                f"{page}: cannot be written: {error.strerror or error}; choose another --page"
            ) from None
    return Inspection(dataset, counts, summaries, page)


def _by_class(events: EventTable, name: str) -> dict[str, Floats]:
    """The values of a feature for each label that occurs."""
    values = events.column(name)
    chosen = {text: events.label == label for label, text in LABEL_NAMES.items()}
    return {text: values[mask] for text, mask in chosen.items() if mask.any()}


def _summary(values: Floats) -> FeatureSummary:
    present = values[~np.isnan(values)]
    missing = 1 - len(present) / len(values)
    if not len(present):
        return FeatureSummary(np.nan, np.nan, np.nan, missing)
    low, median, high = (float(value) for value in np.quantile(present, QUANTILES))
    return FeatureSummary(median, low, high, missing)


def _cell(summary: FeatureSummary) -> str:
    if np.isnan(summary.median):
        return f"{'-':>40s}{summary.missing:9.1%}"
    text = f"{summary.median:.5g} [{summary.low:.5g}, {summary.high:.5g}]"
    return f"{text:>40s}{summary.missing:9.1%}"


def _finite(tree: dict[str, float]) -> dict[str, float | None]:
    return {key: None if np.isnan(value) else value for key, value in tree.items()}
