"""Files that a training or an ensemble leaves in the folder of a run, besides weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepllm import __version__
from hepllm.arrays import Digests, Floats
from hepllm.data.event_table import EventTable
from hepllm.data.notes import Notes, NotesRecord, read_notes, write_notes
from hepllm.files import write_text
from hepllm.report.records import RunRecord
from hepllm.runs import CONFIG, RECORD, VALIDATION_SCORES

USED_EVENTS = "events.parquet"


def write_used_events(folder: Path, dataset_digest: str, *tables: EventTable) -> None:
    """Records the events of its dataset that a run has seen, so that evaluations leave them out.

    Events recorded before are kept, because a resumed run may use another balance.
    """
    digests = np.unique(np.concatenate([table.event_digest for table in tables]))
    if (folder / USED_EVENTS).exists():
        digests = np.union1d(digests, read_run_notes(folder / USED_EVENTS).event_digest)
    write_seen_events(folder, dataset_digest, digests)


def write_seen_events(folder: Path, dataset_digest: str, digests: Digests) -> None:
    """Records the digests of the events that evaluations leave out."""
    record = _notes_record("events that the run has seen", dataset_digest)
    write_notes(folder / USED_EVENTS, digests, {}, record)


def write_validation_scores(
    folder: Path,
    dataset_digest: str,
    table: EventTable,
    scores: Floats,
    members: Mapping[str, Floats] | None = None,
) -> None:
    """Writes (N,) validation scores, on which later evaluations choose cuts.

    Those of an ensemble have the (N,) logits of its ``members`` beside them.
    """
    columns: dict[str, NDArray[Any]] = {"label": table.label, "weight": table.weight}
    columns["score"] = scores
    columns |= {member_column(name): values for name, values in (members or {}).items()}
    record = _notes_record("validation scores of the run", dataset_digest)
    write_notes(folder / VALIDATION_SCORES, table.event_digest, columns, record)


def member_column(member: str) -> str:
    """The column of the logits of an ensemble's member."""
    return f"score_{member}"


def write_run_files(folder: Path, config_text: str, record: RunRecord) -> None:
    """Writes the configuration and ``run.json``."""
    write_text(folder / CONFIG, config_text)
    record.write(folder / RECORD)


def _notes_record(holds: str, dataset_digest: str) -> NotesRecord:
    made_by = f"hepllm train, version {__version__}"
    return NotesRecord(holds=holds, made_by=made_by, dataset_digest=dataset_digest)


def read_run_notes(file: Path) -> Notes:
    """Reads what a run noted of events.

    Raises:
        InputError: the file is missing or damaged.
    """
    return read_notes(file, "the training did not finish; continue with: hepllm train --resume")
