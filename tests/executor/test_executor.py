"""The executors: same results everywhere, failures named, nothing left behind."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from hepllm.errors import ChunkError, InputError, RunError
from hepllm.executor import (
    Kind,
    Retry,
    resolve_threads,
    resolve_workers,
    run_tasks,
    usable_cores,
)


def _square(value: int) -> int:
    return value * value


def _late_first(value: int) -> int:
    time.sleep(0.4 if value == 0 else 0.0)
    return value


def _fails_on_three(value: int) -> int:
    if value == 3:
        raise KeyError("no such\nevent")
    return value


def _wrong_input(value: int) -> int:
    raise InputError(f"file.h5: rows {value}")


def _dies_on_two(value: int) -> int:
    if value == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def _dies_once(path: Path) -> str:
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def _hangs(_: int) -> None:
    time.sleep(60)


def _touch(path: Path) -> None:
    path.touch()


def _says_so_and_hangs(path: Path) -> None:
    path.touch()
    time.sleep(60)


def _lambda(_: int) -> object:
    return lambda: None


def _threads(_: int) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def _pid(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def _name(value: int) -> str:
    return f"file.h5: rows {value}-{value}"


def _gone(pid: int, within: float = 0.0) -> bool:
    """Whether a process, or with a negative number a whole group, has ended."""
    limit = time.monotonic() + within
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if time.monotonic() > limit:
            return False
        time.sleep(0.05)


def _wait_until(happened: Callable[[], bool], within: float) -> None:
    limit = time.monotonic() + within
    while not happened():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("kind", ["serial", "processes", "sooner"])
def test_every_item_comes_back_once(kind: str, workers: int) -> None:
    results = dict(run_tasks(_square, range(17), kind=kind, workers=workers))
    assert results == {value: value * value for value in range(17)}


@pytest.mark.parametrize("kind", ["serial", "processes"])
def test_no_items_no_results(kind: str) -> None:
    assert list(run_tasks(_square, [], kind=kind)) == []


def test_ordered_results_follow_the_items() -> None:
    done = [item for item, _ in run_tasks(_late_first, range(20), workers=2, ordered=True)]
    assert done == list(range(20))


@pytest.mark.parametrize("kind", ["processes", "dask"])
def test_a_worker_goes_on_while_a_result_is_dealt_with(kind: Kind, tmp_path: Path) -> None:
    if kind == "dask":
        pytest.importorskip("distributed", reason="the dask extra is not installed")
    first, second = tmp_path / "first", tmp_path / "second"
    with closing(run_tasks(_touch, [first, second], kind=kind, workers=1)) as results:
        next(results)
        _wait_until(second.exists, 30)


def test_unordered_results_do_not_wait_for_a_slow_item() -> None:
    done = [item for item, _ in run_tasks(_late_first, range(8), workers=2)]
    assert sorted(done) == list(range(8))
    assert done[0] != 0


@pytest.mark.parametrize("ordered", [True, False])
def test_few_items_are_taken_in_advance(ordered: bool) -> None:
    taken: list[int] = []

    def items():  # type: ignore[no-untyped-def]
        for value in range(10_000):
            taken.append(value)
            yield value

    with closing(run_tasks(_late_first, items(), workers=2, ordered=ordered)) as results:
        next(results)
        assert len(taken) <= 10


@pytest.mark.parametrize("kind", ["serial", "processes"])
def test_an_exception_names_the_item(kind: str) -> None:
    with pytest.raises(ChunkError, match=r"^file.h5: rows 3-3: KeyError: [^\n]*$"):
        list(run_tasks(_fails_on_three, range(6), kind=kind, workers=2, describe=_name))


@pytest.mark.parametrize("kind", ["serial", "processes"])
def test_an_error_of_ours_passes_unchanged(kind: str) -> None:
    with pytest.raises(InputError, match=r"^file.h5: rows 0$"):
        list(run_tasks(_wrong_input, [0], kind=kind, workers=1, describe=_name))


def test_a_killed_worker_names_its_item() -> None:
    with pytest.raises(ChunkError, match=r"^file.h5: rows 2-2: the worker was killed by SIGKILL"):
        list(run_tasks(_dies_on_two, range(6), workers=2, describe=_name))


def test_a_killed_worker_is_replaced_when_retries_are_allowed(tmp_path: Path) -> None:
    results = list(run_tasks(_dies_once, [tmp_path / "mark"], workers=1, retry=Retry(times=1)))
    assert [result for _, result in results] == ["survived"]


def test_retries_end() -> None:
    with pytest.raises(ChunkError, match=r"rows 2-2: .* \(tried 3 times\)$"):
        list(run_tasks(_dies_on_two, [2], workers=1, describe=_name, retry=Retry(times=2)))


def test_a_hanging_worker_is_stopped() -> None:
    started = time.monotonic()
    with pytest.raises(ChunkError, match=r"rows 7-7: no result after 0\.5 s"):
        list(run_tasks(_hangs, [7], workers=1, describe=_name, retry=Retry(timeout=0.5)))
    assert time.monotonic() - started < 10


def test_a_result_that_cannot_travel_is_an_error() -> None:
    with pytest.raises(ChunkError, match=r"rows 1-1: .*pickle"):
        list(run_tasks(_lambda, [1], workers=1, describe=_name))


def test_workers_use_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert [threads for _, threads in run_tasks(_threads, [0], workers=1)] == ["1"]


def test_closing_leaves_no_process_behind() -> None:
    with closing(run_tasks(_pid, range(100), workers=2)) as results:
        pids = {next(results)[1] for _ in range(10)}
        assert len(pids) == 2
    assert all(_gone(pid) for pid in pids)


def test_failure_leaves_no_process_behind() -> None:
    results = run_tasks(_pid_or_fail, range(100), workers=2)
    pids = {next(results)[1] for _ in range(10)}
    assert len(pids) == 2
    with pytest.raises(ChunkError):
        list(results)
    assert all(_gone(pid) for pid in pids)


def _pid_or_fail(value: int) -> int:
    if value == 20:
        raise ValueError
    return _pid(value)


_INTERRUPTED = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores Ctrl-C
sys.path.insert(0, {folder!r})
from test_executor import _says_so_and_hangs
from hepllm.executor import run_tasks
if __name__ == "__main__":
    list(run_tasks(_says_so_and_hangs, [Path(path) for path in {marks!r}], workers=2))
"""


def test_ctrl_c_works_at_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    marks = [tmp_path / "first", tmp_path / "second"]
    script.write_text(
        _INTERRUPTED.format(folder=str(Path(__file__).parent), marks=[str(mark) for mark in marks])
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        # Not before both work: Python drops a KeyboardInterrupt that meets it in an import.
        _wait_until(lambda: all(mark.exists() for mark in marks), within=60.0)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the whole group
        started = time.monotonic()
        _, errors = process.communicate(timeout=20)
        assert time.monotonic() - started < 5
    assert process.returncode != 0
    assert errors.decode().count("KeyboardInterrupt") == 1  # the workers say nothing
    assert _gone(-process.pid, within=5.0)


_UNGUARDED = """
import sys
from pathlib import Path
with Path({mark!r}).open("a") as mark:
    mark.write("x")
sys.path.insert(0, {folder!r})
from test_executor import _square
from hepllm.executor import run_tasks
print(sorted(result for _, result in run_tasks(_square, range(4), workers=2)))
"""


@pytest.mark.parametrize("is_file", [True, False])
def test_workers_do_not_run_a_script_without_a_main_guard(tmp_path: Path, is_file: bool) -> None:
    script, mark = tmp_path / "script.py", tmp_path / "mark"
    script.write_text(_UNGUARDED.format(folder=str(Path(__file__).parent), mark=str(mark)))
    with script.open() as stream:
        found = subprocess.run(
            [sys.executable, str(script) if is_file else "-"],
            stdin=stream,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.strip() == "[0, 1, 4, 9]"
    assert mark.read_text() == "x"


def test_zero_workers_means_every_usable_core() -> None:
    assert resolve_workers(0) == usable_cores() == len(os.sched_getaffinity(0))
    assert resolve_workers(3) == 3


@pytest.mark.parametrize(
    ("stated", "threads"),
    [("5", 5), ("3,2", 3), (" 4 ", 4), ("0", None), ("many", None), ("", None)],
)
def test_threads_are_those_that_the_user_states(
    stated: str, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", stated)
    assert resolve_threads(0) == (threads or usable_cores())
    assert resolve_threads(7) == 7
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert resolve_threads(0) == usable_cores()


def test_dask_gives_the_same_results() -> None:
    pytest.importorskip("distributed", reason="the dask extra is not installed")
    results = dict(run_tasks(_square, range(9), kind="dask", workers=1))
    assert results == {value: value * value for value in range(9)}


def test_dask_minds_no_other_cluster_on_its_machine() -> None:
    pytest.importorskip("distributed", reason="the dask extra is not installed")
    with closing(socket.socket()) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # a cluster that is not ours has the port already
            other.bind(("127.0.0.1", 8787))
            other.listen()
        assert dict(run_tasks(_square, range(3), kind="dask", workers=1)) == {0: 0, 1: 1, 2: 4}


def test_dask_names_the_item_of_an_exception() -> None:
    pytest.importorskip("distributed", reason="the dask extra is not installed")
    with pytest.raises(ChunkError, match=r"^file.h5: rows 3-3: KeyError"):
        list(run_tasks(_fails_on_three, range(6), kind="dask", workers=1, describe=_name))


def test_dask_names_the_item_of_a_killed_worker() -> None:
    pytest.importorskip("distributed", reason="the dask extra is not installed")
    with pytest.raises(ChunkError, match=r"^file.h5: rows 2-2: the worker was killed"):
        list(run_tasks(_dies_on_two, [2], kind="dask", workers=1, describe=_name))


def test_dask_scheduler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hepllm.executor.cluster.CONNECT_TIMEOUT", 0.5)
    pytest.importorskip("distributed", reason="the dask extra is not installed")
    with pytest.raises(InputError, match=r"^dask scheduler tcp://127.0.0.1:9: cannot be reached"):
        list(run_tasks(_square, [1], kind="dask", scheduler="tcp://127.0.0.1:9"))


def test_dask_missing_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install dask distributed"):
        list(run_tasks(_square, [1], kind="dask"))


def _raises_once(path: Path) -> str:
    if not path.exists():
        path.touch()
        raise RuntimeError("out of luck")
    return "survived"


def _hangs_once(path: Path) -> str:
    if not path.exists():
        path.touch()
        time.sleep(60)
    return "survived"


@pytest.mark.parametrize("kind", ["processes", "dask"])
@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (_raises_once, "RuntimeError: out of luck"),
        (_dies_once, "the worker was killed"),
        (_hangs_once, "no result after 4 s; the worker was stopped"),
    ],
)
def test_what_fails_once_is_told_and_tried_again(
    *,
    kind: str,
    function: Callable[[Path], str],
    cause: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if kind == "dask":
        pytest.importorskip("distributed", reason="the dask extra is not installed")
    marks = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    marks[0].touch()
    marks[2].touch()
    retry = Retry(times=1, timeout=4.0)
    with caplog.at_level(logging.WARNING, "hepllm"):
        results = dict(
            run_tasks(
                function, marks, kind=kind, workers=2, retry=retry, describe=lambda path: path.name
            )
        )
    assert results == dict.fromkeys(marks, "survived")
    told = [record.message for record in caplog.records if record.name.startswith("hepllm")]
    assert len(told) == 1
    assert told[0].startswith(f"b: {cause}")
    assert told[0].endswith("; trying again")


def test_dask_stops_a_hanging_worker() -> None:
    pytest.importorskip("distributed", reason="the dask extra is not installed")
    started = time.monotonic()
    with pytest.raises(ChunkError, match=r"rows 7-7: no result after 1 s"):
        list(
            run_tasks(_hangs, [7], kind="dask", workers=1, describe=_name, retry=Retry(timeout=1.0))
        )
    assert time.monotonic() - started < 30


def test_dask_uses_a_scheduler_that_runs() -> None:
    distributed = pytest.importorskip("distributed", reason="the dask extra is not installed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        results = list(run_tasks(_square, range(9), kind="dask", scheduler=address, ordered=True))
        assert results == [(value, value * value) for value in range(9)]


def test_dask_scheduler_that_goes_away() -> None:
    distributed = pytest.importorskip("distributed", reason="the dask extra is not installed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        address = cluster.scheduler_address
        with closing(run_tasks(_pid, range(200), kind="dask", scheduler=address)) as results:
            next(results)
            cluster.close()
            with pytest.raises(RunError, match="connection to the scheduler was lost; run again"):
                list(results)


def test_dask_workers_use_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    pytest.importorskip("distributed", reason="the dask extra is not installed")
    assert [n for _, n in run_tasks(_threads, [0], kind="dask", workers=1)] == ["1"]


def test_a_process_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("multiprocessing.context.SpawnProcess.start", no_memory)
    with pytest.raises(RunError, match="worker process cannot be started: Cannot allocate memory"):
        list(run_tasks(_square, [1], workers=1))
