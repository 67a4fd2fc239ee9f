"""Checks that the events of a dataset can be trained on."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from hepllm.data.dataset import Dataset
from hepllm.data.event_table import EventTable
from hepllm.errors import InputError
from hepllm.runs.folder import count_classes
from hepllm.runs.places import refuse_reserved
from hepllm.schema import BACKGROUND, SIGNAL

LOG = logging.getLogger(__name__)


def check_classes(dataset: Dataset, split: str, table: EventTable, balance: str) -> None:
    """Refuses events that are not of both classes, or have no positive sum of weights in one."""
    held, chosen = dataset.manifest.counts[split], count_classes(table)
    if missing := [name for name in chosen if not held[name]]:
        raise InputError(
            f"{dataset.folder}: no {' and no '.join(missing)} events in its {split} split, which "
            f"has {', '.join(f'{number} {name}' for name, number in held.items())}; training needs "
            "both classes: preprocess more events, with labels or a master key (--masterkey)"
        )
    for name, label in (("signal", SIGNAL), ("background", BACKGROUND)):
        if not chosen[name]:
            raise InputError(
                f"{dataset.folder}: train.balance={balance} leaves none of the {held[name]} {name} "
                f"events in its {split} split; give train.balance=natural"
            )
        total = float(table.weight[table.label == label].sum())
        if total <= 0:
            raise InputError(
                f"{dataset.folder}: the weights of the {chosen[name]} {name} events in its {split} "
                f"split sum to {total:g}, expected more than 0; correct them, or preprocess the "
                "files with --set preprocess.weight=none"
            )


def check_features(dataset: Dataset, table: EventTable) -> None:
    """Warns of features that no training event has; refuses to train on no others."""
    is_missing = [bool(np.isnan(column).all()) for column in table.features.T]
    names = [name for name, missing in zip(table.names, is_missing, strict=True) if missing]
    if len(names) == len(table.names):
        raise InputError(
            f"{dataset.folder}: all of the features {', '.join(names)} are missing in every "
            "training event; choose others with train.features"
        )
    if names:
        LOG.warning("missing in every training event, so not useful: %s", ", ".join(names))


def check_particles(dataset: Dataset, table: EventTable) -> None:
    """Refuses to train on particles that no event has, as in a dataset of a feature table."""
    if table.particles is not None and np.isnan(table.particles[:, :, 1:]).all():
        raise InputError(
            f"{dataset.folder}: made from features, so no event has particles; preprocess files "
            "with particles, or set fusion.inputs=numbers"
        )


def check_output(output: Path, overwrite: bool) -> None:
    """Raises InputError, before the model is loaded, if the output cannot become a run."""
    refuse_reserved(output)
    above = next(parent for parent in output.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(
            f"{output}: {above} is not a folder that can be written to; choose another --output"
        )
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: exists and is not a folder")
    if output.is_dir() and any(output.iterdir()):
        if not overwrite:
            raise InputError(
                f"{output}: exists; continue with --resume, or replace it with --overwrite"
            )
        if not (output / "run.json").is_file():
            raise InputError(f"{output}: contains no run but other files; choose another --output")
