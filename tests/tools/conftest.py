"""Tools as modules: they are scripts, and import each other by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hepllm.data.event_table import EventTable

_TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture(scope="module")
def load_tool() -> Iterator[Callable[[str], ModuleType]]:
    """``load_tool("case_means")`` is ``tools/studies/case_means.py``."""
    with pytest.MonkeyPatch.context() as patch:
        for folder in ("bench", "docs", "studies"):
            patch.syspath_prepend(str(_TOOLS / folder))
        yield importlib.import_module


def _numbered_events(n_background: int, n_signal: int, first: int) -> EventTable:
    total = n_background + n_signal
    label = np.arange(total) >= n_background
    return EventTable(
        features=np.zeros((total, 1)),
        names=("m_jj",),
        label=label.astype(np.int8),
        label_raw=label.astype(np.int16),
        weight=np.ones(total),
        event_id=np.arange(total),
        source=np.full(total, "s", object),
        event_digest=np.arange(first, first + total, dtype=np.uint64),
        split=np.full(total, "train", object),
    )


@pytest.fixture(scope="session")
def numbered_events() -> Callable[[int, int, int], EventTable]:
    """``numbered_events(n_background, n_signal, first)``: their digests count from ``first``."""
    return _numbered_events
