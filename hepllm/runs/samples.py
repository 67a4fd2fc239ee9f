"""What a run is evaluated on: test split, datasets, black boxes; without events it has seen."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hepllm.data.dataset import Dataset, EventTable, read_dataset
from hepllm.errors import InputError
from hepllm.runs.folder import Run
from hepllm.schema import UNKNOWN, is_search_safe

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationSet:
    """Events to evaluate on.

    Attributes:
        name: of the output folder.
        table: the events.
        dataset: that they are from.
        is_blackbox: whether they come from a black box.
        n_excluded: events left out because the run has seen them.
    """

    name: str
    table: EventTable
    dataset: Dataset
    is_blackbox: bool
    n_excluded: int = 0


def collect_sets(
    run: Run,
    *,
    dataset: Path | None,
    blackbox: Dataset | None,
    all_blackboxes: bool,
    seen_by: Sequence[Run],
) -> list[EvaluationSet]:
    """Loads what a run is to be evaluated on, without events that it has seen.

    Args:
        run: what is evaluated.
        dataset: folder of a dataset, of which all events are taken.
        blackbox: a black box.
        all_blackboxes: take the test split, and every other dataset beside the training one.
        seen_by: other runs whose events are left out too.

    Raises:
        InputError: if a set cannot be used.
    """
    sets: list[EvaluationSet] = []
    if all_blackboxes or (dataset is None and blackbox is None):
        sets.append(_test_set(run))
    if dataset is not None:
        sets.append(_other_set(run, read_dataset(dataset), is_blackbox=False))
    if blackbox is not None:
        sets.append(_other_set(run, blackbox, is_blackbox=True))
    if all_blackboxes:
        beside = sorted(run.record.dataset.parent.glob("*/manifest.json"))
        others = [file.parent for file in beside if file.parent != run.record.dataset]
        if not others:
            raise InputError(
                f"no black box beside {run.record.dataset}: preprocess one, "
                "or name it with --blackbox FILE"
            )
        sets += [_other_set(run, read_dataset(folder), is_blackbox=True) for folder in others]
    return [_without_seen(run, chosen, seen_by) for chosen in sets]


def _test_set(run: Run) -> EvaluationSet:
    dataset = run.dataset()
    table = dataset.load(run.config.train.feature_names(), "test")
    return EvaluationSet(f"{dataset.folder.name}-test", table, dataset, False)


def _other_set(run: Run, dataset: Dataset, *, is_blackbox: bool) -> EvaluationSet:
    check_jets(run, dataset)
    table = dataset.load(run.config.train.feature_names())
    return EvaluationSet(dataset.folder.name, table, dataset, is_blackbox)


def check_jets(run: Run, dataset: Dataset) -> None:
    """Refuses a dataset whose jets are not those that a run was trained on.

    Raises:
        InputError: if they differ.
    """
    ours, theirs = (made.manifest.config["preprocess"]["jets"] for made in (run.dataset(), dataset))
    if ours != theirs:
        raise InputError(
            f"{dataset.folder}: made with jets {theirs}, but {run.folder} was trained on jets "
            f"{ours}; preprocess it with the same settings"
        )


def _without_seen(run: Run, chosen: EvaluationSet, others: Sequence[Run]) -> EvaluationSet:
    """Leaves out events that the runs were trained or validated on, by content."""
    used = np.concatenate([one.used_events() for one in (run, *others)])
    seen = np.isin(chosen.table.event_digest, used)
    n_seen = int(seen.sum())
    if n_seen:
        LOG.warning(
            "%s: %d of %d events were seen in training or validation and are left out",
            chosen.name,
            n_seen,
            len(seen),
        )
    table = chosen.table.take(~seen)
    if not len(table):
        raise InputError(f"{chosen.name}: no event is left to evaluate on")
    unlabelled = table.label == UNKNOWN
    if unlabelled.any() and not is_search_safe(run.config.train.feature_names()):
        raise InputError(
            f"{chosen.name}: has no labels, and {run.folder} was trained on features that follow "
            "m_jj; a cut on its score carves a bump into QCD: train with train.features=search"
        )
    return EvaluationSet(chosen.name, table, chosen.dataset, chosen.is_blackbox, n_seen)
