"""``hepllm experiments``: plans, runs and analyses the experiments of a suite."""

from __future__ import annotations

import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hepllm.config.suites import SuiteConfig
from hepllm.data.dataset import read_dataset
from hepllm.errors import InputError, RunError
from hepllm.evaluation.experiment_records import State, SuiteRecord
from hepllm.evaluation.suite_summary import summarise
from hepllm.files import locked_after, write_errors, write_text
from hepllm.logs import progress_bar
from hepllm.report.experiments import as_csv, suite_page
from hepllm.report.html import as_html
from hepllm.report.markdown import as_markdown
from hepllm.report.page import Picture
from hepllm.report.records import RunRecord
from hepllm.report.text import as_text
from hepllm.runs import RECORD
from hepllm.runs.folder import training_events
from hepllm.runs.snakemake import LOG, require_snakemake, run_jobs
from hepllm.runs.suites import (
    RUN,
    Experiment,
    Standing,
    experiments_of,
    read_suite,
    standing_of,
    wanted_records,
    write_suite,
)

LOGGER = logging.getLogger(__name__)

TABLES = ("table.csv", "table.md", "table.html", "analysis.json")
"""What an analysis writes beside its pictures."""

_LAST_LINES = 5

_BY_SPEED = (
    "the steps of the model at the speed of %s; the adapter alone and the evaluation come on top"
)

_WAITING = "%s: another run is at work here, perhaps without its command; waiting for it (see %s)"


@dataclass(frozen=True)
class SuitePlan:
    """What would run, and how long it takes.

    Attributes:
        suite: the suite.
        folder: folder of its results.
        experiments: all experiments.
        standings: what is known of each, by place.
        seconds: expected time of each that is to run, by place; None: unknown.
        basis: what the times are taken from, in words.
    """

    suite: SuiteConfig
    folder: Path
    experiments: tuple[Experiment, ...]
    standings: Mapping[str, Standing]
    seconds: Mapping[str, float | None]
    basis: str

    def text(self, jobs: int) -> str:
        """The plan in words, for a number of experiments at once."""
        states = [one.state for one in self.standings.values()]
        lines = [
            f"{self.suite.name}: {len(states)} trainings in {self.folder}: "
            + ", ".join(f"{states.count(one)} {one}" for one in ("done", "failed", "to run"))
        ]
        rows: dict[tuple[str, str], list[Experiment]] = {}
        for one in self.experiments:
            rows.setdefault((one.variant.name, str(one.dataset)), []).append(one)
        width = max(len(name) for name, _ in rows)
        for (name, dataset), found in rows.items():
            lines.append(f"  {name:<{width}}  {dataset}  {self._row(found)}")
        return "\n".join([*lines, self._time(jobs)])

    def tree(self, jobs: int) -> dict[str, object]:
        """The same as a JSON document."""
        return {
            "name": self.suite.name,
            "folder": str(self.folder),
            "experiments": [
                {
                    "place": one.place,
                    "name": one.variant.name,
                    "dataset": str(one.dataset),
                    "seed": one.seed,
                    "settings": list(one.variant.overrides),
                    "needs": list(one.needs),
                    "state": self.standings[one.place].state,
                    "seconds": self.seconds.get(one.place),
                }
                for one in self.experiments
            ],
            "seconds": self.total(jobs),
            "basis": self.basis,
        }

    def total(self, jobs: int) -> float | None:
        """Expected time of all that is to run, with so many at once; None: unknown."""
        known = [one for one in self.seconds.values() if one is not None]
        if len(known) < len(self.seconds):
            return None
        return max(sum(known) / jobs, max(known, default=0.0))

    def _row(self, found: Sequence[Experiment]) -> str:
        by_state: dict[str, list[str]] = {}
        for one in found:
            by_state.setdefault(self.standings[one.place].state, []).append(str(one.seed))
        words = [f"seed {' '.join(seeds)} {state}" for state, seeds in by_state.items()]
        times = {self.seconds[one.place] for one in found if one.place in self.seconds}
        if times:
            known = [one for one in times if one is not None]
            each = f"{shown_time(max(known))} each" if known else "time unknown"
            words.append(each)
        return "; ".join(words)

    def _time(self, jobs: int) -> str:
        if not self.seconds:
            return "nothing is to run"
        total = self.total(jobs)
        if total is None:
            return f"time: unknown ({self.basis})"
        return f"time: about {shown_time(total)} with {jobs} at once ({self.basis})"


@dataclass(frozen=True)
class SuiteReport:
    """What the experiments of a suite say, and the files that were written."""

    name: str
    record: SuiteRecord
    text: str
    files: tuple[Path, ...]


def plan(suite: SuiteConfig, folder: Path, like: Path | None = None) -> SuitePlan:
    """Tells what would run, and how long it takes; writes nothing.

    Args:
        suite: the suite.
        folder: folder of its results.
        like: a run whose speed tells the times where no training of the suite has begun.

    Raises:
        InputError: if a dataset is missing, or the speed of ``like`` is not known.
    """
    experiments = experiments_of(suite, folder)
    records = wanted_records(suite, experiments, folder)
    standings = {
        one.place: standing_of(folder / one.place, records[one.place]) for one in experiments
    }
    seconds, basis = _expected(experiments, standings, folder, like)
    return SuitePlan(suite, folder, experiments, standings, seconds, basis)


def run(
    suite: SuiteConfig, folder: Path, *, jobs: int = 1, options: Sequence[str] = ()
) -> SuiteReport:
    """Does the experiments of a suite that are not done, and analyses all.

    The failure of one does not end the others; those that failed are tried again by another call.

    Args:
        suite: the suite.
        folder: folder of its results.
        jobs: experiments at once.
        options: further options of Snakemake.

    Raises:
        InputError: if a dataset or Snakemake is missing.
        RunError: if the workflow could not run, so that there is nothing to report.
    """
    require_snakemake()
    experiments = experiments_of(suite, folder)
    wanted_records(suite, experiments, folder)  # what is missing is told before a folder is made
    with write_errors(folder, "choose another --output"):
        folder.mkdir(parents=True, exist_ok=True)
        with locked_after(folder, lambda: LOGGER.warning(_WAITING, folder, folder / LOG)) as lock:
            write_suite(suite, experiments, wanted_records(suite, experiments, folder), folder)
            code = _run_locked(experiments, folder, jobs, options, lock)
    report = analyze(folder)
    states = [state for by_place in report.record.states.values() for state in by_place.values()]
    if code and "failed" not in states:
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        raise RunError(
            f"{folder}: Snakemake ended with exit code {code}: "
            f"{' '.join(line.strip() for line in lines[-_LAST_LINES:])}; see {folder / LOG}"
        )
    return report


def failure_of(report: SuiteReport, folder: Path) -> RunError | None:
    """What did not succeed, as an error; None where all did."""
    places = list(report.record.problems)
    states = [state for by_place in report.record.states.values() for state in by_place.values()]
    if not places:
        return None
    left = states.count("to run")
    waiting = f", and {left} did not run" if left else ""
    first = places[0]
    return RunError(
        f"{len(places)} of {len(states)} experiments failed{waiting}: {', '.join(places[:3])}"
        f"{', ...' if len(places) > 3 else ''} ({report.record.problems[first]}); see log.txt in "
        f"{folder / first}; run the suite again to try them again"
    )


def analyze(folder: Path) -> SuiteReport:
    """Writes tables and pictures of what is done in the folder of a suite.

    Raises:
        InputError: if nothing was run there, or a file is damaged.
        RunError: if the files cannot be written.
    """
    suite = read_suite(folder)
    experiments = experiments_of(suite, folder)
    standings = {one.place: standing_of(folder / one.place) for one in experiments}
    record = summarise(
        suite,
        _states(experiments, standings),
        [one.result for one in standings.values() if one.result is not None],
        {place: one.failure.problem for place, one in standings.items() if one.failure is not None},
    )
    with write_errors(folder):
        pictures = _draw(record, folder)
        page = suite_page(record, pictures)
        contents = (as_csv(record), as_markdown(page) + "\n", as_html(page), record.text())
        for name, text in zip(TABLES, contents, strict=True):
            write_text(folder / name, text)
    files = (*(folder / name for name in TABLES), *sorted(folder.glob("*.png")))
    return SuiteReport(record.name, record, as_text(page), files)


def shown_time(seconds: float) -> str:
    """A time in two digits and a fitting unit."""
    for unit, size in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s"


def _run_locked(
    experiments: Sequence[Experiment], folder: Path, jobs: int, options: Sequence[str], lock: int
) -> int:
    """Runs what is to run, and shows how many are done."""

    def done() -> int:
        return sum(standing_of(folder / one.place).state != "to run" for one in experiments)

    with progress_bar(len(experiments), "experiments", "trainings", initial=done()) as bar:
        bar.miniters, bar.dynamic_miniters = 0, False  # a line also where none has ended
        bar.smoothing = 0  # the rate since the start: the others are those since the last line

        def on_progress() -> None:
            bar.update(done() - bar.n)

        return run_jobs(folder, jobs, options, lock, on_progress)


def _states(
    experiments: Sequence[Experiment], standings: Mapping[str, Standing]
) -> dict[str, dict[str, State]]:
    found: dict[str, dict[str, State]] = {}
    for one in experiments:
        place = one.place.removeprefix(f"{one.variant.name}/")
        found.setdefault(one.variant.name, {})[place] = standings[one.place].state
    return found


def _draw(record: SuiteRecord, folder: Path) -> dict[int, list[Picture]]:
    """Draws each set, into the page and as files."""
    from hepllm.pictures.experiments import experiments_figure, power_figure
    from hepllm.pictures.style import save_figure
    from hepllm.report.data_uris import drawn

    found: dict[int, list[Picture]] = {}
    for old in folder.glob("*.png"):
        old.unlink()
    for place, one in enumerate(record.sets):
        name = f"{one.dataset}-{one.sample}"
        figures = {
            f"experiments-{name}.png": (experiments_figure(record, one), "Seeds and means"),
            f"power-{name}.png": (power_figure(record, one), "Power over the number of seeds"),
        }
        for file, (figure, caption) in figures.items():
            if file.startswith("power") and not one.power:
                continue
            save_figure(figure, folder / file)
            found.setdefault(place, []).append(drawn(figure, f"{caption} on {name}", caption))
    return found


def _expected(
    experiments: Sequence[Experiment],
    standings: Mapping[str, Standing],
    folder: Path,
    like: Path | None,
) -> tuple[dict[str, float | None], str]:
    """Expected seconds of what is to run, by place, and what they are taken from.

    Those of an experiment's own seeds on the same dataset, or else those of all that are done;
    where none is done, the speed of a training that has begun, or else that of the run ``like``.
    """
    todo = [one for one in experiments if standings[one.place].state != "done"]
    results = {one.place: standings[one.place].result for one in experiments}
    finished = [found for found in results.values() if found is not None]
    measured = [found for found in finished if not found.resumed] or finished
    if measured:
        own: dict[tuple[str, str], list[float]] = {}
        for found in measured:
            own.setdefault((found.name, found.dataset), []).append(found.seconds)
        of_all = statistics.median(found.seconds for found in measured)
        expected: dict[str, float | None] = {}
        for one in todo:
            times = own.get((one.variant.name, one.dataset.resolve().name))
            expected[one.place] = statistics.median(times) if times else of_all
        return expected, f"from {len(measured)} that are done"
    for one in todo:
        run_folder = folder / one.place / RUN
        speed = _speed_of(run_folder)
        if speed is not None:
            n_train = sum(RunRecord.read(run_folder / RECORD, "remove it").n_train.values())
            seconds = n_train * one.config.train.epochs / speed
            return {other.place: seconds for other in todo}, _BY_SPEED % one.place
    if like is None:
        hint = "none is done yet; --like RUN takes the speed of a run with such a model"
        return dict.fromkeys((one.place for one in todo), None), hint
    return _at_speed(todo, like), _BY_SPEED % like


def _speed_of(run_folder: Path) -> float | None:
    """Measured speed of a training in events per second; None where there is none."""
    history = run_folder / "history.jsonl"
    if not history.is_file() or not (run_folder / RECORD).is_file():
        return None
    lines = history.read_text(encoding="utf-8").splitlines(keepends=True)
    entries = [json.loads(line) for line in lines if line.endswith("\n")]
    speeds = [one["train/events_per_second"] for one in entries if "train/events_per_second" in one]
    return float(statistics.median(speeds)) if speeds else None


def _at_speed(experiments: Sequence[Experiment], like: Path) -> dict[str, float | None]:
    """Expected seconds of trainings at the speed of a run, by place, by their training events."""
    speed = _speed_of(like)
    if speed is None:
        raise InputError(
            f"{like}: is no run whose speed is known; name the folder of a training that has begun"
        )
    counts: dict[tuple[Path, str], int] = {}
    found: dict[str, float | None] = {}
    for one in experiments:
        train = one.config.train
        key = (one.dataset, train.balance)
        if key not in counts:
            counts[key] = len(training_events(read_dataset(one.dataset), train, one.seed, ()))
        found[one.place] = counts[key] * train.epochs / speed
    return found


def folder_of(source: str, output: Path | None, name: str) -> Path:
    """The folder of a suite: the one that was named, or given as the suite, or the default.

    Raises:
        InputError: if both were given, and differ.
    """
    if Path(source).is_dir():
        if output is not None and output.resolve() != Path(source).resolve():
            raise InputError(f"{source}: is a folder of results; leave --output out")
        return Path(source)
    return output or Path("experiments") / name
