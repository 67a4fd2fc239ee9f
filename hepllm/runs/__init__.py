"""Run folders, and the use of trained runs by the later commands."""

from __future__ import annotations

from pathlib import Path

RUNS_FOLDER = Path("runs")
"""Default folder of the runs that ``hepllm train`` makes."""

LATEST = RUNS_FOLDER / "latest"
"""Link to the run that was trained last."""
