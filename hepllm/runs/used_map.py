"""What a training takes from the map of another one, and what of it the run folder keeps.

The run has a copy of what it used, ``used-map.parquet``, with a row per event before the filter, so
that it can be resumed, and its baselines be fitted to the same events, when the other run is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hepllm import __version__
from hepllm.arrays import Bools, Digests, Floats, Labels
from hepllm.cartography.event_map import EventMap, find_map, read_map
from hepllm.cartography.filters import filter_events
from hepllm.cartography.guidance import difficulty_ranks, smoothed_targets, variability_weights
from hepllm.cartography.records import MapUse
from hepllm.config import ByMapConfig, TrainConfig
from hepllm.data.event_table import EventTable
from hepllm.data.notes import NotesRecord, find_events, read_notes, write_notes
from hepllm.errors import InputError
from hepllm.files import file_digest

USED_MAP = "used-map.parquet"
_MEASURES = ("confidence", "variability")


@dataclass(frozen=True, eq=False)
class UsedMap:
    """What a training uses of N events before the filter; arrays of shape (N,).

    Attributes:
        event_digest: the events.
        kept: whether the filter keeps an event.
        confidence: of the map; NaN for an event that is not on it.
        variability: likewise.
        use: for ``run.json``; None where it is read from a run, whose record has it.
    """

    event_digest: Digests
    kept: Bools
    confidence: Floats
    variability: Floats
    use: MapUse | None = None

    @property
    def kept_digests(self) -> Digests:
        """The events that are trained on."""
        return self.event_digest[self.kept]

    def write(self, folder: Path) -> None:
        """Writes the copy of a run folder."""
        columns = {name: getattr(self, name) for name in ("kept", *_MEASURES)}
        record = NotesRecord(
            holds="what the training used of another one's map",
            made_by=f"hepllm train, version {__version__}",
        )
        write_notes(folder / USED_MAP, self.event_digest, columns, record)


def uses_map(config: TrainConfig) -> bool:
    """Whether a training goes by a map or a filter."""
    return bool(config.filter) or config.by_map.is_used


def use_map(table: EventTable, config: TrainConfig) -> UsedMap:
    """Decides what a training uses, and which events the filter keeps.

    Args:
        table: N training events before the filter.
        config: map, filter and what goes by the map.

    Raises:
        InputError: if the map is missing, has none of the events, or no event of a class is left.
    """
    event_map, file = None, None
    if config.map is not None:
        file = find_map(Path(config.map))
        event_map = read_map(file)
    rows = np.full(len(table), -1)
    if event_map is not None:
        rows = find_events(table.event_digest, event_map.event_digest)
        if not (rows >= 0).any():
            raise InputError(
                f"{file}: has none of the {len(table)} training events; name in train.map a run of "
                "the same dataset, mapped with 'hepllm map'"
            )
    found = filter_events(table.event_digest, table.label, config.filter, event_map)
    for name, number in found.record.kept.items():
        if not number and found.record.before[name]:
            raise InputError(
                f"train.filter drops all {found.record.before[name]} training {name} events; "
                "loosen a rule (hepllm train --dry-run tells what each drops)"
            )
    return UsedMap(
        table.event_digest,
        found.kept,
        _measure(event_map, "confidence", rows),
        _measure(event_map, "variability", rows),
        MapUse(
            map=config.map,
            sha256=None if file is None else file_digest(file),
            filter=found.record,
        ),
    )


def _measure(event_map: EventMap | None, name: str, rows: np.ndarray) -> Floats:
    if event_map is None:
        return np.full(len(rows), np.nan)
    values = getattr(event_map.measures, name)[np.maximum(rows, 0)]
    return np.where(rows >= 0, values, np.nan)


def read_used_map(folder: Path) -> UsedMap:
    """Reads what a run has used.

    Raises:
        InputError: if the copy is missing or damaged.
    """
    notes = read_notes(folder / USED_MAP, "train the run again")
    kept = notes.column("kept").astype(np.bool_)
    confidence, variability = (notes.column(name) for name in _MEASURES)
    return UsedMap(notes.event_digest, kept, confidence, variability)


@dataclass(frozen=True, eq=False)
class Guidance:
    """What goes into the loss and the order of N events after the filter; shapes (N,).

    Attributes:
        soft_targets: smoothed labels; None without smoothing.
        weight: event weights.
        rank: ranks for a curriculum; None without.
    """

    soft_targets: Floats | None
    weight: Floats
    rank: Floats | None


def guide(used: UsedMap, table: EventTable, config: ByMapConfig) -> Guidance:
    """Derives what goes by the map for the events that the filter has kept."""
    rows = find_events(table.event_digest, used.event_digest)
    if (rows < 0).any():
        raise InputError(
            f"{USED_MAP}: lacks {int((rows < 0).sum())} of the training events; train the run again"
        )
    label: Labels = table.label
    variability, confidence = used.variability[rows], used.confidence[rows]
    weight = table.weight
    if config.weight_power:
        weight = weight * variability_weights(label, variability, config)
    soft, rank = None, None
    if config.smoothing:
        soft = smoothed_targets(label, variability, config.smoothing)
    if config.curriculum != "none":
        is_easy_first = config.curriculum == "easy_first"
        rank = difficulty_ranks(label, -confidence if is_easy_first else -variability)
    return Guidance(soft, weight, rank)
