"""The pool: events of a dataset in the views of which each is an item of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hepllm.arrays import Digests, Ints, Labels
from hepllm.data.dataset import Dataset
from hepllm.data.event_table import EventTable
from hepllm.data.notes import find_events
from hepllm.errors import InputError
from hepllm.labelling.views import complete, distinct_views, view_of
from hepllm.model.inputs import ModelInputs
from hepllm.schema import UNKNOWN

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Pool:
    """N events in V views: M = N * V items, all views of an event beside each other.

    Attributes:
        table: the events, whose labels are unknown.
        names: the features of ``inputs.numbers``.
        inputs: the M items.
        event: shape (M,), event of each item.
        landmarks: shape (N,), labels that the user knows, -1 elsewhere; for method soft.
    """

    table: EventTable
    names: tuple[str, ...]
    inputs: ModelInputs
    event: Ints
    landmarks: Labels

    @property
    def n_views(self) -> int:
        """Views of an event."""
        return len(self.event) // len(self.table)


def draw_events(
    dataset: Dataset,
    names: Sequence[str],
    n_events: int,
    seed: int,
    *,
    split: str | None = None,
    particles: int = 0,
    used: Digests | None = None,
) -> EventTable:
    """Draws events of different content, without their labels.

    Args:
        dataset: where from.
        names: features to read.
        n_events: number of events; fewer where there are fewer.
        seed: seed of the draw.
        split: split to draw from; None for all.
        particles: constituents of each leading jet to read.
        used: events to leave out, such as those of a training.

    Raises:
        InputError: fewer than four events are left.
    """
    table = dataset.load(names, split, labels=False, particles=particles)
    _, first = np.unique(table.event_digest, return_index=True)
    if used is not None:
        first = first[find_events(table.event_digest[first], used) < 0]
    if len(first) < 4:
        raise InputError(
            f"{dataset.folder}: {len(first)} events to label, and 4 are needed; name another "
            "dataset, or label.split=null"
        )
    chosen = np.random.default_rng([seed, 1]).permutation(first)[:n_events]
    return table.take(np.sort(chosen))


def make_pool(
    table: EventTable,
    inputs: ModelInputs,
    most_views: int,
    seed: int,
    landmarks: Labels | None = None,
) -> Pool:
    """Adds to events the views in which what a model reads of them differs.

    Args:
        table: N events.
        inputs: what the model reads of them; the features are those of the table.
        most_views: most views of an event, itself included.
        seed: seed of the angles of rotated views.
        landmarks: shape (N,), known labels, -1 elsewhere; None for none.
    """
    if landmarks is None:
        landmarks = np.full(len(table), UNKNOWN, dtype=np.int8)
    views = [0]
    if most_views > 1 and complete(table.names):
        views = distinct_views(inputs, table.names, most_views, seed)
    if len(views) < most_views:
        LOG.info(
            "%d of %d views of an event differ in what the model reads (%s); consistency asks no "
            "more of them",
            len(views),
            most_views,
            ", ".join(table.names[:8]),
        )
    seen = [view_of(inputs, table.names, view, seed) for view in views]
    n_events = len(table)
    # From all events of one view after another to all views of one event after another.
    order = np.arange(len(views) * n_events).reshape(len(views), n_events).T.ravel()
    items = ModelInputs.concatenate(seen).take(order)
    return Pool(table, table.names, items, np.repeat(np.arange(n_events), len(views)), landmarks)
