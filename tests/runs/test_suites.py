"""The folder of a suite: what is done, and what a change of settings makes stale."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from hepllm.config.suites import SuiteConfig, suite_from_tree
from hepllm.errors import InputError
from hepllm.evaluation.experiment_records import ExperimentRecord, ExperimentResult, FailureRecord
from hepllm.runs.suites import (
    CONFIG,
    EXPERIMENT,
    FAILURE,
    RESULT,
    experiments_of,
    read_experiment,
    standing_of,
    wanted_records,
    write_suite,
)


def suite(dataset: Path, **changes: object) -> SuiteConfig:
    tree = {
        "name": "any",
        "config": "tiny",
        "datasets": [str(dataset)],
        "experiments": {"by-map": {"map_of": "plain"}, "plain": []},
        "seeds": 2,
    }
    return suite_from_tree({**tree, **changes}, "suite")


@pytest.fixture(scope="module")
def dataset(tiny_data: Path) -> Path:
    return tiny_data / "data" / "rnd"


def write(wanted: SuiteConfig, folder: Path) -> dict[str, str]:
    """Writes the folder, and gives the state of each experiment before that."""
    experiments = experiments_of(wanted, folder)
    records = wanted_records(wanted, experiments, folder)
    states = {
        one.place: standing_of(folder / one.place, records[one.place]).state for one in experiments
    }
    write_suite(wanted, experiments, records, folder)
    return states


def finish(folder: Path, states: Mapping[str, str]) -> None:
    """Pretends that all experiments have ended well."""
    for place in states:
        record = read_experiment(folder / place)
        ExperimentResult(
            name=record.name,
            dataset="rnd",
            seed=record.seed,
            seconds=1,
            made_for=record.digest,
            sets={},
        ).write(folder / place / RESULT)


def test_an_experiment_comes_after_the_one_whose_map_it_goes_by(
    dataset: Path, tmp_path: Path
) -> None:
    found = experiments_of(suite(dataset), tmp_path)
    assert [one.place for one in found] == [
        *("plain/rnd/seed-1", "plain/rnd/seed-2"),
        *("by-map/rnd/seed-1", "by-map/rnd/seed-2"),
    ]
    assert found[3].needs == ("plain/rnd/seed-2",)
    assert found[3].config.train.map == str(tmp_path / "plain/rnd/seed-2/run")
    assert found[1].config.train.dynamics
    assert not found[3].config.train.dynamics


def test_what_is_done_stays_done(dataset: Path, tmp_path: Path) -> None:
    states = write(suite(dataset), tmp_path)
    assert set(states.values()) == {"to run"}
    finish(tmp_path, states)
    file = tmp_path / "plain/rnd/seed-1" / EXPERIMENT
    os.utime(file, (1, 1))
    assert set(write(suite(dataset), tmp_path).values()) == {"done"}
    assert file.stat().st_mtime == 1  # so that the workflow engine does nothing


def test_a_changed_setting_makes_its_experiments_stale_and_those_by_its_map(
    dataset: Path, tmp_path: Path
) -> None:
    finish(tmp_path, write(suite(dataset), tmp_path))
    changed = {"by-map": {"map_of": "plain", "set": ["train.lr=2"]}, "plain": []}
    states = write(suite(dataset, experiments=changed), tmp_path)
    assert {place.partition("/")[0]: state for place, state in states.items()} == {
        "plain": "done",
        "by-map": "to run",
    }
    finish(tmp_path, states)
    changed["plain"] = ["train.lr=3"]
    states = write(suite(dataset, experiments=changed), tmp_path)
    assert set(states.values()) == {"to run"}


def test_a_result_of_other_settings_is_no_result(dataset: Path, tmp_path: Path) -> None:
    states = write(suite(dataset), tmp_path)
    finish(tmp_path, states)
    file = tmp_path / "plain/rnd/seed-1" / RESULT
    result = ExperimentResult.read(file, "")  # as of a process that outlived a change
    result.model_copy(update={"made_for": "other settings"}).write(file)
    assert standing_of(file.parent).state == "to run"
    write(suite(dataset), tmp_path)
    assert not file.exists()
    assert (tmp_path / "plain/rnd/seed-2" / RESULT).exists()


def test_a_kill_between_settings_and_record_leaves_the_experiment_to_run(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(tmp_path, write(suite(dataset), tmp_path))

    def killed(self: ExperimentRecord, file: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ExperimentRecord, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            write(suite(dataset, set=["train.lr=5"]), tmp_path)
    states = write(suite(dataset, set=["train.lr=5"]), tmp_path)
    assert set(states.values()) == {"to run"}


def test_a_new_seed_leaves_the_others_done(dataset: Path, tmp_path: Path) -> None:
    finish(tmp_path, write(suite(dataset), tmp_path))
    states = write(suite(dataset, seeds=3), tmp_path)
    assert [place for place, state in states.items() if state != "done"] == [
        "plain/rnd/seed-3",
        "by-map/rnd/seed-3",
    ]


def test_settings_that_a_later_version_adds_change_nothing(dataset: Path, tmp_path: Path) -> None:
    finish(tmp_path, write(suite(dataset), tmp_path))
    file = tmp_path / "plain/rnd/seed-1" / CONFIG
    tree = yaml.safe_load(file.read_text())
    del tree["train"]["patience"]  # as if written before there was this setting
    file.write_text(yaml.safe_dump(tree))
    record = read_experiment(file.parent).model_copy(update={"settings": "of that version"})
    record.write(file.parent / EXPERIMENT)
    result = ExperimentResult.read(file.parent / RESULT, "")
    result.model_copy(update={"made_for": record.digest}).write(file.parent / RESULT)
    experiments = experiments_of(suite(dataset), tmp_path)
    records = wanted_records(suite(dataset), experiments, tmp_path)
    assert standing_of(file.parent, records["plain/rnd/seed-1"]).state == "done"


def test_a_failure_is_known_until_it_is_done(dataset: Path, tmp_path: Path) -> None:
    states = write(suite(dataset), tmp_path)
    place = tmp_path / "plain/rnd/seed-1"
    FailureRecord(command="hepllm train", exit_code=2, problem="why").write(place / FAILURE)
    assert standing_of(place).state == "failed"
    finish(tmp_path, states)
    assert standing_of(place).state == "done"


def test_a_missing_dataset_is_told(tmp_path: Path) -> None:
    wanted = suite(tmp_path / "none")
    with pytest.raises(InputError, match="none"):
        wanted_records(wanted, experiments_of(wanted, tmp_path), tmp_path)
