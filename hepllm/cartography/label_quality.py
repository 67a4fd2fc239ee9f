"""What gradient-boosted trees believe of labels that they were not trained on.

The probability of an event's label, from a classifier that was trained on other events, is the
self-confidence of confident learning (Northcutt, Jiang and Chuang, arXiv:1911.00068).
"""

from __future__ import annotations

from contextlib import closing
from functools import partial

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from hepllm.arrays import Digests, Floats, Ints, Labels
from hepllm.baselines.boosting import fit_boosting
from hepllm.baselines.scorer import TrainingSample
from hepllm.data.work_folder import Parts
from hepllm.executor import run_tasks
from hepllm.logs import progress_bar
from hepllm.schema import BACKGROUND, SIGNAL, UNKNOWN

_FEWEST = 40
"""Events of each class without which labels are not judged."""

_LOGIT = "logit"


def label_signs(label: Labels) -> Floats:
    """What turns a logit of signal into a margin of the label: 1, -1, NaN for unknown ones."""
    return np.where(label == UNKNOWN, np.nan, np.where(label == SIGNAL, 1.0, -1.0))


def obstacle(label: Labels, features: Floats) -> str | None:
    """Why the labels of N events cannot be judged by a boosting; None where they can."""
    if not np.isfinite(features).any():
        return "no features"
    for name, one in (("signal", SIGNAL), ("background", BACKGROUND)):
        number = int((label == one).sum())
        if number < _FEWEST:
            return f"{number} {name} events, {_FEWEST} are needed"
    return None


def judge_labels(
    features: Floats,
    label: Labels,
    event_digest: Digests,
    *,
    folds: int,
    seed: int,
    workers: int = 1,
    parts: Parts | None = None,
) -> Floats:
    """Margins of labels by boostings that were not trained on their events.

    Both classes have the same total weight, so that a rare class is not doubted for being rare.
    Equal events are in one fold, so that none is judged by its copy. The result does not depend on
    the number of workers.

    Args:
        features: shape (N, F), NaN where missing; infinite values count as missing.
        label: shape (N,); at least 40 events of each class.
        event_digest: shape (N,), which decides the folds.
        folds: number of folds.
        seed: seed of the boostings.
        workers: number of processes; 0: one per usable core.
        parts: keeps the logits of finished folds for the next call; None: nothing does.

    Returns:
        The logit of the label's class minus that of the other, shape (N,); NaN where the label is
        unknown.
    """
    finite = np.where(np.isfinite(features), features, np.nan)
    fold = (event_digest % np.uint64(folds)).astype(np.int64)
    task = partial(_score_fold, finite, label, fold, seed)
    logits = np.full(len(label), np.nan)
    missing = [one for one in range(folds) if parts is None or parts.cut_flow(_part(one)) is None]
    for number in set(range(folds)).difference(missing):
        if parts is not None:
            logits[fold == number] = parts.load(_part(number))[_LOGIT].to_numpy()
    done = run_tasks(task, missing, kind="sooner", workers=workers)
    with (
        closing(done),
        progress_bar(folds, "judge labels", "folds", initial=folds - len(missing)) as bar,
    ):
        for number, scores in done:
            logits[fold == number] = scores
            if parts is not None:
                parts.save(_part(number), pa.table({_LOGIT: scores}), ())
            bar.update(1)
    return logits * label_signs(label)


def _part(fold: int) -> str:
    return f"fold-{fold}"


def _score_fold(features: Floats, label: Labels, fold: Ints, seed: int, number: int) -> Floats:
    """Trains on all folds but one, and scores that one."""
    train = np.flatnonzero((fold != number) & (label != UNKNOWN))
    of_train = label[train]
    weight = np.ones(len(train))
    for one in (SIGNAL, BACKGROUND):
        weight[of_train == one] = len(train) / (2 * max(1, int((of_train == one).sum())))
    names = tuple(str(place) for place in range(features.shape[1]))
    sample = TrainingSample(features[train], names, of_train, weight, seed)
    # Sums over several threads differ in their last digits.
    with threadpool_limits(1, user_api="openmp"):
        return fit_boosting(sample).score(features[fold == number])
