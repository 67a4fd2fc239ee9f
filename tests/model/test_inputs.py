"""Inputs of the model: their parts stay with their events."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hepllm.model.inputs import ModelInputs

N_EVENTS = 5


def inputs(first: int = 0) -> ModelInputs:
    events = np.arange(first, first + N_EVENTS)
    return ModelInputs(
        numbers=events[:, None] * np.ones(2),
        particles=events[:, None, None, None] * np.ones((2, 3, 4), dtype=np.float32),
        text=np.array([f"event {event}" for event in events], dtype=object),
    )


def told(found: ModelInputs) -> list[int]:
    """The events that all parts tell of."""
    assert found.particles is not None
    assert found.text is not None
    numbers = found.numbers[:, 0].astype(int).tolist()
    assert found.particles[:, 0, 0, 0].tolist() == numbers
    assert [int(text.split()[1]) for text in found.text] == numbers
    return numbers


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (np.array([3, 0]), [3, 0]),
        (np.arange(N_EVENTS) > 2, [3, 4]),
        (slice(1, 3), [1, 2]),
        (np.array([], dtype=int), []),
    ],
)
def test_all_parts_are_taken(events: np.ndarray | slice, expected: list[int]) -> None:
    found = inputs().take(events)
    assert told(found) == expected
    assert len(found) == len(expected)


def test_all_parts_are_joined() -> None:
    assert told(ModelInputs.concatenate([inputs(), inputs(7)])) == [*range(5), *range(7, 12)]
    numbers = ModelInputs.concatenate([ModelInputs(inputs().numbers)] * 2)
    assert len(numbers) == 2 * N_EVENTS
    assert numbers.text is None


def test_named_parts_are_exchanged() -> None:
    order = np.array([1, 0, 2, 4, 3])
    found, own = inputs().exchange(order, "numbers", "particles"), inputs()
    assert told(replace(found, text=own.take(order).text)) == order.tolist()
    assert found.text is not None
    assert found.text.tolist() == [f"event {event}" for event in range(N_EVENTS)]
    assert ModelInputs(own.numbers).exchange(order, "particles").particles is None


def test_unlike_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="same parts"):
        ModelInputs.concatenate([inputs(), ModelInputs(inputs().numbers)])
    with pytest.raises(ValueError, match="text of 1 events beside numbers of 5"):
        ModelInputs(inputs().numbers, text=np.array(["event"], dtype=object))
    with pytest.raises(ValueError, match="particles of 2 events"):
        ModelInputs(inputs().numbers, particles=np.zeros((2, 2, 3, 4), dtype=np.float32))
