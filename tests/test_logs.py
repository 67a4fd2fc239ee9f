"""Progress is one line on a terminal, with rate and time left, and a line a minute elsewhere."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios

import pytest

from hepllm import logs

_WORK = """
import logging, sys, time
from hepllm.logs import configure_logging, progress_bar
configure_logging(int(sys.argv[1]))
with progress_bar(1000, "preprocess", initial=int(sys.argv[2])) as progress:
    for _ in range(5):
        time.sleep(0.25)
        progress.update(150)
"""


def _on_a_terminal(verbosity: int, initial: int = 0) -> str:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 90, 0, 0))
    command = [sys.executable, "-c", _WORK, str(verbosity), str(initial)]
    with subprocess.Popen(command, stderr=theirs):
        os.close(theirs)
        text = b""
        try:
            while block := os.read(ours, 4096):
                text += block
        except OSError:  # how Linux tells that the other side has closed
            pass
    os.close(ours)
    return text.decode()


def test_a_terminal_gets_one_line() -> None:
    text = _on_a_terminal(0)
    assert "\n" not in text
    states = [state for state in text.split("\r") if state.strip()]
    assert len(states) >= 3
    last = states[-1]
    assert "preprocess" in last
    assert "750/1000" in last
    assert "events/s" in last
    assert "<00:0" in last  # time left
    assert all(len(state) <= 90 for state in states)


def test_earlier_work_counts_for_the_state_and_not_for_the_rate() -> None:
    states = [state for state in _on_a_terminal(0, initial=200).split("\r") if state.strip()]
    assert "200/1000" in states[0]
    assert "950/1000" in states[-1]
    (rate,) = re.findall(r"([0-9.]+) events/s", states[-1])
    assert float(rate) <= 601  # 150 in a quarter of a second, 760 if the others counted


def test_quiet_is_quiet() -> None:
    assert _on_a_terminal(-1).strip() == ""


def _in_a_file(verbosity: int, every: float, nested: bool = False) -> str:
    work = f"from hepllm import logs\nlogs.LINE_EVERY = {every}\n{_WORK}"
    if nested:
        work = work.replace("with progress", "outer = progress_bar(9, 'outer')\nwith progress")
    command = [sys.executable, "-c", work, str(verbosity), "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def test_a_file_gets_a_line_now_and_then() -> None:
    assert _in_a_file(0, 60) == _in_a_file(-1, 0.2) == ""
    lines = _in_a_file(0, 0.4).splitlines()
    assert 1 <= len(lines) <= 3
    shape = (
        r"\d\d:\d\d:\d\d INFO    preprocess: \d+ of 1000 events, +[0-9.]+ events/s, \d\d:\d\d left"
    )
    assert all(re.fullmatch(shape, line) for line in lines), lines


def test_what_takes_longer_than_a_second_is_told_in_seconds() -> None:
    slow = _WORK.replace("progress.update(150)", "progress.update(0.1)")
    work = f"from hepllm import logs\nlogs.LINE_EVERY = 0.4\n{slow}"
    command = [sys.executable, "-c", work, "0", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.search(r", +[0-9.]+ s each, ", done.stderr), done.stderr


def test_a_bar_of_which_nothing_is_done_says_no_rate(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logs, "LINE_EVERY", 0.0)
    with caplog.at_level(logging.INFO, "hepllm"), logs.progress_bar(4, "suite", "trainings") as bar:
        bar.miniters = 0
        bar.update(0)
    assert caplog.messages[0] == "suite: 0 of 4 trainings"


def test_a_bar_inside_another_moves_no_cursor() -> None:
    text = _in_a_file(0, 0.2, nested=True)
    assert "preprocess: " in text
    assert "\x1b" not in text


_KILLED = """
import multiprocessing.resource_tracker, os, signal, sys
multiprocessing.set_start_method("spawn")  # as in our workers
from hepllm.logs import progress_bar
multiprocessing.resource_tracker.ensure_running()
with progress_bar(10, "flow") as progress:
    progress.update(1)
    os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_worker_that_is_ended_leaves_no_semaphore() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _KILLED], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGTERM
    assert "leaked" not in done.stderr
