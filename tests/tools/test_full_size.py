"""The tour of the full size, on a small architecture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "bench" / "full_size.py"


@pytest.mark.slow
def test_a_small_model_goes_all_the_way(tmp_path: Path) -> None:
    folder = tmp_path / "tour"
    command = [sys.executable, str(TOOL), str(folder), "--small", "--batch-size", "1"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if "|" in line]
    assert rows[2:] == [
        "simulate",
        "preprocess",
        "quantise and train",
        "resume",
        "predict",
        "reload",
    ]
    assert "computed twice, and was the same" in done.stdout
    assert not folder.exists()
