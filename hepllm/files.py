"""Files and folders that appear under their names complete, or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hepllm.errors import InputError, RunError


@contextmanager
def write_aside(target: Path, *, durable: bool = False, shared: bool = False) -> Iterator[Path]:
    """Gives a hidden path beside ``target`` and renames it to ``target`` when the block succeeds.

    What the block makes at that path may be a file, a link or a folder; a folder replaces an
    earlier folder. When the block fails, what it made is removed and ``target`` stays as it was.

    Args:
        target: the final path; its parent folder exists.
        durable: write to the disk before renaming. Without it a power cut may leave an empty file
            under the final name.
        shared: several processes may write the same target at the same time, so each takes a
            hidden path of its own, ``.<name>.<random>.partial``. What a killed process leaves at
            such a path, the caller must remove.
    """
    own = f".{uuid.uuid4().hex}" if shared else ""
    aside = target.with_name(f".{target.name}{own}.partial")
    _remove(aside)  # left by a process that was killed
    try:
        yield aside
        if durable:
            for file in aside.rglob("*") if aside.is_dir() else (aside,):
                sync(file)
        if aside.is_dir() and not aside.is_symlink():
            _remove(target)
        aside.replace(target)
    except BaseException:
        _remove(aside)
        raise


@contextmanager
def write_together(folder: Path) -> Iterator[Path]:
    """Gives a hidden folder within ``folder``, whose files move to ``folder`` together.

    They move in the order of their names when the block succeeds, and replace files of the same
    names. When the block fails, its files are removed, and ``folder`` too if it did not exist.

    Args:
        folder: where the files shall stand; made if it does not exist.

    Raises:
        InputError: the folder cannot be made or written to.
        RunError: another process writes into the folder in this way.
    """
    is_new = not folder.exists()
    aside = folder / ".partial"
    try:
        aside.mkdir(parents=True, exist_ok=True)
        lock = os.open(aside, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise RunError(f"{folder}: another run is writing files here; wait until it ends") from None
    try:
        for left in aside.iterdir():  # by a process that was killed
            _remove(left)
        yield aside
        for file in sorted(aside.iterdir()):
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        os.close(lock)
        if is_new and not any(folder.iterdir()):
            folder.rmdir()


def write_text(file: Path, text: str, *, durable: bool = False) -> None:
    """Writes a text file in UTF-8, complete or not at all."""
    with write_aside(file, durable=durable) as aside:
        aside.write_text(text, encoding="utf-8")


def sync(file: Path) -> None:
    """Waits until the content of a file, or the list of a folder, is on the disk."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(file: Path, algorithm: str = "sha256") -> str:
    """A digest of a file's content in hexadecimal, read in blocks.

    Args:
        file: any file.
        algorithm: a name that ``hashlib`` knows.
    """
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
