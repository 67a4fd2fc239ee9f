"""``hepllm map``: what a training believed of its events, as numbers, pictures and text."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from hepllm.arrays import Columns, Floats, Ints
from hepllm.arrow_files import open_file, read_parquet
from hepllm.cartography.dynamics import Dynamics, read_dynamics
from hepllm.cartography.event_map import CATEGORIES, MAP, EventMap, choose_part, map_events
from hepllm.cartography.records import MapRecord
from hepllm.cartography.summary import CLASSES, describe_categories, describe_epochs
from hepllm.config import CartographyConfig
from hepllm.data.dataset import Dataset
from hepllm.data.event_table import EventTable
from hepllm.data.notes import find_events
from hepllm.errors import InputError
from hepllm.files import write_aside, write_errors, write_text
from hepllm.logs import progress_bar
from hepllm.pictures.data_map import MappedClass, plot_category_features, plot_data_map
from hepllm.pictures.event_display import jets_of, plot_event
from hepllm.pictures.features import FeatureHistograms
from hepllm.provenance import this_call
from hepllm.report.page import Cell, Group, Row, Table
from hepllm.report.text import as_text
from hepllm.runs.folder import Run, open_run
from hepllm.runs.picked_events import PickedEvent, pick_events
from hepllm.schema import feature_of

LOG = logging.getLogger(__name__)

FOLDER, RECORD, TEXT, PICTURE = "map", "map.json", "samples.txt", "map.png"
"""The folder of a map in its run, and files in it."""

_M_JJ = "m_jj"
_TOLD = 3
"""Features that are told of each category: those that set it apart most."""

_RANKED = {
    "easy": ("confidence", -1.0),
    "ambiguous": ("variability", -1.0),
    "hard": ("area_under_margin", 1.0),
}
"""What makes an event an example of its category: a measure, and the sign of its order."""


@dataclass(frozen=True)
class MapReport:
    """The map of a training.

    Attributes:
        name: name of the run.
        record: the content of ``map.json``.
        text: the same in words.
        files: the written files.
    """

    name: str
    record: MapRecord
    text: str
    files: tuple[Path, ...]


def map_run(folder: Path, config: CartographyConfig, output: Path | None = None) -> MapReport:
    """Maps the events of a run that was trained with ``train.dynamics``.

    Args:
        folder: the run folder; its training dataset must be there.
        config: how events are divided into categories.
        output: folder of the results, which replaces an earlier one; None: ``map`` in the run.

    Raises:
        InputError: if the run has no record, or its dataset has changed.
        RunError: if the results cannot be written.
    """
    run = open_run(folder)
    dynamics = read_dynamics(
        folder, "the run was trained without it; train again with: hepllm train --dynamics"
    )
    part = choose_part(dynamics, config, folder)
    event_map = map_events(dynamics, part, config)
    if not len(event_map):
        raise InputError(
            f"{folder}: no epoch has ended or shown an event yet; go on with: hepllm train --resume"
        )
    dataset = run.dataset()
    table, columns = _events_of(run, dataset, event_map)
    record = MapRecord(
        run=folder.resolve().name,
        dataset=dataset.folder.name,
        epochs=part,
        n_epochs=dynamics.parts[part].n_epochs - config.skip,
        n_events=len(event_map),
        n_unseen=len(dynamics.label) - len(event_map),
        rule=config,
        classes=describe_categories(event_map, columns),
        made=this_call(),
    )
    place = output or folder / FOLDER
    bench = _Bench(run, config, event_map, table, columns, record)
    with write_errors(place, "choose another --output"):
        _refuse_others(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        with write_aside(place) as aside:
            aside.mkdir()
            names = _write(bench, dynamics, aside)
    return MapReport(record.run, record, as_text(_table(record)), tuple(place / n for n in names))


@dataclass(frozen=True, eq=False)
class _Bench:
    """A map with the N events of the run's dataset that are on it, in its order."""

    run: Run
    config: CartographyConfig
    event_map: EventMap
    table: EventTable
    columns: Columns
    record: MapRecord


def _events_of(run: Run, dataset: Dataset, event_map: EventMap) -> tuple[EventTable, Columns]:
    """Loads the events of a map, with m_jj and the features of the run."""
    features = [_M_JJ] * (_M_JJ in dataset.manifest.features)
    names = tuple(dict.fromkeys([*features, *run.config.train.feature_names()]))
    table = dataset.load(names, "train")
    rows = find_events(event_map.event_digest, table.event_digest)
    if (rows < 0).any():
        raise InputError(
            f"{run.folder}: {int((rows < 0).sum())} events of its record are not in the training "
            f"split of {dataset.folder}; train it again with --dynamics"
        )
    table = table.take(rows)
    return table, {name: table.column(name) for name in names}


def _refuse_others(place: Path) -> None:
    """Raises InputError where a folder holds anything but a map, which would be lost."""
    if place.is_dir() and any(place.iterdir()) and not (place / RECORD).is_file():
        raise InputError(f"{place}: contains no map but other files; choose another --output")


def _write(bench: _Bench, dynamics: Dynamics, folder: Path) -> list[str]:
    """Writes all files of a map, and returns the names of those that people look at."""
    event_map, record = bench.event_map, bench.record
    known = {"event_id": bench.table.event_id, "source": bench.table.source}
    known["weight"] = bench.table.weight
    event_map.write(folder / MAP, bench.run.record.dataset_digest, known)
    _write_csv(read_parquet(folder / MAP), folder / "map.csv")
    for epoch in describe_epochs(dynamics, event_map.part, bench.config):
        epoch.write(folder / f"epoch-{epoch.epoch:03d}.json")
    _draw_map(bench, folder / PICTURE)
    names = [RECORD, MAP, "map.csv", PICTURE]
    for label in CLASSES:
        if (event_map.label == CLASSES[label]).any():
            _draw_features(bench, label, folder / f"features-{label}.png")
            names.append(f"features-{label}.png")
    write_text(folder / TEXT, "\n".join(_samples(bench)) + "\n")
    names.append(TEXT)
    names += _draw_examples(bench, folder)
    record.write(folder / RECORD)
    return names


def _write_csv(table: pa.Table, file: Path) -> None:
    with open_file(file, "wb") as stream:
        pa.csv.write_csv(table, stream)


def _draw_map(bench: _Bench, path: Path) -> None:
    event_map, config = bench.event_map, bench.config
    measures = event_map.measures
    classes = [
        MappedClass(
            name,
            measures.confidence[chosen],
            measures.variability[chosen],
            measures.correctness[chosen],
        )
        for name, label in reversed(list(CLASSES.items()))
        if (chosen := event_map.label == label).any()
    ]
    borders = None
    if config.categories == "thresholds":
        borders = (config.ambiguous_variability, config.hard_confidence)
    title = f"{bench.record.run}: {bench.record.n_epochs} epochs of the {event_map.part}"
    plot_data_map(classes, title, path, borders)


def _draw_features(bench: _Bench, label: str, path: Path) -> None:
    event_map = bench.event_map
    of_class = event_map.label == CLASSES[label]
    chosen = {name: of_class & event_map.is_of(name) for name in CATEGORIES}
    chosen = {name: mask for name, mask in chosen.items() if mask.any()}
    histograms = [
        FeatureHistograms.of(feature_of(name), {kind: values[m] for kind, m in chosen.items()})
        for name, values in bench.columns.items()
    ]
    counts: dict[str, int] = {name: int(mask.sum()) for name, mask in chosen.items()}
    plot_category_features(histograms, f"{bench.record.run}, {label}", counts, path)


def _examples(bench: _Bench, number: int) -> Iterator[tuple[str, str, Ints]]:
    """The events that are most of their class and category: class, category, places (K,)."""
    event_map = bench.event_map
    for label, value in CLASSES.items():
        for category in CATEGORIES:
            places = np.flatnonzero((event_map.label == value) & event_map.is_of(category))
            measure, sign = _RANKED[category]
            values: Floats = getattr(event_map.measures, measure)[places]
            yield label, category, places[np.argsort(sign * values, kind="stable")[:number]]


def _samples(bench: _Bench) -> Iterator[str]:
    """Writes examples of each class and category as text."""
    record = bench.record
    yield f"{record.run}: events of each class and category, the most typical first"
    for label, category, places in _examples(bench, bench.config.samples):
        described = record.classes[label][category]
        yield ""
        yield f"{category} {label}: {described.n_events} events, {100 * described.share:.1f} %"
        for place in places.tolist():
            values = [
                f"{name} {column[place]:.4g}{' ' * bool(unit)}{unit}"
                for name, column in bench.columns.items()
                for unit in (feature_of(name).unit,)
                if not np.isnan(column[place])
            ]
            yield f"  {_name(bench.table, place)}: {_believed(bench.event_map, place)}"
            yield f"    {', '.join(values)}"


def _name(table: EventTable, place: int) -> str:
    return f"event {table.event_id[place]} of {table.source[place]}"


def _believed(event_map: EventMap, place: int) -> str:
    measures = event_map.measures
    n_epochs = int(measures.n_epochs[place])
    return (
        f"confidence {measures.confidence[place]:.3f}, "
        f"variability {measures.variability[place]:.3f}, "
        f"right in {round(measures.correctness[place] * n_epochs)} of {n_epochs} epochs, "
        f"margin {measures.area_under_margin[place]:+.2f}"
    )


def _draw_examples(bench: _Bench, folder: Path) -> list[str]:
    """Draws examples of each class and category, where the directions of jets are known."""
    chosen = [
        (label, category, place)
        for label, category, places in _examples(bench, bench.config.examples)
        for place in places.tolist()
    ]
    if not chosen:
        return []
    run, table = bench.run, bench.table
    wanted = [f"{table.source[place]}:{table.event_id[place]}" for *_, place in chosen]
    config, drawn = run.config.preprocess, []
    picked = pick_events(run, run.record.dataset, wanted, config, by_row=False)
    radius = config.jets.radius
    (folder / "events").mkdir()
    with progress_bar(len(chosen), "draw events") as bar:
        for (label, category, place), event in zip(chosen, picked, strict=True):
            name = f"events/{label}-{category}-{event.name}.png"
            title = f"{category} {label}: {_name(table, place)}\n"
            title += _believed(bench.event_map, place)
            if _draw(event, radius, title, folder / name):
                drawn.append(name)
            bar.update(1)
    if not drawn:
        (folder / "events").rmdir()
        LOG.info("no event displays: eta and phi of the jets are unknown")
    return drawn


def _draw(event: PickedEvent, radius: float, title: str, path: Path) -> bool:
    """Draws an event and returns whether the directions of its jets are known."""
    jets = jets_of(event.features)
    if jets:
        plot_event(jets, event.particles, radius, title, path)
    return bool(jets)


def _table(record: MapRecord) -> Table:
    """Tabulates the categories, with what sets each apart."""
    heads = ("", "events", "share", "confidence", "variability", "correctness", "margin")
    groups = [
        Group(
            label,
            [
                Row(
                    name,
                    [
                        Cell(str(one.n_events), one.n_events),
                        *(
                            Cell("" if value is None else form.format(value), value)
                            for value, form in (
                                (one.share, "{:.1%}"),
                                (one.confidence, "{:.3f}"),
                                (one.variability, "{:.3f}"),
                                (one.correctness, "{:.3f}"),
                                (one.area_under_margin, "{:+.2f}"),
                            )
                        ),
                    ],
                )
                for name, one in categories.items()
            ],
        )
        for label, categories in record.classes.items()
    ]
    return Table(
        f"Map of {record.run}: {record.n_events} events in {record.n_epochs} epochs of the "
        f"{record.epochs}",
        heads,
        groups,
        tuple(_distinctions(record)),
    )


def _distinctions(record: MapRecord) -> Iterator[str]:
    """Says of each class and category in which features it differs most from the others."""
    is_told = False
    for label, categories in record.classes.items():
        for name, one in categories.items():
            told = [
                f"{feature} {_number(found.median)} ({_number(found.low)} to "
                f"{_number(found.high)}; distance {found.distance:.2f})"
                for feature, found in list(one.features.items())[:_TOLD]
                if found.distance is not None and found.median is not None
            ]
            if told:
                is_told = True
                yield f"{name} {label}: {', '.join(told)}."
    if is_told:
        yield (
            "Features: median (16 to 84 % quantile; Kolmogorov-Smirnov distance to the rest of the "
            "class)."
        )
    if record.n_unseen:
        yield f"{record.n_unseen} training events were shown in no epoch."


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
