"""The chapter about a dataset: its sources, counts and features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hepllm.data.dataset import LABEL_NAMES, Dataset
from hepllm.data.summary import (
    DatasetSummary,
    FeatureByClass,
    FeatureSummary,
    summarise,
    summarise_feature,
    values_by_class,
)
from hepllm.pictures.features import FeatureHistograms, plot_feature
from hepllm.report.cells import count_cell
from hepllm.report.data_uris import drawn_small
from hepllm.report.page import Cell, Chapter, Group, Row, Table
from hepllm.schema import SPLITS, feature_of

_ALWAYS = "m_jj"
"""A feature that is shown even if the model does not read it."""


def dataset_chapter(summary: DatasetSummary, title: str, split: str | None = None) -> Chapter:
    """Makes the chapter of a dataset, with the features of one split or of all (None)."""
    facts = [
        ("dataset", summary.dataset),
        ("digest", summary.digest),
        ("events", str(summary.n_events)),
    ]
    if summary.duplicate_events:
        facts.append(("more than once in a source", f"{summary.duplicate_events} events"))
    labels = [label for label, number in summary.counts["all"].items() if number]
    tables = [_source_table(summary), _cut_table(summary)]
    tables.append(_count_table(summary, labels or list(LABEL_NAMES.values())))
    if labels:
        tables.append(_feature_table(summary.features, labels, split or "all splits"))
    return Chapter(title, facts=facts, tables=tables)


def data_chapter(dataset: Dataset, features: Sequence[str]) -> Chapter:
    """Makes the chapter of a run's dataset, with a picture of each feature that the run reads.

    Raises:
        InputError: if the dataset is damaged.
    """
    present = dataset.manifest.features
    names = [name for name in present if name in (*features, _ALWAYS)]
    summaries, panels = {}, []
    for name, classes in values_by_class(dataset, names):
        summaries[name] = summarise_feature(name, classes)
        histogram = FeatureHistograms.of(feature_of(name), classes)
        if histogram.densities:
            alt = f"Distribution of {name} for signal and background"
            panels.append(drawn_small(plot_feature(histogram), alt, feature_of(name).axis_label))
    chapter = dataset_chapter(summarise(dataset, summaries), "Data")
    packages = ", ".join(f"{name} {number}" for name, number in dataset.manifest.packages.items())
    return replace(
        chapter,
        facts=[*chapter.facts, ("made with", packages)],
        panels=panels,
        panels_title=(
            "Features, all splits, each class normalised to 1; "
            "orange and hatched: signal, blue and filled: background, grey: unknown."
        ),
    )


def _source_table(summary: DatasetSummary) -> Table:
    rows = [
        Row(one.file, [count_cell(one.events), count_cell(one.size), Cell(one.sha256)])
        for one in summary.sources
    ]
    return Table("Source files", ("file", "events", "bytes", "SHA-256"), [Group("", rows)])


def _cut_table(summary: DatasetSummary) -> Table:
    rows = [Row(step.name, [count_cell(step.events)]) for step in summary.cut_flow]
    return Table("Cut flow", ("after", "events"), [Group("", rows)])


def _count_table(summary: DatasetSummary, labels: Sequence[str]) -> Table:
    rows = [
        Row(split, [count_cell(summary.counts[split][label]) for label in labels])
        for split in (*SPLITS, "all")
    ]
    return Table("Events", ("split", *labels), [Group("", rows)])


def _feature_table(
    features: Mapping[str, FeatureByClass], labels: Sequence[str], split: str
) -> Table:
    rows = [
        Row(_feature_name(name, one), [_feature_cell(one.classes.get(label)) for label in labels])
        for name, one in features.items()
    ]
    note = (
        "Median [16 % quantile, 84 % quantile] of the events that have a value, and the share that "
        "has none. *: follows m_jj; not in the feature set 'search'."
    )
    return Table(f"Features, {split}", ("feature", *labels), [Group("", rows)], [note])


def _feature_name(name: str, found: FeatureByClass) -> str:
    mark, unit = "*" if found.mass_like else "", f" [{found.unit}]" if found.unit else ""
    return f"{name}{mark}{unit}"


def _feature_cell(found: FeatureSummary | None) -> Cell:
    if found is None:
        return Cell(reason="no such event in this split")
    note = f"missing {found.missing:.1%}"
    if found.median is None:
        return Cell(note=note, reason="no event has a value")
    return Cell(f"{found.median:.5g}", found.median, f"[{found.low:.5g}, {found.high:.5g}]", note)
