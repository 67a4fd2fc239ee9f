"""Work items on a Dask cluster: a local one, or one with a running scheduler."""

from __future__ import annotations

import functools
import importlib
import logging
import time
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError
from contextlib import ExitStack
from typing import Any

from hepllm.errors import InputError, RunError
from hepllm.executor.jobs import Failure, Item, Job, Queue, Result, attempt, hanging
from hepllm.executor.processes import THREAD_VARIABLES, main_hidden

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0
"""Seconds within which a scheduler must answer."""

RESTART_TIMEOUT = 30.0
"""Seconds within which a hanging worker must be back after its restart."""


_Submitted = dict[Any, tuple[Job[Item], float]]
"""Jobs with the time of their submission, by future."""


def run_on_dask(
    function: Callable[[Item], Result], queue: Queue[Item], scheduler: str | None
) -> Generator[tuple[Job[Item], Result], None, None]:
    """Does the jobs on a Dask cluster; without a scheduler, starts one of ``queue.workers``.

    Submits no more jobs than there are threads, so that the time of a job counts from its
    submission, and a worker that dies loses no job that only waits there.
    """
    distributed = _import_distributed()
    with ExitStack() as stack:
        client = _connect(distributed, queue, scheduler, stack)
        work = functools.partial(attempt, function)
        submitted: _Submitted[Item] = {}
        while True:
            _feed(client, work, submitted, queue)
            if not submitted:
                return
            finished = _finished(distributed, submitted, queue.retry.tick)
            outcomes = [(submitted.pop(future)[0], _outcome(future)) for future in finished]
            yield from queue.settle(outcomes, lambda: _feed(client, work, submitted, queue))
            _stop_overdue(client, submitted, queue)


def _feed(
    client: Any, work: Callable[[Item], Any], submitted: _Submitted[Item], queue: Queue[Item]
) -> None:
    """Submits jobs while a worker is free."""
    while len(submitted) < _slots(client, queue) and (job := queue.take()) is not None:
        future = client.submit(work, job.item, pure=False)
        submitted[future] = job, time.monotonic()


def _import_distributed() -> Any:
    try:
        return importlib.import_module("distributed")
    except ImportError:
        raise InputError(
            "executor dask: not installed; run: pip install dask distributed"
        ) from None


def _connect(distributed: Any, queue: Queue[Any], scheduler: str | None, stack: ExitStack) -> Any:
    if scheduler is not None:
        try:
            return stack.enter_context(distributed.Client(scheduler, timeout=CONNECT_TIMEOUT))
        except (OSError, ValueError) as error:
            raise InputError(f"dask scheduler {scheduler}: cannot be reached: {error}") from None
    dask: Any = importlib.import_module("dask")
    # Our own retries count; Dask's would hide how often a worker died.
    stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
    with main_hidden():
        cluster = stack.enter_context(
            distributed.LocalCluster(
                n_workers=queue.workers,
                threads_per_worker=1,
                processes=True,
                # With the default port, a second cluster on this machine would warn.
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                silence_logs=logging.ERROR,
                env=dict.fromkeys(THREAD_VARIABLES, "1"),
            )
        )
    return stack.enter_context(distributed.Client(cluster))


def _slots(client: Any, queue: Queue[Any]) -> int:
    """Returns the number of jobs that can run at once; a cluster may start without workers."""
    try:
        threads = sum(client.nthreads().values())
    except OSError as error:
        raise _lost(error) from None
    return max(1, threads or queue.workers)


def _finished(distributed: Any, submitted: dict[Any, Any], tick: float | None) -> list[Any]:
    """Waits until a future is done, at most for a tick."""
    try:
        distributed.wait(list(submitted), timeout=tick, return_when="FIRST_COMPLETED")
    except TimeoutError:
        pass
    except CancelledError as error:
        raise _lost(error) from None
    return [future for future in submitted if future.done()]


def _lost(error: Exception) -> RunError:
    cause = " ".join(str(error).split())[:160]
    return RunError(f"dask: the connection to the scheduler was lost; run again ({cause})")


def _outcome(future: Any) -> Any:
    """Returns the outcome of a finished future; a failure where its worker died."""
    if future.status == "finished":
        return future.result()
    error = future.exception() if future.status == "error" else None
    name = type(error).__name__ if error is not None else future.status
    return Failure(None, "the worker was killed" if name == "KilledWorker" else f"{name}: {error}")


def _stop_overdue(client: Any, submitted: _Submitted[Item], queue: Queue[Item]) -> None:
    """Cancels jobs beyond the time limit, and restarts their workers."""
    timeout = queue.retry.timeout
    if timeout is None:
        return
    now = time.monotonic()
    overdue = [future for future, (_, since) in submitted.items() if now - since > timeout]
    if not overdue:
        return
    keys = {future.key for future in overdue}
    holders = [worker for worker, tasks in client.processing().items() if keys & set(tasks)]
    client.cancel(overdue, force=True)
    try:
        client.restart_workers(holders, timeout=RESTART_TIMEOUT, raise_for_error=False)
    except ValueError as error:  # workers without a nanny cannot be restarted
        logger.warning("%s: cannot be restarted: %s", ", ".join(holders), error)
    for future in overdue:
        queue.fail(submitted.pop(future)[0], hanging(timeout))
