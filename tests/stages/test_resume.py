"""Runs that end at a moment nobody chose: killed, or on a disk that is full or read-only."""

from __future__ import annotations

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
from hepllm.dataset import read_dataset
from hepllm.errors import InputError, RunError
from hepllm.physics.events import Particles
from hepllm.physics.lhco_writer import LhcoWriter, to_padded
from hepllm.stages.preprocess import preprocess

N_EVENTS = 20_000
CHUNK = 200
N_KILLS = 10
LIMIT = 900.0
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
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _tile(rows: NDArray[np.float64], path: Path, n_events: int) -> Path:
    """Repeats events, each time turned a little about the beam, so that no two are equal."""
    particles = Particles.from_padded(rows[:, :2100])
    with LhcoWriter(path, n_events, labelled=True) as writer:
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

    def __init__(self, file: Path, output: Path, script: Path) -> None:
        self.output = output
        self.parts = output.with_name(f"{output.name}.partial") / "parts"
        self._command = [sys.executable, str(script), str(file), str(output), str(CHUNK)]

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

    def kill_after(self, seconds: float, whole_group: bool) -> int:
        """Kills a run, alone or with its workers; the number of chunks that are done then."""
        with self.start() as process:
            time.sleep(seconds)
            if whole_group:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
        return len(list(self.parts.glob("*.arrow")))


@pytest.mark.slow
def test_killed_at_random_moments_the_dataset_is_the_same(
    dijet_events: Callable[..., NDArray[np.float64]], tmp_path: Path
) -> None:
    file = _tile(_sample(dijet_events), tmp_path / "tiled.h5", N_EVENTS)
    script = tmp_path / "run.py"
    script.write_text(_RUN)
    runs = _Runs(file, tmp_path / "out", script)
    started = time.monotonic()
    assert runs.finish() == N_EVENTS
    duration = time.monotonic() - started
    expected = _contents(runs.output)
    n_chunks = N_EVENTS // CHUNK
    chance = random.Random(20)  # noqa: S311 (moments, not secrets)
    n_counted = n_killed = 0
    while n_counted < N_KILLS:
        assert time.monotonic() - started < LIMIT, f"{n_counted} of {n_killed} kills counted"
        shutil.rmtree(runs.output, ignore_errors=True)
        shutil.rmtree(runs.parts.parent, ignore_errors=True)
        n_done = 0
        while True:  # now and then a run that goes on is killed as well
            n_before = n_done
            n_done = runs.kill_after(chance.uniform(0, duration), chance.random() < 0.5)
            n_killed += 1
            n_counted += n_before < n_done < n_chunks and not runs.output.exists()
            if chance.random() < 0.6 or n_done == n_chunks or runs.output.exists():
                break
        if runs.output.exists():
            continue
        with pytest.raises(InputError, match="no such dataset"):
            read_dataset(runs.output)
        n_done = len(list(runs.parts.glob("*.arrow")))
        assert runs.finish() == N_EVENTS - n_done * CHUNK  # only the missing chunks
        assert _contents(runs.output) == expected
        assert not runs.parts.parent.exists()
    assert n_counted >= N_KILLS


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


def test_a_disk_that_fills_up_and_is_made_larger(
    lhco_file: Path, tmp_path: Path, small_disk: Callable[[str], Path]
) -> None:
    config = load_config(None, ["preprocess.chunk_size=2", "preprocess.executor=serial"])
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
