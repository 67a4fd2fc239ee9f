"""Suites on Snakemake: what runs, what a failure and kill -9 leave, and the same table after it."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from hepllm.config.presets import suite_files
from hepllm.config.suites import SuiteConfig, load_suite, suite_from_tree
from hepllm.errors import InputError, RunError
from hepllm.runs import snakemake, suites
from hepllm.runs.suites import experiments_of
from hepllm.stages.experiments import TABLES, analyze, failure_of, folder_of, plan, run, shown_time

needs_snakemake = pytest.mark.skipif(
    importlib.util.find_spec("snakemake") is None, reason="snakemake is not installed"
)

_JOB = """#!{python}
# In place of an experiment: fails if its name says so, otherwise has a result by its seed.
import json, sys
from pathlib import Path
from types import SimpleNamespace
place = Path(sys.argv[-1])
asked = json.loads((place / "experiment.json").read_text())
if asked["name"] == "broken":
    failure = {{"schema_version": 1, "command": "hepllm train", "exit_code": 2, "problem": "why"}}
    (place / "failure.json").write_text(json.dumps(failure))
    sys.exit(1)
with open(place / "calls", "a") as calls:
    calls.write("called\\n")
sys.path.insert(0, {root!r})
from hepllm.runs.suites import read_experiment
from hepllm.evaluation.experiment_records import ExperimentResult, MeasuredSet
metrics = {{"auc": 0.9 + asked["seed"] / 100}}
found = MeasuredSet(n_signal=3, n_background=4, metrics=metrics, undefined={{}})
record = read_experiment(place)
ExperimentResult(name=record.name, dataset="rnd", seed=record.seed, seconds=60.0,
                 made_for=record.digest, sets={{"test": found}}).write(place / "result.json")
"""


@pytest.fixture(scope="module")
def dataset(tiny_data: Path) -> Path:
    return tiny_data / "data" / "rnd"


def small(dataset: Path, **changes: object) -> SuiteConfig:
    tree = {
        "name": "small",
        "config": "tiny",
        "datasets": [str(dataset)],
        "experiments": {"plain": [], "wide": ["fusion.hidden_size=48"]},
        "seeds": 2,
        "metrics": ["auc"],
    }
    return suite_from_tree({**tree, **changes}, "suite")


@pytest.fixture
def jobs_are_stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snakemake runs for real, and its jobs a script that takes no time."""
    script = tmp_path / "job"
    root = str(Path(__file__).parents[2])
    script.write_text(_JOB.format(python=sys.executable, root=root))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(suites, "sys", SimpleNamespace(executable=str(script)))


def calls(folder: Path) -> int:
    return sum(len(file.read_text().splitlines()) for file in folder.glob("*/*/*/calls"))


@needs_snakemake
@pytest.mark.usefixtures("jobs_are_stubs")
@pytest.mark.slow
def test_the_workflow_does_what_is_missing_and_nothing_twice(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    wanted = {
        "plain": [],
        "by-map": {"map_of": "plain"},
        "broken": [],
        "after": {"map_of": "broken"},
    }
    suite = small(dataset, experiments=wanted)
    report = run(suite, folder, jobs=2)
    log = (folder / snakemake.LOG).read_text()
    assert "warning" not in log.lower()
    failure = failure_of(report, folder)
    assert isinstance(failure, RunError)
    assert str(failure).startswith("2 of 8 experiments failed, and 2 did not run: broken/")
    assert {name: set(of.values()) for name, of in report.record.states.items()} == {
        "plain": {"done"},
        "by-map": {"done"},
        "broken": {"failed"},
        "after": {"to run"},
    }
    assert calls(folder) == 4
    again = run(suite, folder)  # what is done stays, what failed is tried again
    assert calls(folder) == 4
    assert again.record == report.record
    expected = plan(suite, folder)
    assert expected.total(1) == 4 * 60
    assert expected.total(2) == 2 * 60
    assert "about 4 min with 1 at once (from 4 that are done)" in expected.text(1)
    changed = run(small(dataset, experiments=wanted, seeds=3), folder)
    assert calls(folder) == 6
    assert list(changed.record.states["plain"]) == [f"rnd/seed-{one}" for one in (1, 2, 3)]


@needs_snakemake
@pytest.mark.usefixtures("jobs_are_stubs")
def test_options_of_snakemake_are_passed_on_and_its_refusal_is_told(
    dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"Snakemake ended with exit code \d+: .*nonesuch"):
        run(small(dataset), tmp_path / "results", options=["--executor", "nonesuch"])


def test_without_snakemake_the_command_to_install_it_is_told(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snakemake.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"run: pip install 'hepllm\[experiments\]'$") as caught:
        run(small(dataset), tmp_path / "results")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "results").exists()


def test_a_plan_says_what_it_does_not_know(dataset: Path, tmp_path: Path) -> None:
    found = plan(small(dataset), tmp_path)
    assert found.total(1) is None
    assert "time: unknown (none is done yet; --like RUN takes the speed of a run" in found.text(1)
    assert {one["state"] for one in found.tree(1)["experiments"]} == {"to run"}


def test_a_plan_goes_by_the_speed_of_a_training_that_has_begun(
    dataset: Path, tmp_path: Path, tiny_run: Path
) -> None:
    place = tmp_path / "plain" / "rnd" / "seed-1"
    place.mkdir(parents=True)
    (place / "run").symlink_to(tiny_run)
    lines = (tiny_run / "history.jsonl").read_text().splitlines()
    speeds = [json.loads(line).get("train/events_per_second") for line in lines]
    n_train = sum(json.loads((tiny_run / "run.json").read_text())["n_train"].values())
    found = plan(small(dataset), tmp_path)
    known = sorted(one for one in speeds if one is not None)
    middle = (known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2
    assert found.total(1) == pytest.approx(4 * n_train * 4.0 / middle)
    assert "at the speed of plain/rnd/seed-1; the adapter alone and" in found.text(1)


def test_a_plan_goes_by_the_speed_of_a_run_that_is_named(
    dataset: Path, tmp_path: Path, tiny_run: Path
) -> None:
    run_folder = tmp_path / "results" / "plain" / "rnd" / "seed-1" / "run"
    run_folder.parent.mkdir(parents=True)
    run_folder.symlink_to(tiny_run)
    begun = plan(small(dataset), tmp_path / "results").total(1)
    named = plan(small(dataset), tmp_path / "elsewhere", tiny_run)
    assert named.total(1) == pytest.approx(begun)  # the same events in the same balance
    assert f"at the speed of {tiny_run}; the adapter alone and" in named.text(1)
    with pytest.raises(InputError, match="is no run whose speed is known"):
        plan(small(dataset), tmp_path / "elsewhere", tmp_path)


def test_an_analysis_of_nothing_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing was run here; begin with: hepllm experiments"):
        analyze(tmp_path)


def test_the_folder_of_results_stands_for_its_suite(tmp_path: Path) -> None:
    assert folder_of(str(tmp_path), None, "name") == tmp_path
    assert folder_of("losses", None, "losses") == Path("experiments/losses")
    with pytest.raises(InputError, match="leave --output out"):
        folder_of(str(tmp_path), tmp_path / "other", "name")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(7, "7 s"), (89, "89 s"), (100, "1.7 min"), (3 * 3600, "3 h"), (5 * 86400, "5 days")],
)
def test_times_are_shown_in_a_unit_that_fits(seconds: float, text: str) -> None:
    assert shown_time(seconds) == text


QUICK = (
    *("train.threads=1", "train.epochs=8", "train.checkpoint_every=4", "evaluation.bootstrap=20"),
    *("evaluation.baselines=[]", "evaluation.ablations=false", "evaluation.views=[]"),
    "evaluation.scoring.executor=serial",
)


def start(words: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """Starts a command as the first process of a session, so that all of it can be killed."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-m", "hepllm", "experiments", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def members(leaders: Collection[int]) -> list[int]:
    """All processes of the sessions of these leaders, those first that started first."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            if int(file.read_text().rpartition(")")[2].split()[3]) in leaders:
                found.append(int(file.parent.name))
    return sorted(found)


def trains(place: Path) -> bool:
    """Whether an experiment is in the middle of its training, after a checkpoint."""
    run = place / "run"
    return any(run.glob("checkpoints/step-*")) and not (run / "validation.parquet").exists()


def evaluates(place: Path) -> bool:
    """Whether an experiment is trained, and evaluated now."""
    return (place / "run" / "validation.parquet").exists() and not (place / "result.json").exists()


@needs_snakemake
@pytest.mark.slow
def test_a_suite_that_is_killed_three_times_ends_with_the_same_table(
    dataset: Path, tmp_path: Path
) -> None:
    suite = small(dataset, set=list(QUICK), metrics=["auc", "accuracy"])
    (tmp_path / "small.yaml").write_text(json.dumps(suite.model_dump(mode="json")))
    assert start(["run", "small.yaml", "--output", "whole"], tmp_path).wait(1800) == 0

    killed, leaders = tmp_path / "killed", list[int]()
    for number, is_due in enumerate((trains, evaluates, trains)):
        process = start(["run", "small.yaml", "--output", "killed"], tmp_path)
        end = time.monotonic() + 1800
        while not any(map(is_due, killed.glob("*/*/*"))):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
        leaders.append(process.pid)
        # The second time, the command alone: what it has started goes on, and is waited for.
        for one in [process.pid] if number == 1 else members(leaders):
            os.kill(one, signal.SIGKILL)
        process.wait()
        assert len(list(killed.glob("*/*/*/result.json"))) < 4
    assert start(["run", "small.yaml", "--output", "killed"], tmp_path).wait(1800) == 0
    for name in TABLES:
        assert (tmp_path / "whole" / name).read_bytes() == (killed / name).read_bytes()
    assert len(list(killed.glob("*/*/*/result.json"))) == 4
    assert any("--resume" in file.read_text() for file in killed.glob("*/*/*/log.txt"))
    for file in ("*/*/*/failure.json", "*/*/*/*.partial"):
        assert not list(killed.glob(file))


@pytest.mark.slow
@pytest.mark.usefixtures("quick_trainings", "undrawn_figures")
@pytest.mark.parametrize("name", sorted(suite_files()))
def test_each_experiment_of_a_shipped_suite_can_be_trained(
    name: str, dataset: Path, tmp_path: Path
) -> None:
    from hepllm.stages.map import map_run
    from hepllm.stages.train import train

    changes = ("train.epochs=1", "train.threads=1", "train.nfa_alone.epochs=2")
    suite = load_suite(name, config="tiny", seeds=1, datasets=[str(dataset)])
    # Below those of the experiments, which must be able to change them.
    suite = suite.model_copy(update={"set": (*changes, *suite.set)})
    for one in experiments_of(suite, tmp_path):
        done = train(dataset, tmp_path / one.place / "run", one.config, overwrite=False)
        assert done.result.steps > 0
        if one.variant.makes_map:
            map_run(tmp_path / one.place / "run", one.config.cartography)
