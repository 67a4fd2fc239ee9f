"""``hepllm flag``: marks suspicious events of a dataset by rules, as a side table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hepllm import __version__
from hepllm.arrays import Bools, Floats
from hepllm.arrow_files import read_batches
from hepllm.cartography.event_map import read_map
from hepllm.cartography.flags import (
    RULES,
    Flags,
    ParticleLists,
    Suspects,
    flag_events,
    flag_particles,
)
from hepllm.cartography.priority import mean_of_known
from hepllm.cartography.records import FlagRecord, FlagsRecord
from hepllm.config import FlagsConfig
from hepllm.data.dataset import LABEL_NAMES, Dataset, read_dataset
from hepllm.data.event_table import EventTable
from hepllm.data.notes import NotesRecord, find_events, write_notes
from hepllm.errors import InputError
from hepllm.files import write_errors
from hepllm.provenance import this_call
from hepllm.report.page import Cell, Group, Row, Table
from hepllm.report.text import as_text

TABLE, RECORD = "flags.parquet", "flags.json"
"""Files in the folder of the results."""

_AT_ONCE = 10_000
"""Events whose constituents are in memory at once."""

_NEEDED = frozenset(
    (
        *(name for rule in RULES.values() for name in rule.features),
        *("n_jets", "m_jjj", "jet3_pt", "jet3_mass", "jet1_energy", "jet2_energy"),
        *(f"jet{jet}_{ratio}" for jet in (1, 2) for ratio in ("tau21", "tau32")),
    )
)
"""Features that rules look at."""


@dataclass(frozen=True)
class FlagReport:
    """The flags of a dataset.

    Attributes:
        name: name of the dataset.
        record: the content of ``flags.json``.
        text: the same in words.
        files: the written files.
    """

    name: str
    record: FlagsRecord
    text: str
    files: tuple[Path, ...]


def flag_dataset(
    folder: Path, config: FlagsConfig, output: Path, runs: Sequence[Path] = ()
) -> FlagReport:
    """Marks the suspicious events of a dataset.

    Args:
        folder: the dataset.
        config: limits of the rules.
        output: folder of the results.
        runs: mapped runs whose confidence in the labels counts.

    Raises:
        InputError: if the dataset or a map cannot be read, or a map has none of its events.
        RunError: if the results cannot be written.
    """
    dataset = read_dataset(folder)
    dataset.require_events()
    table = dataset.load(flagged_features(dataset))
    flags = flag_table(dataset, table, config, _confidence(table, runs))
    record = _record(dataset, table, flags, config)
    columns: dict[str, NDArray[Any]] = {
        "event_id": table.event_id,
        "source": table.source,
        **flags.broken,
        "n_flags": sum(flags.broken.values(), np.zeros(len(table), dtype=np.int64)),
        "score": flags.score,
        "suspicious": flags.score >= config.threshold,
    }
    with write_errors(output, "choose another --output"):
        output.mkdir(parents=True, exist_ok=True)
        notes = NotesRecord(
            holds="flags of suspicious events",
            made_by=f"hepllm flag, version {__version__}",
            dataset_digest=dataset.digest,
        )
        write_notes(output / TABLE, table.event_digest, columns, notes)
        record.write(output / RECORD)
    files = (output / TABLE, output / RECORD)
    return FlagReport(folder.resolve().name, record, as_text(_table(record)), files)


def flagged_features(dataset: Dataset) -> list[str]:
    """The features of a dataset that rules look at."""
    return [name for name in dataset.manifest.features if name in _NEEDED]


def flag_table(
    dataset: Dataset, table: EventTable, config: FlagsConfig, confidence: Floats | None
) -> Flags:
    """Asks the rules about all events of a dataset.

    Args:
        dataset: the dataset, whose constituents are read.
        table: its N events with ``flagged_features``, and perhaps others.
        config: limits of the rules.
        confidence: mean confidence in the labels over mapped runs, shape (N,); None without runs.
    """
    columns = {name: table.column(name) for name in flagged_features(dataset)}
    suspects = Suspects(
        table.event_digest, table.label, columns, table.source, confidence=confidence
    )
    return flag_events(suspects, config, _flag_particles(dataset, table, config))


def _flag_particles(
    dataset: Dataset, table: EventTable, config: FlagsConfig
) -> dict[str, Bools] | None:
    """Asks the rules about constituents; None where the dataset has none."""
    if not dataset.particles_per_jet:
        return None
    found: dict[str, list[Bools]] = {}
    start = 0
    for shard in dataset.manifest.shards:
        for lists, n_events in _read_particles(dataset.folder / shard.file):
            rows = slice(start, start + n_events)
            start += n_events
            some = Suspects(
                table.event_digest[rows], table.label[rows], {}, table.source[rows], lists
            )
            for name, broken in flag_particles(some, config).items():
                found.setdefault(name, []).append(broken)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _read_particles(file: Path) -> Iterator[tuple[ParticleLists, int]]:
    """Reads the constituents of the events of a shard, with the number of events, in parts."""
    names = [f"particles_{name}" for name in ("pt", "eta", "phi")]
    try:
        for batch in read_batches(file, names, _AT_ONCE):
            columns = [batch[name] for name in names]
            counts = columns[0].value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
            pt, eta, phi = (
                column.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
                for column in columns
            )
            event = np.repeat(np.arange(len(counts)), counts)
            yield ParticleLists(event, pt, eta, phi), len(counts)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file}: cannot be read, make the dataset again: {error}") from None


def _confidence(table: EventTable, runs: Sequence[Path]) -> Floats | None:
    """Mean confidence over mapped runs, shape (N,); None without runs."""
    if not runs:
        return None
    found = [np.full(len(table), np.nan) for _ in runs]
    for values, run in zip(found, runs, strict=True):
        event_map = read_map(run)
        rows = find_events(table.event_digest, event_map.event_digest)
        known = rows >= 0
        if not known.any():
            raise InputError(f"{run}: its map has no event of the dataset; name runs of it")
        values[known] = event_map.measures.confidence[rows[known]]
    return mean_of_known(found)


def _record(dataset: Dataset, table: EventTable, flags: Flags, config: FlagsConfig) -> FlagsRecord:
    def counts(mask: NDArray[np.bool_]) -> dict[str, int]:
        names = LABEL_NAMES.items()
        found = {name: int((mask & (table.label == label)).sum()) for label, name in names}
        return {name: number for name, number in found.items() if (number or name != "unknown")}

    suspicious = flags.score >= config.threshold
    return FlagsRecord(
        dataset=dataset.folder.resolve().name,
        n_events=len(table),
        settings=config,
        rules={
            name: FlagRecord(
                meaning=RULES[name].meaning,
                weight=RULES[name].weight,
                flagged=counts(mask),
                alone=int((mask & (sum(flags.broken.values()) == 1)).sum()),
            )
            for name, mask in flags.broken.items()
        },
        skipped=flags.skipped,
        suspicious=counts(suspicious),
        made=this_call(),
    )


def _table(record: FlagsRecord) -> Table:
    def row(name: str, flagged: dict[str, int], *more: Cell) -> Row:
        total = sum(flagged.values())
        share = total / record.n_events
        cells = [Cell(str(total), total), Cell(f"{share:.2%}", share)]
        return Row(name, [*cells, *more])

    rows = [
        row(
            f"{name}: {one.meaning}",
            dict(one.flagged),
            Cell(str(one.alone), one.alone),
            Cell(f"{one.weight:g}", one.weight),
        )
        for name, one in record.rules.items()
    ]
    title = f"score of at least {record.settings.threshold:g}: suspicious"
    rows.append(row(title, dict(record.suspicious), Cell(), Cell()))
    notes = [f"Not asked: {name} ({why})." for name, why in record.skipped.items()]
    return Table(
        f"Flags of {record.dataset}, {record.n_events} events",
        ("", "events", "share", "only this", "weight"),
        [Group("", rows)],
        notes,
    )
