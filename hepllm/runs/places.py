"""Where runs are: the link to the latest one, and the folders that lie beside them."""

from __future__ import annotations

import logging
from pathlib import Path

from hepllm.data.dataset import read_dataset
from hepllm.errors import InputError
from hepllm.files import real_path, set_link
from hepllm.runs import LATEST, RUNS_FOLDER

LOG = logging.getLogger(__name__)

_LOGS = "tensorboard"


def link_latest(run: Path) -> None:
    """Lets ``runs/latest`` point to a run, if it is in ``runs`` too."""
    run = real_path(run)
    if not _is_beside_latest(run):
        return
    if LATEST.is_dir() and not LATEST.is_symlink():
        LOG.warning("%s is a folder, not the link to the latest run; it stays as it is", LATEST)
        return
    set_link(LATEST, run.name)


def log_folder(run: Path) -> Path:
    """The folder of a run's files for TensorBoard.

    Those of the runs in ``runs`` are in ``runs/tensorboard``: TensorBoard follows links, and would
    show what lies in the folder of a run twice, also by the name ``latest``.
    """
    own = run / _LOGS  # of a run elsewhere, or of a former version
    if own.exists() or not _is_beside_latest(real_path(run)):
        return own
    return run.parent / _LOGS / run.name


def refuse_reserved(run: Path) -> None:
    """Raises InputError where the folder of a new run has a name in ``runs`` that is in use."""
    if run.name in (LATEST.name, _LOGS) and _is_beside_latest(real_path(run)):
        raise InputError(
            f"{run}: this name is kept for the link to the latest run, or for TensorBoard's files; "
            "choose another --output"
        )


def find_dataset(recorded: Path, digest: str, run: Path) -> Path:
    """The dataset of a run, also where both were moved together, or are mounted elsewhere.

    Args:
        recorded: the absolute path when the run was trained.
        digest: of the dataset's contents.
        run: folder of the run.

    Returns:
        The folder with this content, at the recorded path, or else at the end of that path below a
        folder that contains the run or is the present one; the recorded path where there is none.
    """
    above = [*run.resolve().parents, Path.cwd()]
    ends = [Path(*recorded.parts[place:]) for place in range(1, len(recorded.parts))]
    for folder in (recorded, *(one / end for end in ends for one in above)):
        if _has_digest(folder, digest):
            return folder
    return recorded


def _has_digest(folder: Path, digest: str) -> bool:
    try:
        return read_dataset(folder).digest == digest
    except InputError:
        return False


def _is_beside_latest(run: Path) -> bool:
    return run.absolute().parent.resolve() == RUNS_FOLDER.resolve()
