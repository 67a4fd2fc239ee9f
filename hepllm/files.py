"""Files and folders that appear under their final name only when complete; locks; digests."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hepllm.errors import InputError, RunError

_LONGEST_NAME = 255
"""Bytes in the name of a file on usual file systems."""


@contextmanager
def write_aside(target: Path, *, durable: bool = False, shared: bool = False) -> Iterator[Path]:
    """Gives a hidden path beside ``target`` and renames it to ``target`` when the block succeeds.

    The block makes a file or a folder at that path; a folder replaces an earlier folder. A target
    that is a link stays one, and what it points to is replaced, perhaps on another disk. When the
    block fails, the hidden path is removed and ``target`` stays as it was.

    Args:
        target: the final path; its parent folder exists.
        durable: write to the disk before renaming. Without it a power cut may leave an empty file
            under the final name.
        shared: several processes may write the same target at the same time, so each uses its own
            hidden path, ``.<name>.<random>.partial``. The caller must remove such a path that a
            killed process left.
    """
    target = real_path(target)
    own = f".{uuid.uuid4().hex}" if shared else ""
    aside = beside(target, ".", f"{own}.partial")
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


def beside(target: Path, begin: str = "", end: str = "") -> Path:
    """A path beside ``target``, with a longer name made of its name.

    Where a file system could not hold that name, a digest replaces the name of ``target``.
    """
    name, bare = f"{begin}{target.name}{end}", os.fsencode(target.name)
    if len(begin) + len(bare) + len(end) > _LONGEST_NAME:
        name = f"{begin}{hashlib.sha256(bare).hexdigest()[:16]}{end}"
    return target.with_name(name)


def is_file(path: Path) -> bool:
    """Whether there is such a file; false for a name that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def as_text(name: str) -> str:
    r"""A file's name as text that can be stored; bytes that are not UTF-8 become ``\xe9``."""
    return os.fsencode(name).decode(errors="backslashreplace")


@contextmanager
def write_together(folder: Path) -> Iterator[Path]:
    """Gives a hidden folder within ``folder``, whose files move to ``folder`` together.

    They move in the order of their names when the block succeeds, and replace files of the same
    names. When the block fails, its files are removed, and ``folder`` too if it did not exist.

    Args:
        folder: the final folder of the files; made if it does not exist.

    Raises:
        InputError: the folder cannot be made or written to.
        RunError: another process writes into the folder in this way.
    """
    is_new = not folder.exists()
    aside = folder / ".partial"
    try:
        aside.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to: {error.strerror}") from None
    with locked(aside, f"{folder}: another run is writing files here; wait until it ends"):
        try:
            for left in aside.iterdir():  # by a process that was killed
                _remove(left)
            yield aside
            for file in sorted(aside.iterdir()):
                _move(file, folder / file.name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            if is_new and not any(folder.iterdir()):
                folder.rmdir()


def real_path(path: Path) -> Path:
    """The place that a link points to, relative to the present folder where it is inside."""
    if not path.is_symlink():
        return path
    found, here = Path(os.path.realpath(path)), Path.cwd()
    return found.relative_to(here) if found.is_relative_to(here) else found


def set_link(link: Path, target: str) -> None:
    """Makes a link, or lets it point to another target, at once."""
    aside = link.with_name(f".{link.name}.{uuid.uuid4().hex}.partial")
    aside.symlink_to(target)
    try:
        aside.replace(link)
    except BaseException:
        aside.unlink()
        raise


@contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Holds the lock of a file or folder, which one process at a time can have.

    Raises:
        RunError: another process has the lock; ``refusal`` is the message.
    """
    lock = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(refusal) from None
        yield
    finally:
        os.close(lock)


@contextmanager
def locked_after(path: Path, on_wait: Callable[[], None]) -> Iterator[int]:
    """Holds the lock of a file or folder, for which it waits.

    Gives the descriptor that holds it. A child that inherits this keeps the lock when its parent
    is killed.

    Args:
        path: the file or folder.
        on_wait: called once where another process has the lock.
    """
    lock = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            on_wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


@contextmanager
def write_errors(output: Path, hint: str = "") -> Iterator[None]:
    """Raises ``RunError`` with the file, or else the output, where the block cannot write."""
    try:
        yield
    except OSError as error:
        file = Path(error.filename) if isinstance(error.filename, str) else output
        if file.name.endswith(".partial"):  # our own, which nobody knows
            file = output
        reason = f"{file}: cannot be written: {error.strerror or error}"
        raise RunError(f"{reason}; {hint}" if hint else reason) from None


def refuse_existing(folder: Path, names: Iterable[str], overwrite: bool) -> None:
    """Raises ``InputError`` where files exist that may not be replaced."""
    present = [name for name in names if (folder / name).exists()]
    if present and not overwrite:
        raise InputError(f"{folder}: contains {', '.join(present)}; give --overwrite to replace")


def write_text(file: Path, text: str, *, durable: bool = False) -> None:
    """Writes a text file in UTF-8, complete or not at all.

    Names of files that are not UTF-8 may be in it, such as in a command; their bytes are escaped.
    """
    with write_aside(file, durable=durable) as aside:
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")


def sync(file: Path) -> None:
    """Waits until the content of a file, or the list of a folder, is on the disk."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(file: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal digest of a file's content by an algorithm of ``hashlib``, read in blocks."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _move(file: Path, target: Path) -> None:
    """Moves a file, also to the disk that a link at ``target`` points to."""
    if not target.is_symlink():
        file.replace(target)
        return
    with write_aside(target) as aside:
        shutil.move(file, aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
