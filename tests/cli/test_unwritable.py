"""Commands of a user who may read a run, a dataset and the home folder, but not write to them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def read_only(tmp_path: Path, tiny_run: Path, tiny_data: Path) -> Iterator[Path]:
    """A run and its dataset in folders that cannot be written to."""
    shutil.copytree(tiny_data / "data" / "rnd", tmp_path / "rnd")
    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "free").mkdir()
    folders = [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    (tmp_path / "free").chmod(0o777)
    yield tmp_path
    for folder in folders:
        folder.chmod(0o755)


@pytest.fixture
def run(read_only: Path) -> Run:
    """Runs a command as somebody who may not write; root changes to another user for that."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed, and root may write everywhere")
    as_whom = NOBODY if os.geteuid() == 0 else ()

    def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if "CACHE" not in name}
        return subprocess.run(
            [*as_whom, sys.executable, "-B", "-m", "hepllm", *map(str, words)],
            env=kept | {"PYTHONPATH": str(ROOT), "HOME": "/nonexistent"} | environment,
            cwd=read_only,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,  # a busy machine needs many seconds
        )

    return run


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.splitlines()[-1]


def test_a_dataset_is_shown(run: Run, read_only: Path) -> None:
    done = run("inspect", "rnd")
    assert done.returncode == 0, done.stderr
    assert "jet_mass_light" in done.stdout
    assert "features.png" not in done.stdout
    assert done.stderr.endswith(
        "WARNING rnd/features.png: cannot be written: Permission denied; choose another --page\n"
    )
    assert len(done.stderr.splitlines()) == 1
    done = run("inspect", "rnd", "--page", read_only / "page.png")
    assert done.returncode == 1
    assert "page.png: cannot be written" in last_line(done)


@pytest.mark.slow
def test_models_cannot_be_kept(run: Run, read_only: Path) -> None:
    for home in ({}, {"HOME": str(read_only)}):
        done = run("predict", "run", "rnd", "--output", "free/never.csv", **home)
        assert done.returncode == 2
        line = last_line(done)
        assert line.startswith("hepllm: error: ")
        assert line.endswith("set HEPLLM_CACHE to a folder that can be written to")
        assert ".cache" in line
    done = run("doctor", "--set", "backbone.name=tiny-random")
    assert "set HEPLLM_CACHE to a folder that can be written to" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", ["eval", "explain", "report", "train"])
def test_a_run_cannot_be_written(command: str, run: Run, model_cache: Path) -> None:
    words = {
        "eval": ["run"],
        "explain": ["run", "1"],
        "report": ["run"],
        "train": ["rnd", "--output", "made", "--config", ROOT / "configs" / "tiny.yaml"],
    }[command]
    done = run(command, *words, HEPLLM_CACHE=str(model_cache))
    assert done.returncode in (1, 2)
    assert last_line(done).startswith("hepllm: error: ")
    assert "written" in last_line(done) or "Permission denied" in last_line(done)
