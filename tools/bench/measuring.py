"""Instruments of the benchmarks: times with the load of others, times by stage, memory."""

from __future__ import annotations

import functools
import importlib
import os
import resource
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE = 0.15
"""Cores that others may take on a machine that counts as idle."""


@dataclass(frozen=True)
class Timed:
    """A measured time.

    Attributes:
        seconds: what the clock on the wall says.
        others: cores that other processes took meanwhile, on average.
    """

    seconds: float
    others: float


def _cpu_time() -> tuple[float, float]:
    """CPU seconds of the whole machine and of this process with its children that have ended."""
    with Path("/proc/stat").open(encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    mine = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        mine += usage.ru_utime + usage.ru_stime
    return (user + nice + system + irq + softirq + steal) / _TICKS, mine


def clock(function: Callable[[], object]) -> Timed:
    """Calls a function and times it."""
    (all_before, mine_before), started = _cpu_time(), time.perf_counter()
    function()
    seconds = time.perf_counter() - started
    all_after, mine_after = _cpu_time()
    others = (all_after - all_before - (mine_after - mine_before)) / seconds
    return Timed(seconds, max(0.0, others))


def wait_until_idle(patience: float) -> None:
    """Waits until others leave the machine alone, at most ``patience`` seconds."""
    limit = time.monotonic() + patience
    while time.monotonic() < limit and clock(lambda: time.sleep(1)).others > _IDLE:
        pass


class Stopwatch:
    """Exclusive time by stage: a stage's clock stands still while one inside it runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = 0.0

    def time(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        @functools.wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            self._switch()
            self._running.append(stage)
            try:
                return function(*args, **options)
            finally:
                self._switch()
                self._running.pop()

        return timed

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now


@contextmanager
def timed_stages(stages: Sequence[tuple[str, str, str, str]]) -> Iterator[Stopwatch]:
    """Times functions wherever they are called.

    Args:
        stages: what to count it as, module, class if it is a method, function.
    """
    watch = Stopwatch()
    with ExitStack() as stack:
        for stage, module, owner, name in stages:
            where: Any = importlib.import_module(module)
            where = getattr(where, owner) if owner else where
            timed = watch.time(stage, getattr(where, name))
            stack.enter_context(mock.patch.object(where, name, timed))
        yield watch


def peak_pss(command: Sequence[str]) -> int:
    """Runs a command; the largest sum of its processes' proportional set sizes, in bytes."""
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603
        while process.poll() is None:
            peak = max(peak, sum(map(_pss, _tree(process.pid))))
            time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}")
    return peak


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _tree(int(child))
    except (FileNotFoundError, ProcessLookupError):
        return


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
