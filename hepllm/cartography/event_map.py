"""The map of a training: measures and a category of each of its events, as a side table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from hepllm import __version__
from hepllm.arrays import Bools, Digests, Labels
from hepllm.cartography.dynamics import PARTS, Dynamics, Part
from hepllm.cartography.measures import Measures, measure
from hepllm.config import CartographyConfig, Category
from hepllm.data.notes import NotesRecord, read_notes, write_notes
from hepllm.errors import InputError

CATEGORIES: tuple[Category, ...] = get_args(Category)

MAP = "map.parquet"
"""Name of the side table in the folder of a map."""

_MEASURES = tuple(field.name for field in fields(Measures))


@dataclass(frozen=True, eq=False)
class EventMap:
    """Measures and categories of N events that were shown at least once.

    Attributes:
        event_digest: shape (N,).
        label: shape (N,).
        measures: of the N events.
        category: place of each event's category in ``CATEGORIES``, shape (N,).
        part: part of the training that was measured.
    """

    event_digest: Digests
    label: Labels
    measures: Measures
    category: NDArray[np.int8]
    part: Part

    def __len__(self) -> int:
        return len(self.event_digest)

    def is_of(self, category: Category) -> Bools:
        """The events of a category, shape (N,)."""
        return np.asarray(self.category == CATEGORIES.index(category))

    def columns(self) -> dict[str, NDArray[Any]]:
        """All columns but the digest, by name; categories as text."""
        names = np.array(CATEGORIES, dtype=object)
        measured = {name: getattr(self.measures, name) for name in _MEASURES}
        return {"label": self.label, **measured, "category": names[self.category]}

    def write(
        self, file: Path, dataset_digest: str, further: Mapping[str, NDArray[Any]] | None = None
    ) -> None:
        """Writes the side table; ``further`` are columns of shape (N,) that follow the label."""
        label = {"label": self.label}
        record = NotesRecord(
            holds=f"map of a training, of the epochs of its {self.part}",
            made_by=f"hepllm map, version {__version__}",
            dataset_digest=dataset_digest,
        )
        write_notes(file, self.event_digest, {**label, **(further or {}), **self.columns()}, record)


def choose_part(dynamics: Dynamics, config: CartographyConfig, source: Path) -> Part:
    """Returns the part of a training whose epochs count.

    Args:
        dynamics: record of the training.
        config: ``epochs`` names it; ``auto`` is the part of more epochs, the model if both have
            as many.
        source: the run folder, for messages.

    Raises:
        InputError: if the part has no epochs that count.
    """
    n_epochs = {part: one.n_epochs for part, one in dynamics.parts.items()}
    if config.epochs == "auto":
        part = max(PARTS, key=lambda part: (n_epochs.get(part, 0), part == "model"))
        return _require_epochs(part, n_epochs[part], config.skip, source)
    if not n_epochs.get(config.epochs):
        (other, *_) = n_epochs
        raise InputError(
            f"{source}: was trained without epochs of the {config.epochs} alone; "
            f"set cartography.epochs={other}"
        )
    return _require_epochs(config.epochs, n_epochs[config.epochs], config.skip, source)


def _require_epochs(part: Part, n_epochs: int, skip: int, source: Path) -> Part:
    if skip >= n_epochs:
        raise InputError(
            f"{source}: cartography.skip={skip} leaves none of its {n_epochs} epochs of the "
            f"{part}; lower it"
        )
    return part


def map_events(dynamics: Dynamics, part: Part, config: CartographyConfig) -> EventMap:
    """Measures the events of a training and divides them into categories.

    Events that no epoch showed are left out.
    """
    measures = measure(dynamics.parts[part], skip=config.skip)
    seen = measures.is_seen
    measures = Measures(**{name: getattr(measures, name)[seen] for name in _MEASURES})
    return EventMap(
        event_digest=dynamics.event_digest[seen],
        label=dynamics.label[seen],
        measures=measures,
        category=divide(measures, config),
        part=part,
    )


def divide(measures: Measures, config: CartographyConfig) -> NDArray[np.int8]:
    """Divides events into categories: places in ``CATEGORIES``, shape (N,).

    Ambiguous are those of large variability; hard are those among the others in which the training
    believed little; easy is the rest.
    """
    easy, ambiguous, hard = range(len(CATEGORIES))
    if config.categories == "thresholds":
        is_ambiguous = measures.variability >= config.ambiguous_variability
        is_hard = measures.confidence < config.hard_confidence
    else:
        n_events = len(measures.confidence)
        is_ambiguous = _first(-measures.variability, round(config.ambiguous_share * n_events))
        others = np.where(is_ambiguous, np.inf, measures.confidence)
        is_hard = _first(others, round(config.hard_share * n_events))
    found = np.where(is_ambiguous, ambiguous, np.where(is_hard, hard, easy))
    return found.astype(np.int8)


def _first(values: NDArray[Any], number: int) -> Bools:
    """The events of the lowest values, shape (N,); of equal ones the first."""
    chosen = np.zeros(len(values), dtype=np.bool_)
    chosen[np.argsort(values, kind="stable")[:number]] = True
    return chosen


def find_map(folder: Path) -> Path:
    """The file of a map: ``folder`` is a run, the folder of its map, or the file itself.

    Raises:
        InputError: if there is none.
    """
    places = (folder, folder / MAP, folder / "map" / MAP)
    for place in places:
        if place.is_file():
            return place
    raise InputError(f"{places[-1]}: missing; make it with: hepllm map {folder}")


def read_map(folder: Path) -> EventMap:
    """Reads the map that ``hepllm map`` made of a run.

    Args:
        folder: as for ``find_map``.

    Raises:
        InputError: if there is none, or it is damaged.
    """
    file = find_map(folder)
    notes = read_notes(file, f"make it with: hepllm map {folder}")
    columns = {name: notes.column(name) for name in (*_MEASURES, "label", "category")}
    part: Part = "adapter" if "adapter" in getattr(notes.record, "holds", "") else "model"
    found = np.full(len(notes.event_digest), -1, dtype=np.int8)
    for place, name in enumerate(CATEGORIES):
        found[columns["category"] == name] = place
    if (found < 0).any():
        raise InputError(f"{file}: has categories other than {', '.join(CATEGORIES)}")
    return EventMap(
        notes.event_digest,
        columns["label"].astype(np.int8),
        Measures(**{name: columns[name] for name in _MEASURES}),
        found,
        part,
    )
