"""The inputs of a model from a table of events: the one place where they are made."""

from __future__ import annotations

from collections.abc import Sequence

from hepllm.data.event_table import EventTable
from hepllm.model.inputs import ModelInputs


def model_inputs(table: EventTable, names: Sequence[str] | None = None) -> ModelInputs:
    """Makes the inputs of the N events of a table.

    Args:
        table: the events.
        names: features that the model reads, in its order; None for all of the table.

    Raises:
        ValueError: if the table lacks a feature.
    """
    numbers = table.features
    if names is not None and tuple(names) != table.names:
        numbers = numbers[:, [table.names.index(name) for name in names]]
    return ModelInputs(numbers, table.particles)
