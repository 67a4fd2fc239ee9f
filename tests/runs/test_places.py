"""The link to the latest run, the folder of TensorBoard, and datasets that were moved."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hepllm.config import Config, override_config
from hepllm.errors import InputError, StoppedError
from hepllm.learning.loop import _Loop
from hepllm.runs import LATEST
from hepllm.runs.folder import open_run
from hepllm.runs.places import link_latest, log_folder, refuse_reserved
from hepllm.stages.train import resume, train


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_data: Path) -> Path:
    """An empty folder with a dataset, where the command line works."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_data / "data" / "rnd", "data/processed/rnd")
    return tmp_path


@pytest.fixture
def config(tiny_config: Callable[..., Config]) -> Config:
    return tiny_config("train.epochs=2")


def event_files(folder: Path) -> list[Path]:
    """What TensorBoard finds, which follows links."""
    found = [file for file in folder.iterdir() if "tfevents" in file.name]
    return found + [
        file for inner in folder.iterdir() if inner.is_dir() for file in event_files(inner)
    ]


@pytest.mark.slow  # four trainings
def test_latest_is_the_run_that_was_trained_last(project: Path, config: Config) -> None:
    for name in ("first", "second"):
        train(Path("data/processed/rnd"), Path("runs") / name, config, overwrite=False)
        assert LATEST.readlink() == Path(name)
        assert len(event_files(Path("runs"))) == len(list(Path("runs/tensorboard").iterdir()))
    resume(Path("runs/first"), [])
    assert LATEST.readlink() == Path("first")
    resume(LATEST, ["train.epochs=3"])  # by the link itself
    assert LATEST.readlink() == Path("first")
    assert open_run(LATEST).config.train.epochs == 3
    one = override_config(config, ["seed=2"])
    train(Path("data/processed/rnd"), LATEST, one, overwrite=True)
    assert LATEST.readlink() == Path("first")
    assert open_run(Path("runs/first")).config.seed == 2
    assert len(event_files(Path("runs/tensorboard/first"))) == 1


@pytest.mark.slow
def test_a_first_run_that_is_stopped_is_resumed_by_default(
    project: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_step = _Loop._after_step

    def stop(loop: _Loop, progress: object) -> object:
        loop.stop.signal_number = 2
        return after_step(loop, progress)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(_Loop, "_after_step", stop)
        with pytest.raises(StoppedError, match="continue with: hepllm train --resume"):
            train(Path("data/processed/rnd"), Path("runs/tiny"), config, overwrite=False)
    assert LATEST.readlink() == Path("tiny")
    assert resume(LATEST, []).result.steps > 1


def test_runs_elsewhere_have_their_logs_and_no_link(project: Path) -> None:
    assert log_folder(Path("other/run")) == Path("other/run/tensorboard")
    assert log_folder(Path("runs/run")) == Path("runs/tensorboard/run")
    Path("runs/former/tensorboard").mkdir(parents=True)  # of a former version
    assert log_folder(Path("runs/former")) == Path("runs/former/tensorboard")
    link_latest(project / "other" / "run")
    assert not LATEST.is_symlink()


@pytest.mark.parametrize("name", ["latest", "tensorboard"])
def test_names_that_are_in_use_are_refused(project: Path, name: str) -> None:
    with pytest.raises(InputError, match="choose another --output"):
        refuse_reserved(Path("runs") / name)
    refuse_reserved(Path("other") / name)


def test_a_run_and_its_dataset_are_moved_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_run: Path, tiny_data: Path
) -> None:
    before, after = tmp_path / "before", tmp_path / "after" / "project"
    shutil.copytree(tiny_data / "data" / "rnd", before / "data" / "processed" / "rnd")
    shutil.copytree(tiny_run, before / "runs" / "tiny")
    record = before / "runs" / "tiny" / "run.json"
    old = open_run(tiny_run).record
    moved = old.model_copy(update={"dataset": before / "data" / "processed" / "rnd"})
    moved.write(record)
    assert open_run(record.parent).record.dataset == before / "data" / "processed" / "rnd"
    after.parent.mkdir()
    before.rename(after)
    run = open_run(after / "runs" / "tiny")
    assert run.dataset().folder == after / "data" / "processed" / "rnd"
    # Another dataset of the same name is not taken for it.
    shutil.rmtree(after / "data" / "processed" / "rnd")
    shutil.copytree(tiny_data / "data" / "bb", after / "data" / "processed" / "rnd")
    with pytest.raises(InputError, match="no such dataset"):
        open_run(after / "runs" / "tiny").dataset()
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_data / "data" / "rnd", tmp_path / "processed" / "rnd")
    assert open_run(after / "runs" / "tiny").dataset().folder == tmp_path / "processed" / "rnd"
