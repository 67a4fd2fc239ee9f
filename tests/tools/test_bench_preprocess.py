"""The benchmark runs, and the usual script finds the features that the package finds."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "bench" / "bench_preprocess.py"


@pytest.mark.slow
def test_small_benchmark(tmp_path: Path) -> None:
    sizes = {"events": 1000, "events-usual": 1000, "events-workers": 1000, "repeats": 1}
    options = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    options += ["--events-memory", "1000", "--json", str(tmp_path / "bench.json")]
    done = subprocess.run(
        [sys.executable, str(TOOL), *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "bench.json").read_text())["results"]
    assert set(results) == {"bare", "extended", "usual", "workers", "memory", "stages"}
    assert results["bare"]["ratio"] > 0.3
    assert results["extended"]["over_bare"] < 1 < results["extended"]["over_usual_features"] * 1.5
    assert results["usual"]["ratio"] > 1
    stages = results["stages"]["seconds_per_million"]
    assert sum(stages.values()) == pytest.approx(2 * stages["total"])
    assert min(stages[name] for name in ("read", "cluster", "substructure", "write")) > 0
    assert 2**27 < results["memory"]["peak_pss_bytes"]["1000"] < 2**31


def test_help_tells_the_sizes() -> None:
    done = subprocess.run(
        [sys.executable, str(TOOL), "--help"], capture_output=True, text=True, check=True
    )
    for option in ("--events-workers", "--events-memory", "--repeats", "--json", "--only"):
        assert option in done.stdout


def test_every_timed_stage_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOOL.parent)
    for stage, module, owner, function in importlib.import_module("bench_preprocess").STAGES:
        where = importlib.import_module(module)
        assert hasattr(getattr(where, owner) if owner else where, function), stage
