"""The inputs of weak supervision: a box without labels, its regions and folds, and a background."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hepllm.arrays import Bools, Digests, Ints
from hepllm.config import Config
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.data.event_table import EventTable
from hepllm.errors import InputError
from hepllm.runs.box_search import observe
from hepllm.runs.samples import EvaluationSet, open_blind
from hepllm.schema import BACKGROUND, SIGNAL
from hepllm.search.box import BoxEvents
from hepllm.weak.folds import FoldTask, WeakTraining, draw_folds
from hepllm.weak.regions import Region, choose_regions
from hepllm.weak.templates import Sample, TemplateMaker

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class BackgroundEvents:
    """The events of the dataset that a template is made of.

    Attributes:
        dataset: the dataset.
        table: those of its events that may be in a template.
        sample: the same, as features and masses.
    """

    dataset: Dataset
    table: EventTable
    sample: Sample


@dataclass(frozen=True, eq=False)
class WeakInputs:
    """A box for weak supervision.

    Attributes:
        chosen: the dataset, without labels; its table has the features of the training first.
        events: its N events as a search sees them, all with the score 0.
        in_range: (N,) which of them are in the mass range.
        data: those in the mass range.
        regions: signal regions.
        background: events of the other dataset; None where the template needs none.
        fold: fold of each event in the mass range.
        training: what is trained for each fold, if it is no language model.
        config: settings of the experiment.
    """

    chosen: EvaluationSet
    events: BoxEvents
    in_range: Bools
    data: Sample
    regions: Sequence[Region]
    background: BackgroundEvents | None
    fold: Ints
    training: WeakTraining
    config: Config

    @property
    def table(self) -> EventTable:
        """The events in the mass range."""
        return self.chosen.table.take(self.in_range)

    @property
    def tasks(self) -> list[FoldTask]:
        """The folds of all signal regions, region by region."""
        folds = range(self.config.evaluation.search.weak.folds)
        return [
            FoldTask(number, region, one)
            for number, region in enumerate(self.regions)
            for one in folds
        ]


def open_weak_inputs(folder: Path, config: Config, *, all_columns: bool = False) -> WeakInputs:
    """Opens a box, and the background that a template needs; no label of the box is read.

    Args:
        folder: the dataset.
        config: settings of the search, in ``evaluation.search``, and the seed.
        all_columns: whether the tables have all columns that both datasets have, for a dataset
            that is made of them.

    Raises:
        InputError: if a dataset cannot be used, or has too few events.
    """
    search, settings = config.evaluation.search, config.evaluation.search.weak
    dataset, other = read_dataset(folder), _other_dataset(config)
    names = settings.feature_names()
    columns = (
        tuple(dict.fromkeys((*names, *_shared_columns(dataset, other)))) if all_columns else names
    )
    chosen = open_blind(dataset, config, columns)
    features = np.column_stack([chosen.table.column(name) for name in names])
    events = observe(chosen, np.zeros(len(chosen.table)), search.mass)
    in_range = (events.m_jj >= search.m_jj_min) & (events.m_jj < search.m_jj_max)
    data = Sample(features[in_range], events.m_jj[in_range])
    regions = choose_regions(data.m_jj, search)
    maker = TemplateMaker(settings.template, names, settings.oversampling)
    return WeakInputs(
        chosen=chosen,
        events=events,
        in_range=in_range,
        data=data,
        regions=regions,
        background=_open_background(chosen, other, config, regions, columns),
        fold=_shared_by_copies(
            draw_folds(len(data), settings.folds, config.seed),
            chosen.table.event_digest[in_range],
        ),
        training=WeakTraining(maker, settings.classifier, settings.members, config.seed),
        config=config,
    )


def _shared_by_copies(fold: Ints, digest: Digests) -> Ints:
    """The folds of events, (N,), where equal events are all in that of the first of them."""
    _, first, number = np.unique(digest, return_index=True, return_inverse=True)
    return fold[first][number]


def _shared_columns(dataset: Dataset, other: Dataset | None) -> Sequence[str]:
    """The columns on disk that both datasets have."""
    theirs = dataset.manifest.features if other is None else other.manifest.features
    return [name for name in dataset.manifest.features if name in theirs]


def _other_dataset(config: Config) -> Dataset | None:
    """The dataset of background that a template is made of; None where it needs none."""
    settings = config.evaluation.search.weak
    if not settings.needs_background:
        return None
    if settings.background is None:
        raise InputError(
            f"the template {settings.template} needs a dataset of background; give --background "
            "DATASET"
        )
    return read_dataset(Path(settings.background))


def _open_background(
    chosen: EvaluationSet,
    dataset: Dataset | None,
    config: Config,
    regions: Sequence[Region],
    columns: Sequence[str],
) -> BackgroundEvents | None:
    if dataset is None:
        return None
    settings, mass = config.evaluation.search.weak, config.evaluation.search.mass
    if dataset.digest == chosen.dataset.digest:
        raise InputError(
            f"{dataset.folder}: is the searched box itself; the background must be other events"
        )
    _check_background(dataset, chosen.dataset, is_ideal=settings.template == "ideal")
    table = open_blind(dataset, config, (*columns, mass), labels=True).table
    kept = table.label != SIGNAL if settings.template != "ideal" else table.label == BACKGROUND
    kept &= ~np.isin(table.event_digest, chosen.table.event_digest)
    if n_left_out := int((~kept).sum()):
        text = "%s: %d events are left out, which are signal or in the box"
        LOG.info(text, dataset.folder, n_left_out)
    table = table.take(kept)
    if n_negative := int((table.weight < 0).sum()):
        raise InputError(
            f"{dataset.folder}: {n_negative} of {len(table)} background events have negative "
            "weights, which a template cannot have; preprocess it without them"
        )
    features = np.column_stack([table.column(name) for name in settings.feature_names()])
    _require_same_features(dataset, table, chosen, settings.feature_names())
    is_equal = len(np.unique(table.weight)) < 2
    sample = Sample(features, table.column(mass), None if is_equal else table.weight)
    least = settings.min_events
    for region in regions:
        below, inside, above = region.counts(sample.m_jj)
        needed = (below, inside, above) if settings.template == "reweighted" else (inside,)
        if min(needed) < least:
            raise InputError(
                f"{dataset.folder}: has {inside} background events from {region}, {below} and "
                f"{above} in its sidebands; {least} are needed: use a larger dataset"
            )
    return BackgroundEvents(dataset, table, sample)


def _require_same_features(
    dataset: Dataset, table: EventTable, chosen: EvaluationSet, names: Sequence[str]
) -> None:
    """Raises InputError for features that only one of box and background has.

    By such a feature a classifier tells all data from all of the template.
    """
    ours, theirs = (
        [name for name in names if np.isfinite(one.column(name)).any()]
        for one in (chosen.table, table)
    )
    both = [name for name in names if name in ours and name in theirs]
    for has, lacks, found in (
        (chosen.dataset.folder, dataset.folder, [one for one in ours if one not in both]),
        (dataset.folder, chosen.dataset.folder, [one for one in theirs if one not in both]),
    ):
        if found:
            remedy = "use another dataset"
            if both:
                remedy += f", or --set 'evaluation.search.weak.features=[{','.join(both)}]'"
            raise InputError(
                f"{lacks}: no event has {', '.join(found)}, which those of {has} have, so that a "
                f"classifier would know them by that; {remedy}"
            )


def _check_background(dataset: Dataset, box: Dataset, *, is_ideal: bool) -> None:
    dataset.require_events()
    ours, theirs = (one.manifest.config["preprocess"]["jets"] for one in (box, dataset))
    if ours != theirs:
        raise InputError(
            f"{dataset.folder}: made with jets {theirs}, but {box.folder} with {ours}; preprocess "
            "it with the same settings"
        )
    if is_ideal and not dataset.has_labels:
        raise InputError(
            f"{dataset.folder}: some labels are unknown, and the template ideal is true "
            "background; use the template simulation"
        )
