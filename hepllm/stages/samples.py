"""What a run is evaluated on: test split, datasets, black boxes; without events it has seen."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hepllm.config import PreprocessConfig
from hepllm.dataset import Dataset, EventTable, read_dataset
from hepllm.errors import InputError
from hepllm.schema import UNKNOWN, is_search_safe
from hepllm.stages.preprocess import preprocess
from hepllm.stages.runs import Run

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
    blackbox: Path | None,
    all_blackboxes: bool,
    masterkey: Path | None,
    seen_by: Sequence[Run],
) -> list[EvaluationSet]:
    """Loads what a run is to be evaluated on, without events that it has seen.

    Args:
        run: what is evaluated.
        dataset: as for ``evaluate``, and so the next three.
        blackbox: see there.
        all_blackboxes: see there.
        masterkey: see there.
        seen_by: other runs whose events are left out too.

    Raises:
        InputError: if a set cannot be used.
    """
    if masterkey is not None and blackbox is None:
        msg = "--masterkey belongs to --blackbox FILE"
        raise InputError(msg)
    sets: list[EvaluationSet] = []
    if all_blackboxes or (dataset is None and blackbox is None):
        sets.append(_test_set(run))
    if dataset is not None:
        sets.append(_other_set(run, read_dataset(dataset), is_blackbox=False))
    if blackbox is not None:
        sets.append(_other_set(run, _open_blackbox(run, blackbox, masterkey), is_blackbox=True))
    if all_blackboxes:
        beside = sorted(run.record.dataset.parent.glob("*/manifest.json"))
        others = [file.parent for file in beside if file.parent != run.record.dataset]
        if not others:
            msg = (
                f"no black box beside {run.record.dataset}: preprocess one, "
                "or name it with --blackbox FILE"
            )
            raise InputError(msg)
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
        msg = (
            f"{dataset.folder}: made with jets {theirs}, but {run.folder} was trained on jets "
            f"{ours}; preprocess it with the same settings"
        )
        raise InputError(msg)


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
        msg = f"{chosen.name}: no event is left to evaluate on"
        raise InputError(msg)
    unlabelled = table.label == UNKNOWN
    if unlabelled.any() and not is_search_safe(run.config.train.feature_names()):
        msg = (
            f"{chosen.name}: has no labels, and {run.folder} was trained on features that follow "
            "m_jj; a cut on its score carves a bump into QCD: train with train.features=search"
        )
        raise InputError(msg)
    return EvaluationSet(chosen.name, table, chosen.dataset, chosen.is_blackbox, n_seen)


def _open_blackbox(run: Run, path: Path, masterkey: Path | None) -> Dataset:
    """A dataset, or an event file that is clustered as the training events were."""
    if path.is_dir():
        if masterkey is not None:
            msg = f"{path}: a dataset holds its labels; give --masterkey to preprocess"
            raise InputError(msg)
        return read_dataset(path)
    if not path.exists():
        msg = f"{path}: no such black box"
        raise InputError(msg)
    # What decides the contents comes from the training dataset, whatever the run's config says.
    content = run.dataset().manifest.config["preprocess"] | {"select": None}
    settings = run.config.preprocess.model_dump() | content
    config = run.config.model_copy(update={"preprocess": PreprocessConfig.model_validate(settings)})
    output = run.folder / "eval" / path.stem / path.stem
    made = preprocess([path], output, config, masterkey=masterkey, overwrite=True)
    return made[0].dataset
