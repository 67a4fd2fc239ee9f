"""Work items on their way: handed out, tried, taken back on failure, put in order."""

from __future__ import annotations

import logging
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from hepllm.errors import ChunkError, HepllmError

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

_WINDOW = 4
"""Items a worker may be ahead of the oldest unfinished one when results come in order."""


@dataclass(frozen=True)
class Retry:
    """What happens to an item whose worker raises, dies or hangs.

    Attributes:
        times: how often it is tried again before the run fails.
        timeout: seconds after which a worker counts as hanging; None waits for ever.
    """

    times: int = 0
    timeout: float | None = None


@dataclass(frozen=True)
class Job(Generic[Item]):
    """One item, its place among all, and how often it has failed."""

    index: int
    item: Item
    attempts: int = 0


@dataclass(frozen=True)
class Failure:
    """An exception on its way from a worker; tracebacks do not survive pickling, so text it is."""

    error: HepllmError | None
    summary: str
    details: str = ""


def hanging(timeout: float | None) -> Failure:
    """The failure of a job whose worker gave no result in time."""
    return Failure(None, f"no result after {timeout:g} s; the worker was stopped")


class Queue(Generic[Item]):
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
        self._again: deque[Job[Item]] = deque()
        self._n_taken = 0

    def take(self) -> Job[Item] | None:
        """The next job; None when there is none, or none that may be started yet."""
        if self._again:
            return self._again.popleft()
        if self._window is not None and self._n_taken >= self.n_yielded + self._window:
            return None
        for index, item in self._fresh:
            self._n_taken = index + 1
            return Job(index, item)
        return None

    def fail(self, job: Job[Item], failure: Failure) -> None:
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


def in_order(
    finished: Iterable[tuple[Job[Item], Result]], queue: Queue[Item]
) -> Iterator[tuple[Item, Result]]:
    """Holds results back until those of all earlier items are there."""
    waiting: dict[int, tuple[Item, Result]] = {}
    for job, result in finished:
        waiting[job.index] = (job.item, result)
        while queue.n_yielded in waiting:
            ready = waiting.pop(queue.n_yielded)
            queue.n_yielded += 1
            yield ready


def attempt(function: Callable[[Item], Result], item: Item) -> Result | Failure:
    """Calls the function; what it raises becomes a failure that can travel."""
    try:
        return function(item)
    except HepllmError as error:
        return Failure(error, str(error))
    except Exception as error:
        text = " ".join(str(error).split())
        summary = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return Failure(None, summary, traceback.format_exc())


def run_serially(
    function: Callable[[Item], Result], queue: Queue[Item]
) -> Generator[tuple[Job[Item], Result], None, None]:
    """Does the jobs here, one after another."""
    while (job := queue.take()) is not None:
        outcome = attempt(function, job.item)
        if isinstance(outcome, Failure):
            queue.fail(job, outcome)
        else:
            yield job, outcome
