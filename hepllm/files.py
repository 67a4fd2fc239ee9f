"""Files and folders that appear under their names whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_aside(target: Path, *, durable: bool = False) -> Iterator[Path]:
    """Gives a hidden path beside ``target`` and renames it to ``target`` when the block succeeds.

    What the block makes at that path may be a file or a folder; a folder replaces an earlier
    folder. When the block fails, what it made is removed and ``target`` stays as it was.

    Args:
        target: the final path; its parent folder exists.
        durable: write to the disk before renaming, or a power cut might leave an empty file under
            the final name.
    """
    aside = target.with_name(f".{target.name}.partial")
    _remove(aside)  # left by a process that was killed
    try:
        yield aside
        if durable:
            for file in aside.iterdir() if aside.is_dir() else (aside,):
                _sync(file)
        if aside.is_dir() and not aside.is_symlink():
            _remove(target)
        aside.replace(target)
    finally:
        _remove(aside)


def write_text(file: Path, text: str, *, durable: bool = False) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    with write_aside(file, durable=durable) as aside:
        aside.write_text(text, encoding="utf-8")


def file_digest(file: Path) -> str:
    """The SHA-256 of a file's content, read in blocks."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
