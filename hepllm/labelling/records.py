"""What a labelling is, as it is written and told."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hepllm.arrays import Floats, Labels
from hepllm.evaluation.efficiency import Efficiency, efficiency
from hepllm.evaluation.metrics import auc
from hepllm.evaluation.scores import scored_events
from hepllm.records import Events, FileRecord, Record
from hepllm.schema import BACKGROUND, SIGNAL, UNKNOWN

_SURPRISE = 3.0
"""Expected events of a label from which it is a surprise that there are none."""


class Truth(Record):
    """How a labelling agrees with labels that were read after it was made."""

    accuracy: Efficiency
    """Share of the labelled events whose label is the true one."""
    chance: float
    """Share that the more frequent true class alone would reach."""
    auc: float | None
    """AUC of the soft labels; null where a class is missing."""
    n_signal: Events
    """True signal events among them."""


class LabellingRecord(FileRecord):
    """How events were labelled without labels."""

    hepllm: str
    """Version of the package that wrote the file."""
    method: str
    """How labels were found."""
    backend: str
    """What predicted them."""
    dataset: str
    """Folder of the dataset."""
    dataset_digest: str
    """Digest of the dataset's contents (SHA-256)."""
    seed: int
    """Seed of events, contexts and the search."""
    names: tuple[str, str]
    """Names of the labels 0 and 1 in prompts."""
    features: tuple[str, ...]
    """Features that prompts print or the run reads."""
    hypothesis: str | None
    """What a signal was said to be; null where nothing was stated."""
    n_events: Events
    """Events of the pool."""
    n_views: int
    """Views of an event that differ in what is read."""
    n_predictions: int
    """Predictions that the method used, each counted once."""
    budget: int
    """Predictions that it might have used."""
    n_signal: Events
    """Events with the label signal."""
    n_background: Events
    """Events with the label background."""
    n_unlabelled: Events
    """Events that the budget left without a label."""
    collapsed: bool
    """Whether a label has nearly no event, beside its expected share, by label.collapse."""
    expected_share: float = 0.5
    """Share of signal by label.prior, or label.soft.share with method soft; 0.5 without."""
    mean_log_probability: float | None = None
    """Mean log-probability of the labels after their contexts; absent without contexts."""
    inconsistencies: int | None = None
    """Pairs of views of one event with different labels."""
    details: Mapping[str, float] = {}
    """Further numbers of the method, by name."""
    start_truth: Truth | None = None
    """Agreement of what the method began with, as for ``truth``; absent where there is nothing."""
    truth: Truth | None = None
    """Agreement with true labels, where the dataset has them; never used to find labels."""


def is_collapsed(labels: Labels, share: float, expected: float = 0.5) -> bool:
    """Whether a label has so few events that the labelling says nothing.

    A label of which fewer than three events are expected may well have none.

    Args:
        labels: shape (N,), -1 where there is none.
        share: share of the one label from which the other has too few, where half are expected.
        expected: expected share of signal; the fewest events of each label are in proportion.
    """
    known = labels[labels != UNKNOWN]
    if not len(known):
        return False
    for label, expected_share in ((SIGNAL, expected), (BACKGROUND, 1 - expected)):
        likely = expected_share * len(known)
        if likely >= _SURPRISE and np.mean(known == label) <= 2 * (1 - share) * expected_share:
            return True
    return False


def compare_with_truth(
    labels: Labels, soft: Floats, truth: Labels, confidence: float
) -> Truth | None:
    """Compares N labels with true ones; None where no labelled event has one.

    Args:
        labels: shape (N,), -1 where there is none.
        soft: shape (N,), NaN where there is none.
        truth: shape (N,), -1 where it is unknown.
        confidence: probability content of the interval.
    """
    known = (labels != UNKNOWN) & (truth != UNKNOWN)
    if not known.any():
        return None
    is_right = labels[known] == truth[known]
    found = efficiency(is_right, np.ones(len(is_right)), confidence)
    if found is None:
        raise ValueError("no events")
    is_signal = truth[known] == SIGNAL
    has_soft = known & np.isfinite(soft)
    area = auc(scored_events(soft[has_soft], truth[has_soft])).value
    return Truth(
        accuracy=found,
        chance=float(max(is_signal.mean(), 1 - is_signal.mean())),
        auc=area,
        n_signal=int(is_signal.sum()),
    )
