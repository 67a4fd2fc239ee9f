"""Files and folders that appear complete or not at all: failures, leftovers, several writers."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hepllm.errors import InputError, RunError
from hepllm.files import (
    file_digest,
    real_path,
    set_link,
    write_aside,
    write_text,
    write_together,
)


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_file_digest(tmp_path: Path, algorithm: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"events" * 100_000)
    expected = hashlib.new(algorithm, b"events" * 100_000).hexdigest()
    assert file_digest(file, algorithm) == expected
    assert file_digest(file) == hashlib.sha256(b"events" * 100_000).hexdigest()


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "manifest.json"
    write_text(file, "old", durable=True)
    monkeypatch.setattr("hepllm.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(file, "new", durable=True)
    assert file.read_text() == "old"
    assert names(tmp_path) == ["manifest.json"]
    write_text(file, "new")  # not durable: nothing waits for the disk
    assert file.read_text() == "new"


def make_folder(target: Path, content: str) -> None:
    with write_aside(target, durable=True) as aside:
        (aside / "inner").mkdir(parents=True)
        (aside / "inner" / "weights").write_text(content)


def test_a_folder_replaces_the_earlier_one_or_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "copy"
    make_folder(target, "old")
    (target / "extra").write_text("of the old one")
    make_folder(target, "new")
    assert names(target) == ["inner"]
    monkeypatch.setattr("hepllm.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        make_folder(target, "newer")
    assert (target / "inner" / "weights").read_text() == "new"
    assert names(tmp_path) == ["copy"]


def test_durable_waits_for_every_file_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(
        "hepllm.files.os.fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino)
    )
    make_folder(tmp_path / "copy", "new")
    assert (tmp_path / "copy" / "inner" / "weights").stat().st_ino in synced


_KILLED = """
import os, signal, sys
from pathlib import Path
from hepllm import files
with getattr(files, sys.argv[1])(Path(sys.argv[2])) as aside:
    (aside / "half" if aside.is_dir() else aside).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("function", ["write_aside", "write_together"])
def test_what_a_killed_process_left_is_neither_seen_nor_kept(tmp_path: Path, function: str) -> None:
    target = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", _KILLED, function, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.read_text() for path in left] == ["half"]
    assert any(part.startswith(".") for part in left[0].relative_to(tmp_path).parts)
    if function == "write_aside":
        write_text(target, "whole")
        assert names(tmp_path) == ["out"]
    else:
        with write_together(target) as aside:
            (aside / "a").write_text("whole")
        assert names(target) == ["a"]


def test_shared_writers_do_not_disturb_each_other(tmp_path: Path) -> None:
    target = tmp_path / "part"
    with write_aside(target, shared=True) as first:
        first.write_text("first")
        with write_aside(target, shared=True) as second:
            second.write_text("second")
        assert target.read_text() == "second"
    assert target.read_text() == "first"
    assert names(tmp_path) == ["part"]


def test_files_appear_together(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "b").write_text("old")
    (folder / "other").write_text("stays")
    with write_together(folder) as aside:
        (aside / "a").write_text("new a")
        (aside / "b").write_text("new b")
        assert not (folder / "a").exists()
        assert (folder / "b").read_text() == "old"
    assert names(folder) == ["a", "b", "other"]
    assert (folder / "b").read_text() == "new b"


def fail_together(folder: Path, error: BaseException) -> None:
    with write_together(folder) as aside:
        (aside / "a").write_text("new")
        raise error


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_files_that_fail_together_leave_what_was_there(
    tmp_path: Path, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        fail_together(tmp_path / "new" / "raw", error)
    assert names(tmp_path / "new") == []
    (tmp_path / "a").write_text("old")
    with pytest.raises(type(error)):
        fail_together(tmp_path, error)
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a", "new"]


def test_a_second_writer_of_a_folder_is_refused(tmp_path: Path) -> None:
    with write_together(tmp_path) as aside:
        (aside / "a").write_text("first")
        with pytest.raises(RunError, match="another run is writing"):
            fail_together(tmp_path, AssertionError("it was let in"))
    assert (tmp_path / "a").read_text() == "first"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written to"):
        fail_together(tmp_path / "file" / "raw", AssertionError)


@pytest.mark.parametrize("exists", [True, False])
def test_what_a_link_points_to_is_written(tmp_path: Path, exists: bool) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "scores.csv").symlink_to(disk / "real.csv")
    (tmp_path / "copy").symlink_to("disk/folder", target_is_directory=True)
    if exists:
        write_text(disk / "real.csv", "old")
        make_folder(disk / "folder", "old")
    write_text(tmp_path / "scores.csv", "new")
    make_folder(tmp_path / "copy", "new")
    assert (tmp_path / "scores.csv").is_symlink()
    assert (tmp_path / "copy").is_symlink()
    assert (disk / "real.csv").read_text() == "new"
    assert (disk / "folder" / "inner" / "weights").read_text() == "new"
    assert names(disk) == ["folder", "real.csv"]


def test_files_that_are_links_stay_links_when_they_are_written_together(tmp_path: Path) -> None:
    disk, raw = tmp_path / "disk", tmp_path / "raw"
    disk.mkdir()
    raw.mkdir()
    (raw / "rnd.h5").symlink_to(disk / "big.h5")
    with write_together(raw) as aside:
        (aside / "rnd.h5").write_text("events")
        (aside / "key").write_text("labels")
    assert (raw / "rnd.h5").is_symlink()
    assert (disk / "big.h5").read_text() == "events"
    assert names(raw) == ["key", "rnd.h5"]
    assert names(disk) == ["big.h5"]


def test_a_link_is_set_and_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second", "second"):
        set_link(Path("latest"), name)
        assert (tmp_path / "latest").readlink() == Path(name)
        assert real_path(Path("latest")) == Path(name)
    assert names(tmp_path) == ["latest"]
    set_link(Path("loop"), "loop")
    assert not real_path(Path("loop")).exists()
