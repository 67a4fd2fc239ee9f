"""The dataset of a fold: data of a signal region as class 1, a template of background as class 0.

A language model trains on it as on any other. Its splits are ``train`` and ``val`` of the events
around the fold, and ``test``, which is the fold itself and the part of the template that goes with
it. The labels of the box are not read, and what is known of its simulated signals is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hepllm.arrays import Bools, Floats, Ints
from hepllm.config import SplitConfig
from hepllm.data.dataset import MANIFEST, Dataset
from hepllm.data.event_table import EventTable
from hepllm.data.manifest import CutFlowStep, SourceFile
from hepllm.data.writer import DatasetWriter, assign_splits, make_table
from hepllm.files import write_aside
from hepllm.physics.events import digest_runs
from hepllm.runs.weak_box import WeakInputs
from hepllm.schema import BACKGROUND, SIGNAL, SPLITS
from hepllm.weak.folds import FoldTask, draw_folds
from hepllm.weak.origin import WeakOrigin
from hepllm.weak.regions import Region
from hepllm.weak.templates import Template

ORIGIN = "weak"
"""Key of the ``WeakOrigin`` in the configuration of the dataset's manifest."""

_DRAWN = "density"
_TEST = SPLITS.index("test")


@dataclass(frozen=True, eq=False)
class _Class:
    """Events of a class with their weights, and a mask of those of the test split."""

    label: int
    table: EventTable
    weight: Floats
    is_test: Bools


def origin_of(inputs: WeakInputs, region: Region, fold: int | None = None) -> WeakOrigin:
    """The record of a training around a fold; None for those around all folds together."""
    settings, background = inputs.config.evaluation.search.weak, inputs.background
    return WeakOrigin(
        dataset=inputs.chosen.dataset.folder.resolve(),
        dataset_digest=inputs.chosen.dataset.digest,
        template=settings.template,
        background_digest=None if background is None else background.dataset.digest,
        region_gev=(region.low, region.high),
        sidebands_gev=(region.below, region.above),
        folds=settings.folds,
        fold=fold,
    )


def write_fold_dataset(inputs: WeakInputs, task: FoldTask, folder: Path) -> None:
    """Writes the dataset of a fold, unless it is there.

    Args:
        inputs: the box, read with all of its columns.
        task: the fold and the signal region.
        folder: folder to make.

    Raises:
        InputError: if the template cannot be made.
    """
    if (folder / MANIFEST).is_file():
        return
    data, template = _data(inputs, task), _template(inputs, task)
    names = tuple(name for name in data.table.names if name in template.table.names)
    sources = _sources(inputs)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with write_aside(folder) as aside:
        aside.mkdir()
        writer = DatasetWriter(aside)
        for table in _tables((data, template), names, inputs, [one.name for one in sources]):
            writer.write(table)
        steps = [CutFlowStep(name=f"{task.region}", events=len(data.table) + len(template.table))]
        writer.finish(_config(inputs, task), sources, steps, names)


def fold_origin(dataset: Dataset) -> WeakOrigin | None:
    """What a dataset of ``write_fold_dataset`` is made of; None for any other."""
    tree = dataset.manifest.config.get(ORIGIN)
    return None if tree is None else WeakOrigin.model_validate(tree)


def _data(inputs: WeakInputs, task: FoldTask) -> _Class:
    """Data of the signal region, of all folds."""
    is_inside = task.region.signal(inputs.data.m_jj)
    is_test = (inputs.fold == task.fold)[is_inside]
    return _Class(SIGNAL, inputs.table.take(is_inside), np.ones(len(is_test)), is_test)


def _template(inputs: WeakInputs, task: FoldTask) -> _Class:
    """The template that was made around the fold, and events like it for the test split."""
    background = inputs.background
    template, rows = _template_of(inputs, task, inputs.fold != task.fold)
    if rows is not None and background is None:  # sidebands: those of the fold are like them
        held, held_rows = _template_of(inputs, task, inputs.fold == task.fold)
        sizes = [len(template.weight), len(held.weight)]
        return _Class(
            BACKGROUND,
            inputs.table.take(np.concatenate([rows, held_rows])),
            np.concatenate([template.weight, held.weight]),
            np.repeat([False, True], sizes),
        )
    table = _drawn(template, inputs)
    if rows is not None and background is not None:
        table = background.table.take(rows)
    part = draw_folds(len(table), inputs.config.evaluation.search.weak.folds, inputs.config.seed)
    return _Class(BACKGROUND, table, template.weight, part == task.fold)


def _template_of(inputs: WeakInputs, task: FoldTask, kept: Bools) -> tuple[Template, Ints | None]:
    """The template that is made of some events of the box, and its rows among all of them."""
    training, background = inputs.training, inputs.background
    other = None if background is None else background.sample
    data, seed = inputs.data.take(kept), training.seed_of(task)
    template = training.maker.make(data, task.region, other, seed)
    if template.rows is None or background is not None:
        return template, template.rows
    return template, np.flatnonzero(kept)[template.rows]


def _drawn(template: Template, inputs: WeakInputs) -> EventTable:
    """Drawn events, which have the features of the training alone."""
    names, number = inputs.training.maker.names, len(template.weight)
    return EventTable(
        features=template.features,
        names=names,
        label=np.zeros(number, np.int8),
        label_raw=np.zeros(number, np.int16),
        weight=np.ones(number),
        event_id=np.arange(number),
        source=np.full(number, _DRAWN, object),
        event_digest=digest_runs(list(template.features.T), np.ones(number, np.int64)),
        split=np.full(number, "train", object),
    )


def _tables(
    classes: Sequence[_Class], names: tuple[str, ...], inputs: WeakInputs, sources: Sequence[str]
) -> Iterator[pa.Table]:
    """The events of both classes, source by source; in each split both have the same weight."""
    share, seed = inputs.config.evaluation.search.weak.validation, inputs.config.seed
    rule = SplitConfig(train=1 - share, val=share, test=0, seed=seed)
    split = [
        np.where(one.is_test, _TEST, assign_splits(one.table.event_digest, rule)).astype(np.int8)
        for one in classes
    ]
    for one, mine in zip(classes, split, strict=True):
        weight = one.weight.copy()
        for place in np.unique(mine):
            chosen = mine == place
            weight[chosen] *= (split[0] == place).sum() / weight[chosen].sum()
        for position, source in enumerate(sources):
            rows = np.flatnonzero(one.table.source == source)
            if len(rows):
                columns: dict[str, NDArray[Any]] = {
                    "event_id": one.table.event_id[rows],
                    "event_digest": one.table.event_digest[rows],
                    "label_raw": np.full(len(rows), one.label, np.int16),
                    "weight": weight[rows],
                }
                features = {name: one.table.column(name)[rows] for name in names}
                yield make_table(columns, features, (position, sources), mine[rows])


def _sources(inputs: WeakInputs) -> list[SourceFile]:
    """The files of the events, without what is known of their signals."""
    datasets = [inputs.chosen.dataset]
    if inputs.background is not None:
        datasets.append(inputs.background.dataset)
    unknown = {"signal_points": None, "masterkey": None, "masterkey_sha256": None}
    known = {
        one.name: one.model_copy(update=unknown)
        for dataset in reversed(datasets)
        for one in dataset.manifest.sources
    }
    if inputs.training.maker.kind == "density":
        known[_DRAWN] = SourceFile(name=_DRAWN, file="drawn", size=0, sha256="", events=0)
    return list(known.values())


def _config(inputs: WeakInputs, task: FoldTask) -> dict[str, Any]:
    """The configuration of the box, with its new variables as columns, and where it is from."""
    config = inputs.chosen.dataset.manifest.config
    section, new = config["preprocess"], inputs.config.preprocess.new_variables
    section = {**section, "new_variables": {**section.get("new_variables", {}), **new}}
    return {
        **config,
        "preprocess": section,
        ORIGIN: origin_of(inputs, task.region, task.fold).tree(),
    }
