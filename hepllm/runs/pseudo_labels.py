"""The pseudo-labelled events of a round of self-training, and their file in its folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hepllm import __version__
from hepllm.arrays import Floats
from hepllm.data.event_table import EventTable, concatenate
from hepllm.data.notes import NotesRecord, find_events, read_notes, write_notes
from hepllm.errors import InputError
from hepllm.learning.pseudo_labels import PseudoLabels, with_noise
from hepllm.learning.steps import TrainingData

AddEvents = Callable[[TrainingData], TrainingData]
"""Adds events to those that a training has loaded."""


def write_pseudo_labels(file: Path, pool: EventTable, chosen: PseudoLabels) -> None:
    """Writes which events of a pool have labels, which ones, and their weights."""
    columns = {"is_signal": chosen.is_signal, "target": chosen.target, "weight": chosen.weight}
    columns["repeats"] = np.full(len(chosen), chosen.repeats)
    record = NotesRecord(
        holds="pseudo-labels of a round of self-training",
        made_by=f"hepllm train, version {__version__}",
    )
    write_notes(file, pool.event_digest[chosen.events], columns, record)


@dataclass(frozen=True)
class AddPseudoLabels:
    """Adds the events of a file to the labelled ones of a training.

    Attributes:
        file: made by ``write_pseudo_labels``.
        noise: noise on the features of the rarer class, as in ``train.self_training.noise``.
        signal_is_rarer: whether that is the signal.
        seed: seed of the training.
        number: number of the round.
    """

    file: Path
    noise: float
    signal_is_rarer: bool
    seed: int
    number: int

    def __call__(self, data: TrainingData) -> TrainingData:
        """Returns the events of a training with those of the file.

        Raises:
            InputError: if the pool of the training lacks one, or events have hypotheses or an
                order.
        """
        if data.truth is not None:
            raise InputError(
                "train.self_training labels events without a hypothesis; "
                "set train.hypothesis.enabled=false"
            )
        if data.rank is not None:
            raise InputError("train.self_training has no curriculum; leave train.by_map.curriculum")
        pool, notes = data.unlabelled, read_notes(self.file, "start the training again")
        rows = find_events(notes.event_digest, pool.event_digest) if pool is not None else None
        if pool is None or rows is None or (rows < 0).any():
            raise InputError(
                f"{self.file}: has events that the unlabelled dataset lacks; restore the dataset, "
                "or train another run"
            )
        extra, is_signal = pool.take(rows), notes.column("is_signal")
        features: Floats = with_noise(
            extra.features, is_signal == self.signal_is_rarer, self.noise, self.seed, self.number
        )
        extra = replace(
            extra,
            features=features,
            label=is_signal.astype(np.int8),
            weight=notes.column("weight"),
        )
        again = np.tile(np.arange(len(data.train)), int(notes.column("repeats")[0]))
        targets = np.concatenate([data.targets[again], notes.column("target")])
        train = concatenate([data.train.take(again), extra])
        return replace(data, train=train, soft_targets=targets)
