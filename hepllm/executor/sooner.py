"""Starts worker processes only where they end a list of jobs sooner than this process would."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

from threadpoolctl import threadpool_limits

from hepllm.executor.jobs import Item, Job, Queue, Result, run_serially
from hepllm.executor.processes import run_in_processes

START_SECONDS = 4.0
"""Time until a new worker has imported what a search needs; twice that of an idle machine."""


def run_where_sooner(
    function: Callable[[Item], Result], queue: Queue[Item], n_jobs: int
) -> Generator[tuple[Job[Item], Result], None, None]:
    """Does jobs here, and the rest in ``queue.workers`` processes once that is seen to be sooner.

    Here as there one thread multiplies matrices: those of a search are small, and a second thread
    that waits for the first took five times the CPU time.

    Args:
        function: what is done with each item.
        queue: the jobs.
        n_jobs: their number.
    """
    seconds, n_done = 0.0, 0

    def timed(item: Item) -> Result:
        nonlocal seconds, n_done
        started = time.monotonic()
        with threadpool_limits(1, user_api="blas"):
            result = function(item)
        seconds, n_done = seconds + time.monotonic() - started, n_done + 1
        return result

    def here_is_sooner() -> bool:
        if not n_done:
            return True
        n_left = n_jobs - n_done
        left, workers = n_left * seconds / n_done, min(queue.workers, n_left)
        return workers < 2 or START_SECONDS + left / workers >= left

    yield from run_serially(timed, queue, here_is_sooner)
    yield from run_in_processes(function, queue)
