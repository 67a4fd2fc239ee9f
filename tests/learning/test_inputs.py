from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hepllm.data.event_table import EventTable
from hepllm.learning.inputs import model_inputs

NAMES = ("jet1_mass", "jet2_mass", "m_jj")


def test_numbers_are_the_features_without_a_copy(event_table: Callable[..., EventTable]) -> None:
    table = event_table(5, NAMES)
    inputs = model_inputs(table)
    assert np.shares_memory(inputs.numbers, table.features)
    assert inputs.text is None
    assert inputs.particles is None


def test_named_features_come_in_the_order_of_the_model(
    event_table: Callable[..., EventTable],
) -> None:
    table = event_table(5, NAMES)
    numbers = model_inputs(table, ("m_jj", "jet1_mass")).numbers
    np.testing.assert_array_equal(
        numbers, np.stack([table.column("m_jj"), table.column("jet1_mass")], axis=1)
    )
    assert np.shares_memory(model_inputs(table, NAMES).numbers, table.features)
    with pytest.raises(ValueError, match="not in tuple"):
        model_inputs(table, ("jet3_pt",))
