"""One experiment of a suite: trains, maps and evaluates by the commands that users type."""

from __future__ import annotations

import logging
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hepllm.config import changed_settings, load_config
from hepllm.errors import RunError, StoppedError
from hepllm.evaluation.experiment_records import (
    ExperimentRecord,
    ExperimentResult,
    FailureRecord,
    MeasuredSet,
    StepRecord,
    StepsRecord,
)
from hepllm.files import locked_after, write_text
from hepllm.report.records import LabelledMetrics, SetMetrics
from hepllm.runs import can_go_on, has_ended
from hepllm.runs.suites import (
    CONFIG,
    FAILURE,
    LOG,
    RESULT,
    RUN,
    read_experiment,
    standing_of,
)

LOGGER = logging.getLogger(__name__)

_STEPS, _TRAINED = "steps.json", "trained.yaml"
"""Steps that are done, and the settings of the training."""

_METRICS = "metrics.json"
"""What 'hepllm eval' writes for a set; the module that does would load torch."""

_AFTER_TRAINING = ("evaluation.", "name", "cartography.", "clusters.", "flags.", "label.")
"""Settings, or their beginnings, that no training reads."""

_PATIENCE = 120.0
"""Seconds that a command may take to save its state when the experiment is stopped."""


def do_experiment(place: Path) -> ExperimentResult:
    """Does what is missing of an experiment, and writes its result, or why it failed.

    Another process that does it, as one whose parent was killed, is waited for.

    Args:
        place: folder of the experiment.

    Raises:
        InputError: if it is none.
        RunError: if a step failed.
        StoppedError: if a step was stopped by a signal; the next call goes on.
    """
    record = read_experiment(place)
    with locked_after(
        place, lambda: LOGGER.warning("%s: another process is at work here; waiting", place)
    ) as lock:
        standing = standing_of(place)
        if standing.result is not None:
            return standing.result
        (place / FAILURE).unlink(missing_ok=True)
        work = _begin(place, record, lock)
        _train(work)
        if record.makes_map:
            work.step("map", ["map", _run(place), "--config", str(place / CONFIG)])
        for words in record.evaluations:
            command = ["eval", _run(place), "--config", str(place / CONFIG), *words]
            work.step(shlex.join(["eval", *words]), command)
        result = _collect(work)
        result.write(place / RESULT)
        return result


@dataclass
class _Work:
    """The steps of an experiment; ``was_stopped`` tells that some were begun before."""

    place: Path
    steps: StepsRecord
    lock: int
    was_stopped: bool

    def step(
        self, name: str, words: Sequence[str], is_done: Callable[[], bool] = lambda: True
    ) -> None:
        """Does a step that is not done."""
        if name in self.steps.steps and is_done():
            return
        started = time.perf_counter()
        _call(self.place, words, self.lock)
        done = StepRecord(seconds=time.perf_counter() - started, resumed=self.was_stopped)
        self.steps = self.steps.model_copy(update={"steps": {**self.steps.steps, name: done}})
        self.steps.write(self.place / _STEPS)


def _begin(place: Path, record: ExperimentRecord, lock: int) -> _Work:
    """Keeps the steps that were done for this experiment, and removes what others have left."""
    earlier = None
    if (place / _STEPS).is_file():
        earlier = StepsRecord.read(place / _STEPS, f"remove {place}")
    if earlier is not None and earlier.experiment == record:
        return _Work(place, earlier, lock, was_stopped=True)
    kept: dict[str, StepRecord] = {}
    if earlier is not None and _trains_the_same(place, earlier.experiment, record):
        kept = {name: one for name, one in earlier.steps.items() if name == "train"}
        shutil.rmtree(place / RUN / "eval", ignore_errors=True)
    else:
        # In this order, so that a kill in between leaves nothing that looks like done.
        (place / _STEPS).unlink(missing_ok=True)
        shutil.rmtree(place / RUN, ignore_errors=True)
        (place / LOG).unlink(missing_ok=True)
    write_text(place / _TRAINED, (place / CONFIG).read_text(encoding="utf-8"))
    steps = StepsRecord(experiment=record, steps=kept)
    steps.write(place / _STEPS)
    return _Work(place, steps, lock, was_stopped=False)


def _trains_the_same(place: Path, earlier: ExperimentRecord, now: ExperimentRecord) -> bool:
    if (earlier.dataset_digest, earlier.map_of) != (now.dataset_digest, now.map_of):
        return False
    before, after = (load_config(place / name) for name in (_TRAINED, CONFIG))
    return all(path.startswith(_AFTER_TRAINING) for path in changed_settings(before, after))


def _train(work: _Work) -> None:
    """Trains, or goes on, unless the training has ended."""
    run = work.place / RUN

    words = ["train", "--output", str(run)]
    if can_go_on(run):
        words.append("--resume")
    else:
        words += [str(work.steps.experiment.dataset), "--config", str(work.place / CONFIG)]
        words += ["--overwrite"] * run.exists()
    work.step("train", words, partial(has_ended, run))


def _call(place: Path, words: Sequence[str], lock: int) -> None:
    """Runs a command of this package, whose words go to the log.

    Raises:
        RunError: if it fails; the reason is kept.
        StoppedError: if it was stopped.
    """
    shown = shlex.join(["hepllm", *words])
    with (place / LOG).open("a", encoding="utf-8") as log:
        log.write(f"$ {shown}\n")
        log.flush()
        begin = log.tell()
        command = [sys.executable, "-m", "hepllm", *words]
        process = subprocess.Popen(  # noqa: S603 (our own command)
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, pass_fds=[lock]
        )
        try:
            code = process.wait()
        except BaseException:
            process.terminate()  # it saves its state
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    if code > 128:
        number = code - 128
        raise StoppedError(f"{place}: stopped; the next call goes on", number)
    if code:
        problem = _last_message((place / LOG).read_bytes()[begin:].decode(errors="replace"), code)
        FailureRecord(command=shown, exit_code=code, problem=problem).write(place / FAILURE)
        raise RunError(f"{place}: '{shown}' failed: {problem}; see {place / LOG}")


def _last_message(text: str, code: int) -> str:
    """The last error that a command told, or else its last line, in one line."""
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (the system may have been out of memory)" if name == "SIGKILL" else ""
        return f"killed by {name}{hint}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    return (errors or lines or [f"exit code {code}"])[-1].removeprefix("error: ")


def _collect(work: _Work) -> ExperimentResult:
    record = work.steps.experiment
    sets, without = dict[str, MeasuredSet](), list[str]()
    for file in sorted((work.place / RUN / "eval").glob(f"*/{_METRICS}")):
        found = SetMetrics.read(file, "evaluate again")
        if isinstance(found, LabelledMetrics):
            sets[file.parent.name] = MeasuredSet.of(found)
        else:
            without.append(file.parent.name)
    steps = work.steps.steps.values()
    return ExperimentResult(
        name=record.name,
        dataset=record.dataset.name,
        seed=record.seed,
        seconds=sum(one.seconds for one in steps),
        resumed=any(one.resumed for one in steps),
        made_for=record.digest,
        sets=sets,
        without_labels=tuple(without),
    )


def _run(place: Path) -> str:
    return str(place / RUN)
