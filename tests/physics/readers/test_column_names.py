"""Names are taken from pickles without running them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hepllm.physics.readers.column_names import pickled_names

NAMES = st.lists(st.integers(0, 10_000) | st.text(max_size=20), min_size=1, unique=True)


@given(names=NAMES, protocol=st.integers(0, 5))
def test_lists(names: list[str | int], protocol: int) -> None:
    assert pickled_names(pickle.dumps(names, protocol)) == names
    assert pickled_names(pickle.dumps([(1, names)], protocol)) == names


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_objects(protocol: int) -> None:
    names = [*range(2100), "label"]
    array = np.array(names, dtype=object)
    assert pickled_names(pickle.dumps(array, protocol)) == names


class _Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return open, (str(self.path), "w")


def test_nothing_is_run(tmp_path: Path) -> None:
    target = tmp_path / "pwned"
    for evil in ([_Malicious(target)], ["a", _Malicious(target)], _Malicious(target)):
        assert pickled_names(pickle.dumps(evil)) is None
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps(3), pickle.dumps([])])
def test_what_holds_no_names(content: bytes) -> None:
    assert pickled_names(content) is None
