"""The part of a report about a dataset: where it came from and how its features look."""

from __future__ import annotations

from collections.abc import Sequence

from hepllm.data.dataset import LABEL_NAMES, Dataset, EventTable
from hepllm.pictures.features import FeatureHistograms, plot_feature
from hepllm.report.data_uris import drawn_small
from hepllm.report.page import Cell, Group, Picture, Row, Section, Table
from hepllm.report.tables import count_cell
from hepllm.schema import FEATURES, SPLITS

_ALWAYS = "m_jj"
"""A feature that is shown even where the model does not see it."""


def data_section(dataset: Dataset, features: Sequence[str]) -> Section:
    """Counts, sources, cut flow and a panel a feature.

    Args:
        dataset: that a run was trained on.
        features: that the run reads.

    Raises:
        InputError: if the dataset is damaged.
    """
    manifest = dataset.manifest
    packages = ", ".join(f"{name} {number}" for name, number in manifest.packages.items())
    labels = [label for label, number in manifest.counts["all"].items() if number]
    return Section(
        "Data",
        facts=[
            ("dataset", str(dataset.folder)),
            ("digest", dataset.digest),
            ("made with", packages),
        ],
        tables=[_source_table(dataset), _cut_table(dataset), _count_table(dataset, labels)],
        panels=_panels(dataset, features),
        panels_title=(
            "Features, all splits, each class normalised to 1; "
            "orange and hatched: signal, blue and filled: background, grey: unknown."
        ),
    )


def _source_table(dataset: Dataset) -> Table:
    return Table(
        caption="Source files",
        heads=("file", "events", "bytes", "SHA-256"),
        groups=[
            Group(
                "",
                [
                    Row(
                        source.file,
                        [count_cell(source.events), count_cell(source.size), Cell(source.sha256)],
                    )
                    for source in dataset.manifest.sources
                ],
            )
        ],
    )


def _cut_table(dataset: Dataset) -> Table:
    rows = [Row(cut.name, [count_cell(cut.events)]) for cut in dataset.manifest.cut_flow]
    return Table("Cut flow", ("after", "events"), [Group("", rows)])


def _count_table(dataset: Dataset, labels: Sequence[str]) -> Table:
    counts = dataset.manifest.counts
    rows = [
        Row(split, [count_cell(counts[split][label]) for label in labels])
        for split in (*SPLITS, "all")
    ]
    return Table("Events", ("split", *labels), [Group("", rows)])


def _panels(dataset: Dataset, features: Sequence[str]) -> list[Picture]:
    present = [name for name in FEATURES if name in dataset.manifest.features]
    names = tuple(name for name in present if name in features or name == _ALWAYS)
    events = dataset.load(names)
    histograms = [_histograms(events, name) for name in names]
    return [
        drawn_small(
            plot_feature(histogram),
            f"Distribution of {histogram.feature.name} for signal and background",
            histogram.feature.axis_label,
        )
        for histogram in histograms
        if histogram.densities
    ]


def _histograms(events: EventTable, name: str) -> FeatureHistograms:
    values = events.column(name)
    chosen = {text: events.label == label for label, text in LABEL_NAMES.items()}
    classes = {text: values[mask] for text, mask in chosen.items() if mask.any()}
    return FeatureHistograms.of(FEATURES[name], classes)
