"""Runs one function over many work items: serially, in worker processes, or on a Dask cluster.

Workers keep no state. Each result comes with its item. A failure names its item, stops all other
work and leaves no process behind. Items and results must be picklable, the function importable.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sized
from contextlib import closing
from typing import Literal

from hepllm.executor.cluster import run_on_dask
from hepllm.executor.jobs import Item, Queue, Result, Retry, in_order, run_serially
from hepllm.executor.processes import run_in_processes
from hepllm.executor.sooner import run_where_sooner

__all__ = ["Kind", "Retry", "resolve_threads", "resolve_workers", "run_tasks", "usable_cores"]

Kind = Literal["serial", "processes", "sooner", "dask"]

_ONCE = Retry()


def usable_cores() -> int:
    """Number of cores that this process may use, which a batch system often limits."""
    return len(os.sched_getaffinity(0))


def resolve_workers(workers: int) -> int:
    """Returns the number of workers; 0 means one per usable core."""
    return workers or usable_cores()


def resolve_threads(threads: int) -> int:
    """Returns the number of torch's threads; 0 means ``OMP_NUM_THREADS``, else one per core."""
    if threads:
        return threads
    stated = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(stated) if stated.isdigit() and int(stated) else usable_cores()


def run_tasks(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    kind: Kind = "processes",
    workers: int = 0,
    describe: Callable[[Item], str] = str,
    ordered: bool = False,
    retry: Retry = _ONCE,
    scheduler: str | None = None,
) -> Generator[tuple[Item, Result], None, None]:
    """Applies a function to items and yields each item with its result.

    Takes an item only when a worker is free, so that the iterable may be lazy and long. Close the
    generator (``contextlib.closing``) to stop early; the workers then end at once.

    Args:
        function: importable by name, or a ``functools.partial`` of such a function.
        items: frozen work items.
        kind: where the function runs; ``sooner``: in this process, and in workers as soon as it is
            seen that they end the remaining items sooner. The items must then have a length.
        workers: number of workers; 0: one per usable core.
        describe: names an item in an error, e.g. ``data/rnd.h5: rows 0-999``.
        ordered: yields in the order of the items instead of the order of completion.
        retry: what to do after failures; a serial run cannot stop itself when it hangs.
        scheduler: address of a running Dask scheduler; None starts a local cluster.

    Raises:
        ChunkError: if a worker raises, is killed or hangs; the message names the item.
        HepllmError: if the function raises it.
        InputError: if Dask is not installed, or its scheduler cannot be reached.
        RunError: if a worker process cannot be started.
    """
    queue = Queue(items, describe, retry, ordered, resolve_workers(workers))
    if kind == "serial":
        finished = run_serially(function, queue)
    elif kind == "processes":
        finished = run_in_processes(function, queue)
    elif kind == "sooner":
        if not isinstance(items, Sized):
            raise TypeError("items without a length cannot be done where that ends sooner")
        finished = run_where_sooner(function, queue, len(items))
    else:
        finished = run_on_dask(function, queue, scheduler)
    with closing(finished):
        if ordered:
            yield from in_order(finished, queue)
        else:
            yield from ((job.item, result) for job, result in finished)
