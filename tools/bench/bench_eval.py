"""Time and memory of ``hepllm eval`` on a million events, a kill in the middle, and two workers.

    python tools/bench/bench_eval.py million build/demo/data/processed/rnd
    python tools/bench/bench_eval.py workers build/demo/runs/demo

The first uses a stand-in for the language model, two random layers that read soft tokens only. It
goes the whole way: pieces, kept scores, baselines, bootstrap, pictures.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import clock, peak_pss

from hepllm.config import ScoringConfig, load_config
from hepllm.data.dataset import read_dataset
from hepllm.data.work_folder import work_folder
from hepllm.learning.inputs import model_inputs
from hepllm.model.inputs import ModelInputs
from hepllm.runs import kept_scores, pieces, run_baselines
from hepllm.runs.folder import open_run
from hepllm.runs.pieces import TableSource, cut_parts, score_missing
from hepllm.runs.run_model import PieceScorer, RunModel
from hepllm.stages import evaluate as evaluation
from hepllm.stages.preprocess import preprocess
from hepllm.stages.train import train

_GIB = 2**30
_STAND_IN = (
    "train.threads=1",
    "prompt.layout=minimal",
    "train.epochs=0.2",
    "evaluation.bootstrap=200",
)
_TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"
_STAGES = (
    ("load the events", evaluation, "collect_sets"),
    ("baselines: fit and score", run_baselines.RunBaselines, "score"),
    ("score by the model", kept_scores.KeptScores, "by_model"),
    ("metrics and bootstrap", evaluation, "evaluate_scores"),
    ("ablations", evaluation, "add_ablations"),
    ("pictures", evaluation, "_draw"),
    ("calibration", evaluation, "_check_probabilities"),
    ("write the scores", evaluation, "_write_scores"),
)
"""Stages of an evaluation: name, owner and function; times and peaks include those within."""


def _tile(dataset: Path, n_events: int, seed: int, folder: Path) -> Path:
    """Makes a dataset of events drawn with replacement, each changed by one part in 10,000."""
    random = np.random.default_rng(seed)
    source = read_dataset(dataset)
    table = source.load(source.manifest.features)
    chosen = random.integers(len(table), size=n_events)
    file = folder / "tiled.parquet"
    columns = {
        name: table.features[chosen, place] * random.uniform(0.9999, 1.0001, n_events)
        for place, name in enumerate(table.names)
    }
    pq.write_table(pa.table({**columns, "label": table.label[chosen]}), file)
    config = load_config(_TINY, ["preprocess.chunk_size=50000", "preprocess.splits.test=0.25"])
    (made,) = preprocess([file], folder / "tiled", config, overwrite=True)
    file.unlink()
    return made.dataset.folder


def _eval(run: Path, dataset: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "hepllm", "eval", str(run), "--dataset", str(dataset)]
    return [*command, *options]


def _copy(run: Path, name: str) -> Path:
    """A copy of a run that was not evaluated."""
    copy = run.with_name(name)
    shutil.rmtree(copy, ignore_errors=True)
    return Path(shutil.copytree(run, copy, ignore=shutil.ignore_patterns("scores", "eval")))


def _kill_in_the_middle(command: Sequence[str], parts: Path, wanted: int) -> int:
    """Kills a command with its workers when so many parts are done; returns how many were."""
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as process:  # noqa: S603
        while len(list(parts.glob("[0-9]*.arrow"))) < wanted:
            if process.poll() is not None:
                sys.exit(f"{' '.join(command)} ended before it was killed")
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    return len(list(parts.glob("[0-9]*.arrow")))


def _n_scored(command: Sequence[str], parts: Path, done: int) -> tuple[int, int]:
    """Continues a killed command; returns the parts that it left alone, and those that it made."""
    earlier = {file.name: file.stat().st_mtime_ns for file in parts.glob("[0-9]*.arrow")}
    seen = dict(earlier)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603
        while process.poll() is None:
            for file in parts.glob("[0-9]*.arrow"):
                try:
                    seen[file.name] = file.stat().st_mtime_ns
                except FileNotFoundError:  # all are done, and joined
                    break
            time.sleep(0.02)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with exit code {process.returncode}")
    untouched = sum(seen[name] == earlier[name] for name in earlier)
    return untouched, len(seen) - done


@contextmanager
def _peaks() -> Iterator[dict[str, dict[str, float]]]:
    """Times the stages, and takes the peak of the process's memory in each."""
    found: dict[str, dict[str, float]] = {}

    def measured(name: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
            started = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                one = found.setdefault(name, {"seconds": 0.0, "peak_gib": 0.0})
                one["seconds"] += time.perf_counter() - started
                one["peak_gib"] = max(one["peak_gib"], _peak_gib())

        return call

    with ExitStack() as stack:
        for name, owner, function in _STAGES:
            stack.enter_context(
                mock.patch.object(owner, function, measured(name, getattr(owner, function)))
            )
        yield found


def _peak_gib() -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**20
    raise RuntimeError("no VmHWM in /proc/self/status")


@click.group()
def main() -> None:
    """Measures evaluations."""


@main.command()
@click.argument("dataset", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--events", default=1_000_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="For intermediate files.")
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="File of the figures.")
def million(
    dataset: Path, events: int, seed: int, folder: Path | None, as_json: Path | None
) -> None:
    """Evaluates tiled events of a DATASET: undisturbed, killed and resumed, and a second time."""
    with tempfile.TemporaryDirectory() as name:
        found = _million(dataset, events, seed, folder or Path(name))
    for key, value in found.items():
        click.echo(f"{key}: {value}")
    if as_json is not None:
        as_json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _million(dataset: Path, events: int, seed: int, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    tiled = _tile(dataset, events, seed, folder)
    run = folder / "run"
    train(dataset, run, load_config(_TINY, _STAND_IN), overwrite=True)
    found: dict[str, Any] = {"events": read_dataset(tiled).n_events}
    whole, killed = _copy(run, "whole"), _copy(run, "killed")
    peak: list[int] = []
    timed = clock(lambda: peak.append(peak_pss(_eval(whole, tiled, "-q"))))
    found |= {"seconds": timed.seconds, "others": timed.others, "peak_gib": peak[0] / _GIB}
    parts = killed / "scores" / "tiled" / "llm.parquet.partial" / "parts"
    n_parts = len(cut_parts(found["events"], ScoringConfig().piece_size))
    done = _kill_in_the_middle(_eval(killed, tiled, "-q"), parts, n_parts // 2)
    untouched, made = _n_scored(_eval(killed, tiled, "-q"), parts, done)
    first, second = (
        pq.read_table(one / "scores" / "tiled" / "llm.parquet")["score"].to_numpy()
        for one in (whole, killed)
    )
    found |= {
        "parts": n_parts,
        "parts_before_kill": done,
        "parts_left_alone": untouched,
        "parts_after_kill": made,
        "scores_equal": bool(np.array_equal(first, second)),
    }
    again = _eval(whole, tiled, "-q", "--set", "evaluation.min_background=20")
    timed = clock(lambda: peak.append(peak_pss(again)))
    found |= {"seconds_second_eval": timed.seconds, "peak_gib_second_eval": peak[1] / _GIB}
    fresh = _copy(run, "stages")
    made_in = subprocess.run(  # noqa: S603
        [sys.executable, __file__, "stages", str(fresh), str(tiled)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found["stages"] = json.loads(made_in.stdout.splitlines()[-1])
    return found


@main.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("dataset", type=click.Path(exists=True, file_okay=False, path_type=Path))
def stages(run: Path, dataset: Path) -> None:
    """Prints time and peak memory of each stage of one evaluation."""
    with _peaks() as found:
        evaluation.evaluate(run, dataset=dataset)
    click.echo(json.dumps(found))


@main.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--events", default=4000, show_default=True)
@click.option("--rounds", default=2, show_default=True)
@click.option("--dtype", multiple=True, default=("bfloat16", "float32"), show_default=True)
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="File of the figures.")
def workers(
    run: Path, events: int, rounds: int, dtype: Sequence[str], as_json: Path | None
) -> None:
    """Compares one thread, two threads and two processes for the model of a RUN, in turns."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        for precision in dtype:
            copy = Path(shutil.copytree(run, Path(name, precision)))
            text = (copy / "config.yaml").read_text(encoding="utf-8")
            text = text.replace("dtype: auto", f"dtype: {precision}")
            (copy / "config.yaml").write_text(text, encoding="utf-8")
            found += _compare(copy, precision, events, rounds)
    for one in found:
        click.echo(json.dumps(one))
    if as_json is not None:
        as_json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


_WAYS = {
    "one thread": (ScoringConfig(executor="serial", piece_size=250), 1),
    "two threads": (ScoringConfig(executor="serial", piece_size=250), 2),
    "two processes": (ScoringConfig(workers=2, piece_size=250), 1),
}


def _compare(folder: Path, precision: str, events: int, rounds: int) -> list[dict[str, Any]]:
    run = open_run(folder)
    table = run.dataset().load(run.config.train.feature_names())
    inputs = model_inputs(table).take(np.resize(np.arange(len(table)), events))
    scorer = PieceScorer(RunModel(run, run.config.evaluation.batch_size))
    scorer.score(inputs.take(slice(0, 250)))  # loads the model
    found, scores = [], []
    for number in range(rounds):
        for way in _WAYS:
            rate, others, score = _measure(folder, scorer, inputs, way)
            scores.append(score)
            found.append(
                {"dtype": precision, "round": number, "way": way, "rate": rate, "others": others}
            )
    equal = all(np.array_equal(scores[0], one) for one in scores)
    return [{**one, "scores_equal": equal} for one in found]


def _measure(
    folder: Path, scorer: PieceScorer, inputs: ModelInputs, way: str
) -> tuple[float, float, Any]:
    """Events per second from the first finished pieces on, so without the start of workers."""
    settings, threads = _WAYS[way]
    parts, times = cut_parts(len(inputs), settings.piece_size), list[float]()
    whole = pieces._do

    def timed(*arguments: Any) -> Iterator[Any]:
        for one in whole(*arguments):
            times.append(time.perf_counter())
            yield one

    scores: list[Any] = []

    def score() -> None:
        with (
            mock.patch.object(pieces, "_do", timed),
            work_folder(folder / "bench.parquet", {}, overwrite=True) as work,
        ):
            score_missing(TableSource(inputs), parts, scorer, work, settings, threads=threads)
            columns = [work.parts.load(str(part))["score"].to_numpy() for part in parts]
            scores.append(np.concatenate(columns))
            shutil.rmtree(work.parts.folder)

    others = clock(score).others
    first = max(1, settings.workers)
    n_events = sum(map(len, parts[first:]))
    return n_events / (times[-1] - times[first - 1]), others, scores[0]


if __name__ == "__main__":
    main()
