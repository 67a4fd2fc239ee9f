"""What an evaluation makes once and uses again: the dataset of a black box."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hepllm import cli
from hepllm.data.dataset import Dataset
from hepllm.data.work_folder import Parts
from hepllm.physics.sources import MasterKey
from hepllm.runs.folder import Run, open_run
from hepllm.stages import preprocess as stage
from hepllm.stages.blackbox import open_blackbox


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Run:
    return open_run(Path(shutil.copytree(tiny_run, tmp_path / "run")))


@pytest.fixture
def box(tiny_data: Path, tmp_path: Path) -> Path:
    """A box with its key beside it."""
    shutil.copy(tiny_data / "box.key", tmp_path / "box.masterkey")
    return Path(shutil.copy(tiny_data / "box.h5", tmp_path / "box.h5"))


@pytest.fixture
def clustered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The chunks that are clustered, as they are."""
    done: list[str] = []
    whole = stage.do_chunk

    def counted(task: Any, parts: Parts, config: Any) -> None:
        done.append(task.part)
        whole(task, parts, config)

    monkeypatch.setattr(stage, "do_chunk", counted)
    return done


def opened(run: Run, box: Path, key: MasterKey = None) -> Dataset:
    made = open_blackbox(run, box, key)
    assert made is not None
    return made


def counts(dataset: Dataset) -> dict[str, int]:
    return dataset.manifest.counts["all"]


def test_a_black_box_is_clustered_once(
    run: Run, box: Path, clustered: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    first = opened(run, box)
    assert len(clustered) == 1
    with caplog.at_level(logging.INFO, "hepllm"):
        assert opened(run, box).manifest == first.manifest
    assert len(clustered) == 1
    assert "made from the same files with the same settings; used again" in caplog.text
    shard = first.folder / first.manifest.shards[0].file
    shard.write_bytes(shard.read_bytes()[:-9] + b"scratched")
    with caplog.at_level(logging.WARNING, "hepllm"):
        assert opened(run, box).digest == first.digest
    assert "missing or damaged; made again" in caplog.text
    assert len(clustered) == 2


def test_another_file_or_key_is_not_taken_for_the_former(
    run: Run, box: Path, tiny_data: Path, clustered: list[str]
) -> None:
    assert counts(opened(run, box))["unknown"] == 0
    assert counts(opened(run, box, "none"))["unknown"] == 60
    assert counts(opened(run, box, "none"))["unknown"] == 60
    assert len(clustered) == 2
    key = box.with_name("other")
    key.write_text("1.0\n" * 60)
    assert counts(opened(run, box, key))["signal"] == 60
    shutil.copy(tiny_data / "bb.h5", box)
    assert counts(opened(run, box, "none"))["unknown"] == 0
    assert len(clustered) == 4


def test_a_stopped_clustering_goes_on(
    run: Run, box: Path, clustered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = run.config.preprocess.model_copy(update={"chunk_size": 20, "executor": "serial"})
    run = Run(run.folder, run.config.model_copy(update={"preprocess": small}), run.record)
    whole = Parts.save

    def stop(parts: Parts, part: str, *rest: Any) -> None:
        if len(clustered) == 2:
            raise KeyboardInterrupt
        whole(parts, part, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Parts, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            opened(run, box, "none")
    assert opened(run, box, "none").n_events == 60
    first, *rest = [part[-10:] for part in clustered]
    assert (first, rest) == ("0000000020", ["0000000040", "0000000040", "0000000060"])


@pytest.mark.parametrize("command", ["preprocess", "eval"])
def test_none_is_no_key_on_the_command_line(
    command: str, box: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[MasterKey] = []

    def look(path: Path, masterkey: MasterKey, config: Any) -> Any:
        found.append(masterkey)
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "open_source", look)
    arguments = {
        "preprocess": ["preprocess", str(box), "--output", str(box.with_name("made"))],
        "eval": ["eval", str(run.folder), "--blackbox", str(box)],
    }[command]
    CliRunner().invoke(cli.cli, [*arguments, "--masterkey", "none", "-q"])
    assert found == ["none"]
