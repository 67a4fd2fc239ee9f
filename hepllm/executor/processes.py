"""Work items in worker processes on this machine, one item at a time per process."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Generic

from hepllm.errors import RunError
from hepllm.executor.jobs import Failure, Item, Job, Queue, Result, attempt, hanging

logger = logging.getLogger(__name__)

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "BLOSC_NTHREADS",
)
"""Set to 1 in a worker, because the workers share the cores."""


class _Worker(Generic[Item]):
    """A spawned process with its own pipe, so that its death is assigned to its job.

    A forked process could deadlock: threads of torch and pyarrow in the parent may hold locks.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        try:
            with _interrupts_deferred(), main_hidden():
                self.process.start()
        except OSError as error:
            self.connection.close()
            cause = error.strerror or error
            raise RunError(f"a worker process cannot be started: {cause}") from None
        except KeyboardInterrupt:  # during the start, before the caller has the worker
            self.process.kill()
            raise
        finally:
            theirs.close()
        self.job: Job[Item] | None = None
        self.started = 0.0

    def start(self, function: Callable[[Item], Any], job: Job[Item]) -> None:
        self.job, self.started = job, time.monotonic()
        try:
            self.connection.send((function, job.item))
        except BrokenPipeError:
            logger.debug("worker %s is gone; receive() reports it", self.process.pid)

    def receive(self) -> Any:
        """Returns the outcome of the job; a failure if the process died."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join(5)
            return Failure(None, _cause_of_death(self.process.exitcode))

    def stop(self) -> None:
        """Ends the process at once."""
        self.connection.close()
        self.process.terminate()
        self.process.join(2)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


def run_in_processes(
    function: Callable[[Item], Result], queue: Queue[Item]
) -> Generator[tuple[Job[Item], Result], None, None]:
    """Does the jobs in ``queue.workers`` processes; ends them when closed."""
    workers: list[_Worker[Item]] = []
    try:
        while True:
            _feed(workers, function, queue)
            busy = {w.connection: (w, w.job) for w in workers if w.job is not None}
            if not busy:
                return
            ready = multiprocessing.connection.wait(list(busy), queue.retry.tick)
            _stop_overdue([one for c, one in busy.items() if c not in ready], workers, queue)
            outcomes = [_outcome(*one, workers) for c, one in busy.items() if c in ready]
            yield from queue.settle(outcomes, lambda: _feed(workers, function, queue))
    finally:
        for worker in workers:
            worker.stop()


def _outcome(
    worker: _Worker[Item], job: Job[Item], workers: list[_Worker[Item]]
) -> tuple[Job[Item], Any]:
    """Returns a finished job with its result or failure; removes a worker that died."""
    outcome, worker.job = worker.receive(), None
    if isinstance(outcome, Failure) and not worker.process.is_alive():
        _discard(worker, workers)
    return job, outcome


def _feed(
    workers: list[_Worker[Item]], function: Callable[[Item], Result], queue: Queue[Item]
) -> None:
    """Gives each free worker a job; starts a worker only if there is a job for it."""
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
    waiting: list[tuple[_Worker[Item], Job[Item]]], workers: list[_Worker[Item]], queue: Queue[Item]
) -> None:
    timeout = queue.retry.timeout
    for worker, job in waiting:
        if timeout is not None and time.monotonic() - worker.started > timeout:
            _discard(worker, workers)
            queue.fail(job, hanging(timeout))


def _discard(worker: _Worker[Item], workers: list[_Worker[Item]]) -> None:
    workers.remove(worker)
    worker.stop()


def _cause_of_death(exit_code: int | None) -> str:
    if exit_code is None:
        return "the worker closed its connection"
    if exit_code >= 0:
        return f"the worker ended with exit code {exit_code}"
    named = {member.value: member.name for member in signal.Signals}
    name = named.get(-exit_code, f"signal {-exit_code}")
    hint = ", perhaps for lack of memory" if name == "SIGKILL" else ""
    return f"the worker was killed by {name}{hint}"


def _serve(connection: multiprocessing.connection.Connection) -> None:
    """Answers requests in the worker process until its pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    # Set before the function of the job imports its libraries.
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        while True:
            _answer(connection)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _answer(connection: multiprocessing.connection.Connection) -> None:
    content = connection.recv_bytes()
    outcome = attempt(_unpack_and_call, content)
    try:
        connection.send(outcome)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # a result that cannot be pickled
        connection.send(Failure(None, f"{type(error).__name__}: {error}"))


def _unpack_and_call(content: bytes) -> Any:
    function, item = multiprocessing.reduction.ForkingPickler.loads(content)
    return function(item)


_MAIN_LOCK = threading.Lock()


@contextmanager
def main_hidden() -> Iterator[None]:
    """Keeps processes that start meanwhile from running the user's script.

    A spawned process imports ``__main__`` anew. A script without a main guard would load its run
    and start its work in every worker; work items come from importable modules and need no script.
    """
    with _MAIN_LOCK:
        script = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = script


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Blocks Ctrl-C while a process starts and inherits the block: only the parent handles it."""
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
