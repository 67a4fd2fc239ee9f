"""Commands as real processes: signals, standard streams, and what is left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hepllm.data.dataset import read_dataset

CONFIG = Path(__file__).parents[2] / "configs" / "tiny.yaml"
ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
TOLD = {
    130: "hepllm: interrupted",
    143: "hepllm: stopped by SIGTERM",
    129: "hepllm: stopped by SIGHUP",
}

WAIT = 300
"""Seconds after which a process counts as stuck; a busy machine needs many."""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def _as_at_a_terminal() -> Iterator[None]:
    """Processes inherit no ignored signals, also where the tests run in the background."""
    usual: dict[int, Any] = {signal.SIGINT: signal.default_int_handler}
    usual[signal.SIGHUP] = signal.SIG_DFL
    earlier = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in earlier.items():
        signal.signal(number, handler)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start("train", ...)`` starts a command in an empty folder; none outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "hepllm", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(CONFIG.parents[1])},
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.02)


def cpu_seconds(process: subprocess.Popen[str]) -> float:
    """What a process has computed; unlike the time, it says how far it came on a busy machine."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stop(process: subprocess.Popen[str], number: signal.Signals, code: int) -> list[str]:
    """Sends a signal; returns the lines of standard error that are no log records."""
    process.send_signal(number)
    output, errors = process.communicate(timeout=WAIT)
    # A worker that is just starting finds the pipe of its parent closed, before any code of ours.
    errors = re.sub(r"Traceback .*\n(?:  .*\n)+EOFError: Ran out of input\n", "", errors)
    assert "Traceback" not in errors, errors
    assert process.returncode == code, errors
    assert output == ""
    assert errors.splitlines()[-1] == TOLD[code]
    return [line for line in errors.splitlines() if not re.match(r"\d\d:\d\d:\d\d ", line)]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize(("number", "code"), ENDS)
def test_a_simulation_that_is_stopped_leaves_nothing(
    number: signal.Signals, code: int, start: Start, tmp_path: Path
) -> None:
    pytest.importorskip("pythia8mc")
    process = start(
        *("simulate", "--config", CONFIG, "--rnd", "5000", "--workers", "1", "--output", "raw")
    )
    wait_until(process, lambda: any(tmp_path.glob("raw/.partial/*")))
    assert stop(process, number, code) == [TOLD[code]]
    assert left(tmp_path) == []


def test_a_second_signal_changes_nothing(start: Start, tmp_path: Path) -> None:
    pytest.importorskip("pythia8mc")
    process = start("simulate", "--config", CONFIG, "--rnd", "5000", "--workers", "2")
    wait_until(process, lambda: any(tmp_path.glob("data/raw/.partial/*")))
    os.killpg(process.pid, signal.SIGTERM)  # as batch systems do, to all processes
    assert stop(process, signal.SIGTERM, 143) == [TOLD[143]]
    assert left(tmp_path / "data" / "raw") == []


@pytest.mark.parametrize(("number", "code"), ENDS[:2])
def test_a_preprocessing_that_is_stopped_keeps_its_chunks_alone(
    number: signal.Signals, code: int, start: Start, tmp_path: Path, lhco_file: Path
) -> None:
    process = start(
        *("preprocess", lhco_file, "--output", "made", "--workers", "1", "--chunk-size", "1"),
    )
    wait_until(process, lambda: any(tmp_path.glob("made.partial/parts/*.arrow")))
    assert stop(process, number, code) == [TOLD[code]]
    assert [path.name for path in tmp_path.iterdir()] == ["made.partial"]
    assert not list(tmp_path.rglob(".*.partial"))


@pytest.mark.parametrize("seconds", [0.05, 0.15, 0.3, 0.6, 1.0, 1.6, 2.5])
@pytest.mark.slow  # of torch's imports, in which Python drops an interrupt
def test_an_interrupt_at_any_time_is_one_line(seconds: float, start: Start, tmp_path: Path) -> None:
    process = start("doctor", "--set", "backbone.name=tiny-random")
    wait_until(process, lambda: cpu_seconds(process) >= seconds)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=WAIT)
    if process.returncode == -signal.SIGINT:
        assert seconds < 0.3  # the interpreter itself was not ready
        return
    assert process.returncode == 130, errors
    assert errors == f"{TOLD[130]}\n"
    assert left(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), ENDS)
def test_a_training_before_its_first_step(
    number: signal.Signals, code: int, start: Start, tmp_path: Path, tiny_data: Path
) -> None:
    process = start("train", tiny_data / "data" / "rnd", "--config", CONFIG)
    assert process.stderr is not None
    assert any("training on" in line for line in process.stderr)  # the model is being loaded
    assert stop(process, number, code) == [TOLD[code]]
    assert left(tmp_path) == []


@pytest.mark.slow
def test_scoring_that_is_stopped_keeps_its_pieces_alone(
    start: Start, tmp_path: Path, tiny_run: Path, tiny_data: Path
) -> None:
    number, code = ENDS[0]
    process = start(
        *("predict", tiny_run, tiny_data / "rnd.h5", "--output", "s.csv", "--executor", "serial"),
        *("--set", "preprocess.chunk_size=1"),
    )
    wait_until(process, lambda: any((tmp_path / "s.csv.partial").glob("parts/*.arrow")))
    assert stop(process, number, code) == [TOLD[code]]
    assert [path.name for path in tmp_path.iterdir()] == ["s.csv.partial"]
    assert not list(tmp_path.rglob(".*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), ENDS[:2])
def test_an_evaluation_that_is_stopped(
    number: signal.Signals, code: int, start: Start, tmp_path: Path, tiny_run: Path
) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    process = start("eval", run)
    wait_until(process, (run / "eval").exists)
    assert stop(process, number, code) == [TOLD[code]]
    assert not list(run.rglob("*.partial"))


def in_shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", "-c", command],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(CONFIG.parents[1])},
        check=False,
        timeout=WAIT,
    )


SILENCE = ["2>&-", ">/dev/null 2>&-", "<&- 2>&-"]


@pytest.mark.parametrize("closed", SILENCE)
def test_closed_streams_harm_no_file(closed: str, tmp_path: Path, lhco_file: Path) -> None:
    command = (
        f"{sys.executable} -m hepllm preprocess {lhco_file} --output made --workers 1 {closed}"
    )
    done = in_shell(command, tmp_path)
    assert done.returncode == 0
    assert read_dataset(tmp_path / "made").n_events == 60
    read_dataset(tmp_path / "made").check_shards()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_names_that_are_no_text_are_printed(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("m_jj,label\n3000,1\n3100,0\n")
    name = b"donn\xe9es \xe2\x82\xac"  # the first accent is not UTF-8
    command = [sys.executable, "-m", "hepllm", "preprocess", "a.csv", "--executor=serial"]
    done = subprocess.run(
        [*command, "--output", name],
        capture_output=True,
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": str(CONFIG.parents[1]), "PYTHONIOENCODING": f"{encoding}:strict"},
        check=False,
        timeout=WAIT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(name if encoding == "utf-8" else b"donn\\udce9es \\u20ac")
    assert read_dataset(tmp_path / os.fsdecode(name)).n_events == 2


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m hepllm config | head -1; echo ${{PIPESTATUS[0]}}"
    done = in_shell(command, tmp_path)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] in ("0", "1")


def test_a_full_disk_under_the_output_is_one_line(tmp_path: Path) -> None:
    command = f"{sys.executable} -m hepllm config > /dev/full"
    done = in_shell(command, tmp_path)
    assert (done.returncode, done.stderr) == (1, "hepllm: error: No space left on device\n")
