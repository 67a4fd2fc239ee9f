"""Runs one function over many work items: serially, in worker processes, or on a Dask cluster.

Workers keep no state; each result comes with its item; a failure names the item, stops the rest
and leaves no process behind. Items and results must be picklable, the function importable.
"""

from __future__ import annotations

import functools
import importlib
import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import multiprocessing.resource_tracker
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

from hepllm.errors import ChunkError, HepllmError, InputError

logger = logging.getLogger(__name__)

Kind = Literal["serial", "processes", "dask"]
Item = TypeVar("Item")
Result = TypeVar("Result")

_WINDOW = 4
"""Items a worker may be ahead of the oldest unfinished one when results come in order."""

_DASK_TIMEOUT = 10.0
"""Seconds within which a Dask scheduler must answer."""

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "BLOSC_NTHREADS",
)


@dataclass(frozen=True)
class Retry:
    """What happens to an item whose worker raises, dies or hangs.

    Attributes:
        times: how often it is tried again before the run fails.
        timeout: seconds after which a worker process counts as hanging; None waits for ever.
    """

    times: int = 0
    timeout: float | None = None


def usable_cores() -> int:
    """Cores that this process may use; a batch system often grants fewer than there are."""
    return len(os.sched_getaffinity(0))


def resolve_workers(workers: int) -> int:
    """The number of workers, where 0 stands for one a usable core."""
    return workers or usable_cores()


def run_tasks(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    kind: Kind = "processes",
    workers: int = 0,
    describe: Callable[[Item], str] = str,
    ordered: bool = False,
    retry: Retry = Retry(),
    scheduler: str | None = None,
) -> Generator[tuple[Item, Result], None, None]:
    """Applies a function to items and yields each item with its result.

    Items are taken only when a worker is free, so their iterable may be lazy and long. Close the
    generator (``contextlib.closing``) to stop early; workers end at once.

    Args:
        function: importable by name, or a ``functools.partial`` of such a function.
        items: frozen work items.
        kind: where the work is done.
        workers: number of workers; 0 takes one a usable core.
        describe: names an item in an error, e.g. ``data/rnd.h5: rows 0-999``.
        ordered: yield in the order of the items instead of that of completion.
        retry: what to do about failures.
        scheduler: address of a running Dask scheduler; None starts a local cluster.

    Raises:
        ChunkError: a worker raised, was killed or hung; the message names the item.
        HepllmError: raised by the function itself, passed on as it is.
        InputError: ``dask`` is wanted and not installed, or its scheduler cannot be reached.
    """
    queue = _Queue(items, describe, retry, ordered, resolve_workers(workers))
    if kind == "serial":
        finished = _serial(function, queue)
    elif kind == "processes":
        finished = _processes(function, queue)
    else:
        finished = _dask(function, queue, scheduler)
    with closing(finished):
        yield from (
            _in_order(finished, queue)
            if ordered
            else ((job.item, result) for job, result in finished)
        )


@dataclass(frozen=True)
class _Job(Generic[Item]):
    index: int
    item: Item
    attempts: int = 0


@dataclass(frozen=True)
class _Failure:
    """An exception on its way from a worker; tracebacks do not survive pickling, so text it is."""

    error: HepllmError | None
    summary: str
    details: str


class _Queue(Generic[Item]):
    """Hands out jobs, takes failed ones back, and keeps ordered runs within a bounded window."""

    def __init__(
        self,
        items: Iterable[Item],
        describe: Callable[[Item], str],
        retry: Retry,
        ordered: bool,
        workers: int,
    ) -> None:
        self.describe = describe
        self.retry = retry
        self.workers = workers
        self.n_yielded = 0
        self._window = _WINDOW * workers if ordered else None
        self._fresh = enumerate(items)
        self._again: deque[_Job[Item]] = deque()
        self._n_taken = 0

    def take(self) -> _Job[Item] | None:
        """The next job; None when there is none, or none that may be started yet."""
        if self._again:
            return self._again.popleft()
        if self._window is not None and self._n_taken >= self.n_yielded + self._window:
            return None
        for index, item in self._fresh:
            self._n_taken = index + 1
            return _Job(index, item)
        return None

    def fail(self, job: _Job[Item], failure: _Failure) -> None:
        """Queues a failed job again, or raises what its failure means for the run."""
        if failure.error is not None:
            raise failure.error
        message = f"{self.describe(job.item)}: {failure.summary}"
        logger.debug("%s\n%s", message, failure.details)
        if job.attempts >= self.retry.times:
            tried = f" (tried {job.attempts + 1} times)" if job.attempts else ""
            raise ChunkError(message + tried)
        logger.warning("%s; trying again", message)
        self._again.append(replace(job, attempts=job.attempts + 1))


def _in_order(
    finished: Iterable[tuple[_Job[Item], Result]], queue: _Queue[Item]
) -> Iterator[tuple[Item, Result]]:
    waiting: dict[int, tuple[Item, Result]] = {}
    for job, result in finished:
        waiting[job.index] = (job.item, result)
        while queue.n_yielded in waiting:
            ready = waiting.pop(queue.n_yielded)
            queue.n_yielded += 1
            yield ready


def _attempt(function: Callable[[Item], Result], item: Item) -> Result | _Failure:
    try:
        return function(item)
    except HepllmError as error:
        return _Failure(error, str(error), "")
    except Exception as error:
        text = " ".join(str(error).split())
        summary = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return _Failure(None, summary, traceback.format_exc())


def _serial(
    function: Callable[[Item], Result], queue: _Queue[Item]
) -> Generator[tuple[_Job[Item], Result], None, None]:
    while (job := queue.take()) is not None:
        outcome = _attempt(function, job.item)
        if isinstance(outcome, _Failure):
            queue.fail(job, outcome)
        else:
            yield job, outcome


class _Worker(Generic[Item]):
    """A spawned process with its own pipe, so that a death is known to belong to its job.

    Forking is no choice: threads of torch and pyarrow in the parent may hold locks.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with _interrupts_deferred():
            self.process.start()
        theirs.close()
        self.job: _Job[Item] | None = None
        self.started = 0.0

    def start(self, function: Callable[[Item], Any], job: _Job[Item]) -> None:
        self.job, self.started = job, time.monotonic()
        try:
            self.connection.send((function, job.item))
        except BrokenPipeError:
            logger.debug("worker %s is gone; receive() will tell", self.process.pid)

    def receive(self) -> Any:
        """The outcome of the job, a failure if the process died instead."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join(5)
            return _Failure(None, _cause_of_death(self.process.exitcode), "")

    def overdue(self, timeout: float | None) -> bool:
        return timeout is not None and time.monotonic() - self.started > timeout

    def stop(self) -> None:
        """Ends the process now, whatever it does."""
        self.connection.close()
        self.process.terminate()
        self.process.join(2)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


def _processes(
    function: Callable[[Item], Result], queue: _Queue[Item]
) -> Generator[tuple[_Job[Item], Result], None, None]:
    workers: list[_Worker[Item]] = []
    try:
        while True:
            _feed(workers, function, queue)
            busy = {worker.connection: worker for worker in workers if worker.job is not None}
            if not busy:
                return
            tick = None if queue.retry.timeout is None else min(1.0, queue.retry.timeout / 4)
            ready = multiprocessing.connection.wait(list(busy), tick)
            _stop_overdue([w for c, w in busy.items() if c not in ready], workers, queue)
            for worker in [worker for connection, worker in busy.items() if connection in ready]:
                outcome, job, worker.job = worker.receive(), worker.job, None
                if isinstance(outcome, _Failure):
                    if not worker.process.is_alive():
                        _discard(worker, workers)
                    queue.fail(_known(job), outcome)
                else:
                    yield _known(job), outcome
    finally:
        for worker in workers:
            worker.stop()


def _feed(
    workers: list[_Worker[Item]], function: Callable[[Item], Result], queue: _Queue[Item]
) -> None:
    """Gives each free worker a job; starts workers only as jobs need them."""
    while True:
        free = next((worker for worker in workers if worker.job is None), None)
        if free is None and len(workers) >= queue.workers:
            return
        job = queue.take()
        if job is None:
            return
        if free is None:
            free = _Worker()
            workers.append(free)
        free.start(function, job)


def _stop_overdue(
    waiting: list[_Worker[Item]], workers: list[_Worker[Item]], queue: _Queue[Item]
) -> None:
    for worker in waiting:
        if worker.overdue(queue.retry.timeout):
            _discard(worker, workers)
            summary = f"no result after {queue.retry.timeout:g} s; the worker was stopped"
            queue.fail(_known(worker.job), _Failure(None, summary, ""))


def _discard(worker: _Worker[Item], workers: list[_Worker[Item]]) -> None:
    workers.remove(worker)
    worker.stop()


def _known(job: _Job[Item] | None) -> _Job[Item]:
    if job is None:
        msg = "a worker answered without a job"
        raise ChunkError(msg)
    return job


def _cause_of_death(exit_code: int | None) -> str:
    if exit_code is None:
        return "the worker closed its connection"
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = ", perhaps for lack of memory" if name == "SIGKILL" else ""
        return f"the worker was killed by {name}{hint}"
    return f"the worker ended with exit code {exit_code}"


def _serve(connection: multiprocessing.connection.Connection) -> None:
    """What a worker process does until its pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    # One thread a worker; set before the job's function brings its libraries in.
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        while True:
            _answer(connection)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _answer(connection: multiprocessing.connection.Connection) -> None:
    content = connection.recv_bytes()
    outcome = _attempt(_unpack_and_call, content)
    try:
        connection.send(outcome)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # a result that cannot be pickled
        connection.send(_Failure(None, f"{type(error).__name__}: {error}", ""))


def _unpack_and_call(content: bytes) -> Any:
    function, item = multiprocessing.reduction.ForkingPickler.loads(content)
    return function(item)


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Lets a process start with Ctrl-C blocked, which it inherits, so that only we handle it."""
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _dask(
    function: Callable[[Item], Result], queue: _Queue[Item], scheduler: str | None
) -> Generator[tuple[_Job[Item], Result], None, None]:
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError:
        msg = "executor dask: not installed; run: pip install 'hepllm[dask]'"
        raise InputError(msg) from None
    with ExitStack() as stack:
        client = _dask_client(distributed, queue, scheduler, stack)
        work = functools.partial(_attempt, function)
        jobs: dict[Any, _Job[Item]] = {}
        completed = distributed.as_completed(raise_errors=False)
        limit = max(queue.workers, sum(client.nthreads().values())) + 1
        while True:
            while len(jobs) < limit and (job := queue.take()) is not None:
                future = client.submit(work, job.item, pure=False)
                jobs[future] = job
                completed.add(future)
            if not jobs:
                return
            future = next(completed)
            job = jobs.pop(future)
            outcome = _dask_outcome(future)
            if isinstance(outcome, _Failure):
                queue.fail(job, outcome)
            else:
                yield job, outcome


def _dask_client(distributed: Any, queue: _Queue[Any], scheduler: str | None, stack: Any) -> Any:
    if scheduler is None:
        dask: Any = importlib.import_module("dask")
        # Our own retries count; Dask's would hide how often a worker died.
        stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
        cluster = stack.enter_context(
            distributed.LocalCluster(
                n_workers=queue.workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                silence_logs=logging.ERROR,
            )
        )
        return stack.enter_context(distributed.Client(cluster))
    try:
        return stack.enter_context(distributed.Client(scheduler, timeout=_DASK_TIMEOUT))
    except (OSError, ValueError) as error:
        msg = f"dask scheduler {scheduler}: cannot be reached: {error}"
        raise InputError(msg) from None


def _dask_outcome(future: Any) -> Any:
    """The outcome of a finished future; a failure where its worker died."""
    if future.status == "finished":
        return future.result()
    error = future.exception() if future.status == "error" else None
    name = type(error).__name__ if error is not None else future.status
    summary = "the worker was killed" if name == "KilledWorker" else f"{name}: {error}"
    return _Failure(None, summary, "")
