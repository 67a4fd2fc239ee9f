"""Run folders, and the use of trained runs by the later commands."""

from __future__ import annotations

from pathlib import Path

from hepllm.errors import InputError

RUNS_FOLDER = Path("runs")
"""Default folder of the runs that ``hepllm train`` makes."""

LATEST = RUNS_FOLDER / "latest"
"""Link to the run that was trained last."""

RECORD, CONFIG = "run.json", "config.yaml"
"""Files that every run folder has."""

VALIDATION_SCORES = "validation.parquet"
"""The file that a training writes last: scores of its validation events."""

METRICS, CURVES = "metrics.json", "curves.json"
"""Files with the numbers and curves of an evaluated set."""

ROUNDS = "self_training.json"
"""File of a folder with rounds of self-training."""

WEAK_RUNS = "weak_runs.json"
"""File of a folder with runs that were trained without labels, one for each fold of a box."""


def has_ended(run: Path) -> bool:
    """Whether the training in a run folder has ended."""
    return (run / VALIDATION_SCORES).is_file()


def can_go_on(run: Path) -> bool:
    """Whether a training that was stopped has left a checkpoint to go on from."""
    return (run / RECORD).is_file() and any(run.glob("checkpoints/step-*"))


def require_run(folder: Path) -> None:
    """Checks that a folder is a run, in no time: commands do so before they import torch.

    Raises:
        InputError: if it is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run; train one with 'hepllm train'")
    if (folder / WEAK_RUNS).is_file():
        raise InputError(
            f"{folder}: has a run for each fold of a box: name one, such as {folder / 'fold-0'}, "
            f"or search the box with all of them: hepllm search BOX --run {folder}"
        )
    for name in (RECORD, CONFIG):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder}: not a run: {name} is missing; name a folder that 'hepllm train' made"
            )
