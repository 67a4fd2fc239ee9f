from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hepllm.arrays import Digests, Floats, Labels
from hepllm.baselines.boosting import Boosting, fit_boosting
from hepllm.baselines.scorer import TrainingSample
from hepllm.cartography import label_quality
from hepllm.cartography.label_quality import judge_labels, label_signs, obstacle
from hepllm.data.work_folder import Parts


def sample(n_events: int = 1200) -> tuple[Floats, Labels, Digests]:
    """Events whose classes differ by two widths in one feature."""
    random = np.random.default_rng(1)
    label = (np.arange(n_events) % 2).astype(np.int8)
    features = random.normal(0, 1, (n_events, 2))
    features[:, 0] += 2.0 * label
    return features, label, random.integers(0, 2**63, n_events).astype(np.uint64)


def test_labels_that_are_exchanged_have_the_least_margin() -> None:
    features, label, digest = sample()
    is_wrong = np.random.default_rng(2).random(len(label)) < 0.05
    given = np.where(is_wrong, 1 - label, label).astype(np.int8)
    given[5] = -1
    margin = judge_labels(features, given, digest, folds=3, seed=1)
    assert np.isnan(margin[5])
    known = ~np.isnan(margin)
    assert known.sum() == len(label) - 1
    # Two classes two widths apart: the best possible is Phi(sqrt 2 * 2 / 2) = 0.92.
    assert 0.85 < roc_auc_score(is_wrong[known], -margin[known]) < 0.96


def test_no_event_is_judged_by_its_copy() -> None:
    """A copy with another label would pull the margin of a far event to zero."""
    features, label, digest = sample()
    lonely = np.array([[1.0, 40.0 + place] for place in range(40)])
    rows = np.concatenate([features, lonely, lonely])
    labels = np.concatenate([label, np.ones(40), np.zeros(40)]).astype(np.int8)
    random = np.random.default_rng(3).integers(0, 2**63, 40).astype(np.uint64)
    digests = np.concatenate([digest, random, random])
    margin = judge_labels(rows, labels, digests, folds=3, seed=1)
    # Of the same fold, so the same logit, with opposite signs.
    np.testing.assert_array_equal(margin[-80:-40], -margin[-40:])


def test_the_result_does_not_depend_on_the_workers() -> None:
    features, label, digest = sample()
    one, two = (
        judge_labels(features, label, digest, folds=4, seed=1, workers=workers)
        for workers in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


def test_finished_folds_are_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, label, digest = sample()
    whole = judge_labels(features, label, digest, folds=3, seed=1)
    fitted: list[TrainingSample] = []

    def fails_at_the_third(sample: TrainingSample) -> Boosting:
        if len(fitted) == 2:
            raise KeyboardInterrupt
        fitted.append(sample)
        return fit_boosting(sample)

    parts = Parts(tmp_path, "mark")
    monkeypatch.setattr(label_quality, "fit_boosting", fails_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        judge_labels(features, label, digest, folds=3, seed=1, parts=parts)
    fitted.pop()  # one more can be fitted
    found = judge_labels(features, label, digest, folds=3, seed=1, parts=parts)
    np.testing.assert_array_equal(found, whole)


def test_a_rare_class_is_not_doubted_for_being_rare() -> None:
    features, label, digest = sample(4000)
    kept = (label == 0) | (np.arange(len(label)) % 20 == 1)
    features, label, digest = features[kept], label[kept], digest[kept]
    margin = judge_labels(features, label, digest, folds=3, seed=1)
    # At the point half way between the classes no label is doubted more than the other.
    middle = np.abs(features[:, 0] - 1.0) < 0.3
    logit = margin[middle] * label_signs(label[middle])
    # Without weights it would be the logarithm of the ratio, 20: 3.0.
    assert abs(np.median(logit)) < 1.5


def test_infinite_values_count_as_missing() -> None:
    features, label, digest = sample()
    features[3, 0] = np.inf
    assert np.isfinite(judge_labels(features, label, digest, folds=2, seed=1)).all()


@pytest.mark.parametrize(
    ("label", "features", "reason"),
    [
        (np.zeros(100, dtype=np.int8), np.ones((100, 1)), "0 signal events, 40 are needed"),
        (np.arange(100, dtype=np.int8) % 2, np.full((100, 1), np.nan), "no features"),
        (np.arange(100, dtype=np.int8) % 2, np.ones((100, 1)), None),
    ],
)
def test_what_a_boosting_needs(label: Labels, features: Floats, reason: str | None) -> None:
    assert obstacle(label, features) == reason
