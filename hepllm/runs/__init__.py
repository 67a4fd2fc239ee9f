"""What a run folder holds, and what the later commands do with it."""

from __future__ import annotations

from pathlib import Path

RUNS_FOLDER = Path("runs")
"""Where ``hepllm train`` makes runs unless told otherwise."""

LATEST = RUNS_FOLDER / "latest"
"""A link to the run that was finished last."""
