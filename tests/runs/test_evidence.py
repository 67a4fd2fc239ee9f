"""Which labels are rare in their cluster."""

from __future__ import annotations

import numpy as np
import pytest

from hepllm.runs.audited_run import NOT_EMBEDDED
from hepllm.runs.evidence import minorities
from hepllm.schema import BACKGROUND, SIGNAL, UNKNOWN


def events(counts: dict[tuple[int, int], int]) -> tuple[np.ndarray, np.ndarray]:
    """Clusters and labels of events, from their numbers by cluster and label."""
    pairs = np.repeat(np.array(list(counts)), list(counts.values()), axis=0)
    return pairs[:, 0], pairs[:, 1].astype(np.int8)


@pytest.mark.parametrize("times", [1, 10, 100])
def test_a_rare_class_is_judged_as_a_frequent_one(times: int) -> None:
    """Signal and background of cluster 0, apart; cluster 1 has both alike."""
    cluster, label = events(
        {
            (0, SIGNAL): 1,
            (0, BACKGROUND): 40 * times,
            (1, SIGNAL): 30,
            (1, BACKGROUND): 30 * times,
            (2, SIGNAL): 40,
            (2, BACKGROUND): 1 * times,
        }
    )
    covered, flagged = minorities(cluster, label, 0.05)
    assert covered.all()
    rare = ((cluster == 0) & (label == SIGNAL)) | ((cluster == 2) & (label == BACKGROUND))
    assert np.array_equal(flagged, rare)


def test_events_outside_of_clusters_are_not_judged() -> None:
    cluster, label = events(
        {(0, SIGNAL): 20, (0, UNKNOWN): 3, (-1, BACKGROUND): 4, (NOT_EMBEDDED, BACKGROUND): 5}
    )
    covered, flagged = minorities(cluster, label, 0.05)
    assert np.array_equal(covered, (cluster == 0) & (label == SIGNAL))
    assert not flagged.any()
    none = minorities(np.full(3, NOT_EMBEDDED), np.zeros(3, dtype=np.int8), 0.05)
    assert not none[0].any()
