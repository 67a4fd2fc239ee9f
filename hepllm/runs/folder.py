"""A run on disk: what ``hepllm train`` leaves behind and the later commands open.

runs/<name>/  config.yaml  run.json  history.jsonl  tensorboard/  checkpoints/
              events.parquet (what was trained and validated on)  validation.parquet (scores)
              eval/<set>/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hepllm.arrays import Digests, Floats, Ints, Labels
from hepllm.config import Config, TrainConfig, load_config
from hepllm.data.dataset import Dataset, EventTable, read_dataset
from hepllm.data.views import balanced_view, validation_view
from hepllm.errors import InputError
from hepllm.files import write_aside, write_text
from hepllm.learning.checkpoint import best_checkpoint, load_weights
from hepllm.model.backbone import load_backbone
from hepllm.model.classifier import EventClassifier, build_classifier
from hepllm.model.encoding import PromptEncoder
from hepllm.runs.record import RunRecord
from hepllm.schema import BACKGROUND, SIGNAL

_CONFIG, _RECORD, _EVENTS, _VALIDATION = (
    "config.yaml",
    "run.json",
    "events.parquet",
    "validation.parquet",
)


@dataclass(frozen=True)
class Run:
    """An existing run folder, not yet loaded into memory."""

    folder: Path
    config: Config
    record: RunRecord

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints lie."""
        return self.folder / "checkpoints"

    def dataset(self) -> Dataset:
        """The dataset that it was trained on.

        Raises:
            InputError: if it is gone or has other contents now.
        """
        dataset = read_dataset(self.record.dataset)
        if dataset.digest != self.record.dataset_digest:
            raise InputError(
                f"{self.record.dataset}: its contents have changed since {self.folder} was "
                "trained; train again, or restore the dataset"
            )
        return dataset

    def used_events(self) -> Digests:
        """Digests of all events that it was trained or validated on."""
        digests: Digests = _read_table(self.folder / _EVENTS)["event_digest"].to_numpy()
        return digests

    def validation_rows(self, table: EventTable) -> Ints:
        """Where the events with validation scores stand in their split, in the scores' order.

        Args:
            table: the validation split of the run's dataset.

        Raises:
            InputError: if it lacks some of them.
        """
        kept = _read_table(self.folder / _VALIDATION)
        wanted = kept["event_digest"].to_numpy()
        order = np.argsort(table.event_digest, kind="stable")
        found = np.searchsorted(table.event_digest, wanted, sorter=order)
        rows: Ints = order[np.minimum(found, len(order) - 1)]
        same = np.array_equal(table.event_digest[rows], wanted)
        if not same or not np.array_equal(table.label[rows], kept["label"].to_numpy()):
            raise InputError(
                f"{self.folder}: its validation scores are not those of its dataset; train it again"
            )
        return rows

    def validation_table(self, names: Sequence[str]) -> EventTable:
        """The events with validation scores, in their order."""
        table = self.dataset().load(names, "val")
        return table.take(self.validation_rows(table))

    def validation_scores(self) -> Floats:
        """Scores of the validation events, in the order of ``validation_events``."""
        scores: Floats = _read_table(self.folder / _VALIDATION)["score"].to_numpy()
        return scores

    def validation_labels(self) -> tuple[Labels, Floats]:
        """Labels and weights of the validation events, beside their scores."""
        table = _read_table(self.folder / _VALIDATION)
        return table["label"].to_numpy(), table["weight"].to_numpy()

    def load_classifier(self) -> tuple[EventClassifier, PromptEncoder]:
        """Loads the backbone and the weights that did best on validation data."""
        checkpoint = best_checkpoint(self.checkpoints)
        classifier, encoder = make_classifier(self.config)
        load_weights(checkpoint, classifier)
        return classifier, encoder


def open_run(folder: Path) -> Run:
    """Opens a run folder.

    Raises:
        InputError: if it is none, or a file is missing or broken.
    """
    record_file = folder / _RECORD
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run; train one with 'hepllm train'")
    for file in (record_file, folder / _CONFIG):
        if not file.is_file():
            raise InputError(
                f"{folder}: not a run: {file.name} is missing; name a folder that 'hepllm train' "
                "made"
            )
    mend = "name a folder that 'hepllm train' made, or train it again"
    record = RunRecord.read(record_file, mend)
    return Run(folder, load_config(folder / _CONFIG), record)


def make_classifier(config: Config) -> tuple[EventClassifier, PromptEncoder]:
    """Loads the backbone and joins it with fresh LoRA and NFA weights."""
    backbone = load_backbone(config.backbone, config.seed)
    encoder = PromptEncoder(backbone.tokenizer, config)
    return build_classifier(backbone, encoder.label_tokens, config), encoder


def training_events(dataset: Dataset, config: TrainConfig, seed: int) -> EventTable:
    """The training split in the balance asked for."""
    table = dataset.load(config.feature_names(), "train")
    return table.take(balanced_view(table.label, config.balance, seed))


def validation_events(dataset: Dataset, config: TrainConfig, limit: int, seed: int) -> EventTable:
    """The validation split, or so many events of it at most."""
    table = dataset.load(config.feature_names(), "val")
    return table.take(validation_view(table.label, limit, seed))


def count_classes(table: EventTable) -> dict[str, int]:
    """Events by class name."""
    return {
        "signal": int((table.label == SIGNAL).sum()),
        "background": int((table.label == BACKGROUND).sum()),
    }


def write_used_events(folder: Path, *tables: EventTable) -> None:
    """Records which events a run has seen, so that no evaluation counts them.

    Those recorded before stay: a resumed run may go on with another balance.
    """
    digests = np.unique(np.concatenate([table.event_digest for table in tables]))
    if (folder / _EVENTS).exists():
        earlier = _read_table(folder / _EVENTS)["event_digest"].to_numpy()
        digests = np.union1d(digests, earlier)
    write_table(folder / _EVENTS, {"event_digest": digests})


def write_validation_scores(folder: Path, table: EventTable, scores: Floats) -> None:
    """Keeps the validation scores, on which thresholds are chosen later."""
    columns = {
        "event_digest": table.event_digest,
        "label": table.label,
        "weight": table.weight,
        "score": scores,
    }
    write_table(folder / _VALIDATION, columns)


def write_table(file: Path, columns: dict[str, Any]) -> None:
    """Writes columns as Parquet, whole or not at all."""
    with write_aside(file) as aside:
        pq.write_table(pa.table(columns), aside, compression="zstd")


def write_run_files(folder: Path, config_text: str, record: RunRecord) -> None:
    """Makes a folder a run."""
    write_text(folder / _CONFIG, config_text)
    record.write(folder / _RECORD)


def _read_table(file: Path) -> pa.Table:
    try:
        return pq.read_table(file)
    except FileNotFoundError:
        raise InputError(
            f"{file}: missing; the training was not finished, go on with: hepllm train --resume"
        ) from None
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file}: not readable: {error}") from None
