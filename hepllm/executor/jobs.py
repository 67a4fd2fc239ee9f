"""The queue of work items: hands them out, repeats them after a failure, puts them in order."""

from __future__ import annotations

import logging
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from hepllm.errors import ChunkError, HepllmError

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

_WINDOW = 4
"""Items per worker that may start before the oldest unfinished one ends, in ordered runs."""


@dataclass(frozen=True)
class Retry:
    """What to do with an item whose worker raises, dies or hangs.

    Attributes:
        times: number of further attempts before the run fails.
        timeout: seconds after which a worker counts as hanging; None: never.
    """

    times: int = 0
    timeout: float | None = None

    @property
    def tick(self) -> float | None:
        """Seconds between two looks at the time limit; None without a limit."""
        return None if self.timeout is None else min(1.0, self.timeout / 4)


@dataclass(frozen=True)
class Job(Generic[Item]):
    """An item, its place among all, and the number of its failed attempts."""

    index: int
    item: Item
    attempts: int = 0


@dataclass(frozen=True)
class Failure:
    """An exception of a worker; its traceback is text, because tracebacks cannot be pickled."""

    error: HepllmError | None
    summary: str
    details: str = ""


def hanging(timeout: float) -> Failure:
    """Returns the failure of a job whose worker gave no result in time."""
    return Failure(None, f"no result after {timeout:g} s; the worker was stopped")


class Queue(Generic[Item]):
    """Hands out jobs, repeats failed ones, and limits how far an ordered run goes ahead."""

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
        """Returns the next job; None where there is none, or none that may start yet."""
        if self._again:
            return self._again.popleft()
        if self._window is not None and self._n_taken >= self.n_yielded + self._window:
            return None
        for index, item in self._fresh:
            self._n_taken = index + 1
            return Job(index, item)
        return None

    def fail(self, job: Job[Item], failure: Failure) -> None:
        """Queues a failed job again, or raises the error that ends the run."""
        if failure.error is not None:
            raise failure.error
        message = f"{self.describe(job.item)}: {failure.summary}"
        logger.debug("%s\n%s", message, failure.details)
        if job.attempts >= self.retry.times:
            tried = f" (tried {job.attempts + 1} times)" if job.attempts else ""
            raise ChunkError(message + tried)
        logger.warning("%s; trying again", message)
        self._again.append(replace(job, attempts=job.attempts + 1))

    def settle(
        self, outcomes: Sequence[tuple[Job[Item], Any]], feed: Callable[[], None]
    ) -> Iterator[tuple[Job[Item], Any]]:
        """Yields the results among the outcomes, and deals with the failures after that."""
        failed = [(job, outcome) for job, outcome in outcomes if isinstance(outcome, Failure)]
        if not failed:  # feed first, so that no worker waits while the caller uses the results
            feed()
        yield from (one for one in outcomes if not isinstance(one[1], Failure))
        for job, failure in failed:
            self.fail(job, failure)


def in_order(
    finished: Iterable[tuple[Job[Item], Result]], queue: Queue[Item]
) -> Iterator[tuple[Item, Result]]:
    """Yields results in the order of the items."""
    waiting: dict[int, tuple[Item, Result]] = {}
    for job, result in finished:
        waiting[job.index] = (job.item, result)
        while queue.n_yielded in waiting:
            ready = waiting.pop(queue.n_yielded)
            queue.n_yielded += 1
            yield ready


def attempt(function: Callable[[Item], Result], item: Item) -> Result | Failure:
    """Calls the function; turns an exception into a failure that can be pickled."""
    try:
        return function(item)
    except HepllmError as error:
        return Failure(error, str(error))
    except Exception as error:
        text = " ".join(str(error).split())
        summary = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return Failure(None, summary, traceback.format_exc())


def run_serially(
    function: Callable[[Item], Result],
    queue: Queue[Item],
    go_on: Callable[[], bool] = lambda: True,
) -> Generator[tuple[Job[Item], Result], None, None]:
    """Does the jobs in this process, one after another, for as long as ``go_on`` says so."""
    while go_on() and (job := queue.take()) is not None:
        outcome = attempt(function, job.item)
        if isinstance(outcome, Failure):
            queue.fail(job, outcome)
        else:
            yield job, outcome
