"""Parts that workers write: whole or not at all, and those of another run do not count."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from hepllm.data.work_folder import Parts, WorkFolder, work_folder
from hepllm.errors import RunError

TABLE = pa.table({"m_jj": [3500.0, 2900.0]})


def test_a_part_comes_back(tmp_path: Path) -> None:
    parts = pickle.loads(pickle.dumps(Parts(tmp_path, "a")))  # noqa: S301 (our own)
    parts.save("rows", TABLE, [("events read", 3), ("valid events", 2)])
    assert parts.load("rows").equals(TABLE)
    assert parts.cut_flow("rows") == [("events read", 3), ("valid events", 2)]
    assert parts.cut_flow("others") is None


def test_two_that_write_the_same_part_do_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Parts(tmp_path, "a")
    replace = Path.replace

    def after_another(aside: Path, target: Path) -> Path:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            parts.save("rows", TABLE, [("events read", 2)])
        return replace(aside, target)

    monkeypatch.setattr(Path, "replace", after_another)
    parts.save("rows", TABLE, [("events read", 2)])
    assert parts.load("rows").equals(TABLE)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(tmp_path, "a")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        parts.save("rows", TABLE, [])
    assert list(tmp_path.iterdir()) == []


def _unfinished(output: Path, fingerprint: dict[str, float]) -> WorkFolder:
    with work_folder(output, fingerprint, overwrite=False) as work:
        work.parts.save("rows", TABLE, [("events read", 2)])
    return work


def test_a_worker_that_outlives_its_run_adds_nothing_to_another(tmp_path: Path) -> None:
    output = tmp_path / "rnd"
    work = _unfinished(output, {"radius": 0.5})
    with work_folder(output, {"radius": 1.0}, overwrite=True) as again:
        work.parts.save("rows", TABLE, [])  # by the old worker
        assert again.parts.cut_flow("rows") is None
        with pytest.raises(RunError, match=r"cannot be read back: .*run again"):
            again.parts.load("rows")


def test_what_was_being_written_is_put_away(tmp_path: Path) -> None:
    output = tmp_path / "rnd"
    work = _unfinished(output, {})
    (work.parts.folder / ".others-0.arrow.0123.partial").write_bytes(b"half")
    with work_folder(output, {}, overwrite=False) as again:
        assert [file.suffix for file in again.parts.folder.iterdir()] == [".arrow"]
        assert again.parts.cut_flow("rows") == [("events read", 2)]


def test_what_a_worker_left_unfinished_goes_when_a_run_stops(tmp_path: Path) -> None:
    def stopped() -> None:
        with work_folder(tmp_path / "out", {}, overwrite=False) as work:
            (work.parts.folder / "1.arrow").touch()
            (work.parts.folder / ".2.arrow.0a.partial").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [path.name for path in (tmp_path / "out.partial" / "parts").iterdir()] == ["1.arrow"]
