"""When a labelling counts as collapsed."""

from __future__ import annotations

import numpy as np
import pytest

from hepllm.config import load_config
from hepllm.labelling.methods import EventLabels
from hepllm.labelling.records import is_collapsed
from hepllm.schema import UNKNOWN


@pytest.mark.parametrize(
    ("n_signal", "n_background", "expected", "collapsed"),
    [
        (10, 90, 0.5, False),
        (5, 95, 0.5, True),
        (95, 5, 0.5, True),
        (2, 98, 0.5, True),
        (4, 196, 0.02, False),  # as stated
        (0, 200, 0.02, True),
        (0, 64, 0.02, False),  # of one expected event, none is no surprise
        (190, 10, 0.02, True),  # the wrong side
        (196, 4, 0.98, False),
        (0, 0, 0.5, False),
    ],
)
def test_a_collapse_is_judged_by_the_expected_share(
    n_signal: int, n_background: int, expected: float, collapsed: bool
) -> None:
    labels = np.repeat(np.array([1, 0, UNKNOWN], dtype=np.int8), [n_signal, n_background, 7])
    assert is_collapsed(labels, 0.95, expected) is collapsed


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], 0.5),
        (["label.prior=0.1"], 0.1),
        (["label.prior=0.1", "label.method=soft"], 0.1),
        (["label.prior=0.1", "label.method=soft", "label.soft.share=0.2"], 0.2),
        (["label.prior=0.1", "label.soft.share=0.2"], 0.1),
    ],
)
def test_the_share_that_is_stated_is_expected(settings: list[str], expected: float) -> None:
    assert load_config(None, settings).label.expected_share == expected


def test_events_without_a_label_have_no_probability() -> None:
    found = EventLabels(np.array([1, UNKNOWN], dtype=np.int8), np.array([0.0, np.nan])).soft
    assert found[0] == 0.5
    assert np.isnan(found[1])
