"""Where a list of items ends sooner: in this process or in workers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from hepllm.executor import run_tasks, sooner


def _where(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def _places(items: list[float], workers: int) -> list[int]:
    return [pid for _, pid in run_tasks(_where, items, kind="sooner", workers=workers)]


def test_short_work_starts_no_process() -> None:
    assert set(_places([0.0] * 20, workers=2)) == {os.getpid()}


def _blas_threads(_: int) -> list[int]:
    np.linalg.inv(np.eye(2))
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]


def test_small_matrices_are_multiplied_by_one_thread() -> None:
    with threadpool_limits(2, user_api="blas"):
        (found,) = (one for _, one in run_tasks(_blas_threads, [0], kind="sooner", workers=1))
        assert found
        assert set(found) == {1}
        assert set(_blas_threads(0)) == {2}


def test_one_worker_is_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sooner, "START_SECONDS", 0.0)
    assert set(_places([0.01] * 4, workers=1)) == {os.getpid()}


def test_long_work_goes_on_in_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sooner, "START_SECONDS", 0.0)
    first, *others = _places([0.1] * 6, workers=2)
    assert first == os.getpid()
    assert os.getpid() not in others


def test_the_results_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sooner, "START_SECONDS", 0.0)
    done = list(run_tasks(abs, [-3, -2, -1], kind="sooner", workers=2, ordered=True))
    assert done == [(-3, 3), (-2, 2), (-1, 1)]


def test_items_without_a_length_are_refused() -> None:
    items: Iterator[float] = iter([0.0])
    with pytest.raises(TypeError, match="without a length"):
        list(run_tasks(_where, items, kind="sooner"))
