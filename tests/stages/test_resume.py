"""Runs that end at a moment nobody chose: killed, or on a disk that is full or read-only."""

from __future__ import annotations

import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hepllm.config import load_config
from hepllm.data.dataset import read_dataset
from hepllm.errors import InputError, RunError
from hepllm.physics.events import Particles
from hepllm.physics.lhco_writer import to_padded, write_lhco
from hepllm.stages.preprocess import preprocess

N_EVENTS = 20_000
CHUNK = 200
N_KILLS = 10
LIMIT = 1800.0
"""Seconds within which so many kills must have hit."""

_RUN = """
import sys
from pathlib import Path
from hepllm.config import load_config
from hepllm.stages.preprocess import preprocess
if __name__ == "__main__":
    config = load_config(None, ["preprocess.chunk_size=" + sys.argv[3], "preprocess.workers=2"])
    (made,) = preprocess([Path(sys.argv[1])], Path(sys.argv[2]), config)
    print(made.n_read)
"""


def _contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "config.yaml"}


def _tile(rows: NDArray[np.float64], path: Path, n_events: int) -> Path:
    """Repeats events, each time turned a little about the beam, so that no two are equal."""
    particles = Particles.from_padded(rows[:, :2100])
    with write_lhco(path, n_events, labelled=True) as writer:
        for start in range(0, n_events, len(rows)):
            phi = (particles.phi + 1e-6 * start + np.pi) % (2 * np.pi) - np.pi
            turned = Particles(particles.pt, particles.eta, phi, particles.counts)
            number = min(len(rows), n_events - start)
            writer.append(to_padded(turned)[:number], rows[:number, -1])
    return path


def _sample(dijet_events: Callable[..., NDArray[np.float64]]) -> NDArray[np.float64]:
    """The real events where they are at hand, else synthetic ones."""
    named = os.environ.get("HEPLLM_REFERENCE_DATA")
    folder = Path(named) if named else Path(__file__).parents[3] / "shared" / "data"
    path = folder / "lhco" / "events_anomalydetection_tiny.h5"
    if not path.is_file():
        return dijet_events(1000)
    import h5py

    with h5py.File(path, "r") as file:
        rows: NDArray[np.float64] = file["df/block0_values"][()]
    return rows


class _Runs:
    """Starts the stage in processes of their own, on one input and one output."""

    def __init__(self, file: Path, output: Path, chunk: int) -> None:
        self.output = output
        self._parts = output.with_name(f"{output.name}.partial") / "parts"
        script = output.with_name("run.py")
        script.write_text(_RUN)
        self._command = [sys.executable, str(script), str(file), str(output), str(chunk)]

    @property
    def n_done(self) -> int:
        """Chunks that are done."""
        return len(list(self._parts.glob("*.arrow")))

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def finish(self) -> int:
        """Runs to the end; the number of events that were read for it."""
        with self.start() as process:
            out, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        return int(out)

    def kill_when(self, due: Callable[[], bool], whole_group: bool) -> int:
        """Kills a run, alone or with its workers; the number of chunks that are done then."""
        with self.start() as process:
            while not due():
                time.sleep(0.002)
            if whole_group:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        _wait_for_group(process.pid)  # its workers finish what they have in hand
        return self.n_done

    def forget(self) -> None:
        """Removes what is done."""
        shutil.rmtree(self.output, ignore_errors=True)
        shutil.rmtree(self._parts.parent, ignore_errors=True)


def _wait_for_group(pid: int) -> None:
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    pytest.fail("a worker outlives its run by a minute")


def test_killed_and_run_again(lhco_file: Path, tmp_path: Path) -> None:
    config = load_config(None, ["preprocess.chunk_size=1", "preprocess.executor=serial"])
    preprocess([lhco_file], tmp_path / "expected", config)
    runs = _Runs(lhco_file, tmp_path / "out", chunk=1)
    n_done = runs.kill_when(lambda: runs.n_done >= 5, whole_group=False)
    assert 5 <= n_done < 60
    assert runs.finish() == 60 - n_done
    assert _contents(runs.output) == _contents(tmp_path / "expected")


@pytest.mark.slow
def test_killed_at_random_moments_the_dataset_is_the_same(
    dijet_events: Callable[..., NDArray[np.float64]],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    file = _tile(_sample(dijet_events), tmp_path / "tiled.h5", N_EVENTS)
    runs = _Runs(file, tmp_path / "out", CHUNK)
    started = time.monotonic()
    assert runs.finish() == N_EVENTS
    duration = time.monotonic() - started
    expected = _contents(runs.output)
    n_chunks = N_EVENTS // CHUNK
    chance = random.Random(20)  # noqa: S311 (moments, not secrets)
    n_counted = n_killed = 0
    while n_counted < N_KILLS:
        assert time.monotonic() - started < LIMIT, f"{n_counted} of {n_killed} kills counted"
        runs.forget()
        n_done = 0
        while True:  # now and then a run that goes on is killed as well
            n_before = n_done
            end = time.monotonic() + chance.uniform(0, duration)
            n_done = runs.kill_when(functools.partial(_is_past, end), chance.random() < 0.5)
            n_killed += 1
            n_counted += n_before < n_done < n_chunks and not runs.output.exists()
            if chance.random() < 0.6 or n_done == n_chunks or runs.output.exists():
                break
        if runs.output.exists():
            continue
        with pytest.raises(InputError, match="no such dataset"):
            read_dataset(runs.output)
        assert runs.finish() == N_EVENTS - n_done * CHUNK  # only the missing chunks
        assert _contents(runs.output) == expected
        assert list(tmp_path.glob("*.partial")) == []
    record_property("kills", f"{n_counted} of {n_killed} counted")


def _is_past(end: float) -> bool:
    return time.monotonic() > end


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """``small_disk(options)`` mounts a file system of its own, or changes the one that is there."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        if folder.is_mount():
            options = f"remount,{options}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
        return folder

    if shutil.which("mount") is None:
        pytest.skip("there is no mount command")
    yield mount
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S607


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_a_disk_that_fills_up_and_is_made_larger(
    executor: str, lhco_file: Path, tmp_path: Path, small_disk: Callable[[str], Path]
) -> None:
    names = {"chunk_size": 2, "workers": 1, "executor": executor}
    config = load_config(None, [f"preprocess.{key}={value}" for key, value in names.items()])
    preprocess([lhco_file], tmp_path / "expected", config)
    output = small_disk("size=256k") / "rnd"
    with pytest.raises(RunError, match=r"cannot be written: .*No space left on device") as caught:
        preprocess([lhco_file], output, config)
    assert caught.value.exit_code == 1
    assert not output.exists()
    small_disk("size=20m")
    (made,) = preprocess([lhco_file], output, config)
    assert 0 < made.n_read < 60  # what was finished before the disk was full still counts
    assert _contents(output) == _contents(tmp_path / "expected")


def test_a_read_only_disk(
    lhco_file: Path, tmp_path: Path, small_disk: Callable[[str], Path]
) -> None:
    output = small_disk("size=1m,ro") / "rnd"
    config = load_config(None, ["preprocess.executor=serial"])
    with pytest.raises(RunError, match=r"cannot be written: Read-only file system"):
        preprocess([lhco_file], output, config)
