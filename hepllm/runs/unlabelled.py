"""The events without labels that a training uses beside its labelled ones."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hepllm.config import Config
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.data.event_table import EventTable
from hepllm.errors import InputError
from hepllm.learning.unlabelled import refuse_few
from hepllm.report.records import UnlabelledEvents
from hepllm.runs.folder import Run
from hepllm.runs.places import find_dataset
from hepllm.schema import UNKNOWN

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """Unlabelled events, whose labels were not read, and what is recorded of them."""

    table: EventTable
    record: UnlabelledEvents


def unlabelled_events(
    dataset: Dataset,
    config: Config,
    validation: EventTable,
    resumed: Run | None = None,
) -> Unlabelled | None:
    """Loads the events of ``train.unsupervised``: the training split of their dataset.

    Args:
        dataset: the labelled dataset, whose events of unknown label they are where none is named.
        config: the settings; None is returned where no setting needs them.
        validation: labelled events, which are left out.
        resumed: the run that goes on with the same events; None for a new one.

    Raises:
        InputError: if there are none, or not those of the earlier run.
    """
    settings = config.train.unsupervised
    if not (settings.weight or config.train.self_training.rounds):
        return None
    earlier = None if resumed is None else resumed.record.unlabelled
    names, particles = config.train.feature_names(), config.fusion.constituents
    if settings.dataset is None:
        pool = dataset
        table = dataset.load(names, "train", particles=particles)
        table = table.take(table.label == UNKNOWN)
    else:
        pool = read_dataset(_place(Path(settings.dataset), resumed))
        pool = pool.with_variables(config.preprocess.variables())
        _check_jets(dataset, pool)
        table = pool.load(names, "train", labels=False, particles=particles)
    if not len(table):
        raise InputError(
            f"{pool.folder}: no {'unlabelled ' if pool is dataset else ''}events in its train "
            "split; name a dataset with train.unsupervised.dataset"
        )
    shared = np.isin(table.event_digest, validation.event_digest)
    if shared.any():
        LOG.warning(
            "%s: %d of %d unlabelled events are validation events and are left out",
            pool.folder,
            shared.sum(),
            len(table),
        )
        table = table.take(~shared)
    if settings.weight:
        refuse_few(len(table), settings)
    record = UnlabelledEvents(
        dataset=pool.folder.resolve(), dataset_digest=pool.digest, n_events=len(table)
    )
    if resumed is not None and earlier and record.dataset_digest != earlier.dataset_digest:
        raise InputError(
            f"{pool.folder}: is not the dataset of unlabelled events that {resumed.folder} was "
            "trained with; restore it, or train another run"
        )
    return Unlabelled(table, record)


def _place(named: Path, resumed: Run | None) -> Path:
    """The folder of a named dataset, for a resumed run also where it was moved with the run."""
    earlier = None if resumed is None else resumed.record.unlabelled
    if resumed is None or earlier is None:
        return named
    return find_dataset(earlier.dataset, earlier.dataset_digest, resumed.folder)


def _check_jets(dataset: Dataset, pool: Dataset) -> None:
    ours, theirs = (one.manifest.config["preprocess"]["jets"] for one in (dataset, pool))
    if ours != theirs:
        raise InputError(
            f"{pool.folder}: made with jets {theirs}, but {dataset.folder} with {ours}; "
            "preprocess it with the same settings"
        )
