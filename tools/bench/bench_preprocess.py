"""Measures ``hepllm preprocess``: speed against bare fastjet and a usual script, workers, memory.

python tools/bench/bench_preprocess.py --json bench.json    # the table of docs/results/speed.md

Each ratio compares runs that alternate on the same events in this one process, so that other load
on the machine hits both; medians are printed, and all single times stand in the JSON. Targets:
one worker at least 75 % of the bare rate and 3 times the usual script, extended N-subjettiness at
most 1.5 times the usual features, two workers at least 1.85 times one, memory below 1.2 GiB and the
same within 10 % for few and many events.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import fastjet
import numpy as np
import usual_script
from bare_fastjet import BATCH, run_bare, seconds_in_processes, to_awkward
from measuring import Timed, clock, peak_pss, timed_stages, wait_until_idle
from numpy.typing import NDArray

from hepllm.config import load_config
from hepllm.data.event_table import EventTable
from hepllm.executor import usable_cores
from hepllm.logs import configure_logging
from hepllm.physics.events import EventBatch, Particles
from hepllm.physics.lhco_writer import to_padded, write_lhco
from hepllm.physics.readers import open_event_file
from hepllm.schema import EXTENDED_BETAS, EXTENDED_MAX_N, FEATURES, dataset_features
from hepllm.stages.preprocess import preprocess
from hepllm.stages.simulate import RND_FILE, simulate

REAL_FILE = Path("lhco") / "events_anomalydetection_tiny.h5"
N_SIMULATED = 1000
ROTATION = 1e-3
"""Radians by which each copy of the events is turned about the beam; makes other digests."""

TARGETS = {
    "bare": 0.75,
    "extended": 1.5,
    "workers": 1.85,
    "usual": 3.0,
    "pss_gib": 1.2,
    "pss_growth": 1.1,
}

STAGES: tuple[tuple[str, str, str, str], ...] = (
    ("input digest", "hepllm.physics.sources", "", "file_digest"),
    ("read", "hepllm.physics.readers.lhco", "LhcoFile", "read"),
    ("cluster", "hepllm.physics.chunks", "", "cluster"),
    ("substructure", "hepllm.physics.features", "", "n_subjettiness"),
    ("features", "hepllm.physics.chunks", "", "features_of_jets"),
    ("event digest", "hepllm.physics.events", "Particles", "digests"),
    ("checks", "hepllm.physics.chunks", "", "describe_defects"),
    ("write", "hepllm.stages.preprocess", "", "make_table"),
    ("write", "hepllm.data.work_folder", "Parts", "save"),
    ("write", "hepllm.stages.preprocess", "", "_assemble"),
)
"""What is timed: stage, module, class if it is a method, function."""


@dataclass
class Report:
    """Everything that was measured, as it goes into the JSON."""

    sample: str
    machine: dict[str, Any]
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    shortfalls: list[str] = field(default_factory=list)

    def add(self, part: str, series: dict[str, list[Timed]], **numbers: Any) -> None:
        """Keeps the single times of a part and what was made of them."""
        times = {name: [asdict(timed) for timed in values] for name, values in series.items()}
        self.results[part] = {**numbers, "times": times}
        others = max(timed.others for values in series.values() for timed in values)
        if others > 0.15:
            click.echo(f"                (others took up to {others:.1f} cores: repeat when idle)")

    def require(self, value: float, target: float, what: str, *, at_most: bool = False) -> str:
        """Notes whether a target is met; returns how to print it."""
        met = value <= target if at_most else value >= target
        sign = "at most" if at_most else "at least"
        if not met:
            self.shortfalls.append(f"{what}: {value:.3f}, must be {sign} {target:g}")
        return f"{sign} {target:g}: {'yes' if met else 'NO'}"


@dataclass(frozen=True)
class Tiler:
    """Makes files of any size from a few events; copy k is turned by k * ``ROTATION``."""

    batch: EventBatch
    folder: Path

    def particles(self, n_events: int) -> Particles:
        """The particles of the first events of such a file."""
        return open_event_file(self.file(n_events)).read(0, n_events).particles

    def file(self, n_events: int) -> Path:
        """A labelled LHCO file, written once."""
        path = self.folder / f"tiled{n_events}.h5"
        if not path.exists():
            with write_lhco(path, n_events, labelled=True) as writer:
                for copy, start in enumerate(range(0, n_events, len(self.batch))):
                    number = min(len(self.batch), n_events - start)
                    writer.append(self._rows(copy)[:number], self.batch.label_raw[:number])
        return path

    def _rows(self, copy: int) -> NDArray[np.float64]:
        particles = self.batch.particles
        phi = particles.phi
        if copy:
            phi = (phi + copy * ROTATION + np.pi) % (2 * np.pi) - np.pi
        return to_padded(Particles(particles.pt, particles.eta, phi, particles.counts))


def load_events(folder: Path) -> tuple[EventBatch, str]:
    """The real sample where it is at hand, else simulated events, and which it was."""
    named = os.environ.get("HEPLLM_REFERENCE_DATA")
    shared = Path(named) if named else Path(__file__).parents[3] / "shared" / "data"
    path = shared / REAL_FILE
    if path.is_file():
        sample = f"real R&D sample, {path.name}"
    else:
        overrides = [f"simulate.rnd={N_SIMULATED}", "simulate.blackbox=0"]
        simulate(load_config(None, overrides), folder / "simulated")
        path = folder / "simulated" / RND_FILE
        sample = "simulated events (no real sample at HEPLLM_REFERENCE_DATA or ../shared/data)"
    file = open_event_file(path)
    return file.read(0, file.n_events), f"{sample}, {file.n_events} events, tiled"


@dataclass(frozen=True)
class Bench:
    """What all measurements need.

    Attributes:
        report: takes their results.
        tiler: makes their files.
        repeats: how often each time is taken; medians count.
        patience: seconds to wait for an idle machine before each.
        events_ceiling: how many tell what two processes can do at best.
    """

    report: Report
    tiler: Tiler
    repeats: int
    patience: float
    events_ceiling: int

    def alternate(self, runs: dict[str, Callable[[], object]]) -> dict[str, list[Timed]]:
        """Times each run in turn, again and again."""
        series: dict[str, list[Timed]] = {name: [] for name in runs}
        for _ in range(self.repeats):
            for name, run in runs.items():
                wait_until_idle(self.patience)
                series[name].append(clock(run))
        return series


def median(values: list[Timed]) -> float:
    """The median time in seconds."""
    return statistics.median(timed.seconds for timed in values)


def run_stage(
    path: Path,
    *,
    executor: str = "serial",
    workers: int = 1,
    chunk: int = BATCH,
    extended: bool = False,
) -> EventTable:
    """Preprocesses a file into a folder that is thrown away; returns the first events."""
    names = {"executor": executor, "workers": workers, "chunk_size": chunk, "extended": extended}
    config = load_config(None, [f"preprocess.{key}={value}" for key, value in names.items()])
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        (made,) = preprocess([path], Path(folder) / "dataset", config)
        return next(made.dataset.batches(dataset_features(extended), BATCH))


def compare_with_bare(bench: Bench, n_events: int) -> None:
    """End to end on one worker against fastjet on arrays in memory."""
    batches, path = to_awkward(bench.tiler.particles(n_events)), bench.tiler.file(n_events)
    run_bare(batches[:1])
    run_stage(bench.tiler.file(BATCH))  # imports, caches
    runs: dict[str, Callable[[], object]] = {
        "bare": lambda: run_bare(batches),
        "end_to_end": lambda: run_stage(path),
    }
    series = bench.alternate(runs)
    rates = {name: n_events / median(times) for name, times in series.items()}
    ratio = rates["end_to_end"] / rates["bare"]
    verdict = bench.report.require(ratio, TARGETS["bare"], "end to end against the bare rate")
    click.echo(f"bare fastjet    {rates['bare']:8.0f} events/s, arrays in memory")
    click.echo(f"end to end      {rates['end_to_end']:8.0f} events/s, {ratio:.1%} ({verdict})")
    bench.report.add("bare", series, events=n_events, events_per_second=rates, ratio=ratio)


def compare_extended(bench: Bench, n_events: int) -> None:
    """The extended N-subjettiness against the usual features, and against contrib's."""
    batches, path = to_awkward(bench.tiler.particles(n_events)), bench.tiler.file(n_events)
    betas = tuple(EXTENDED_BETAS.values())
    runs: dict[str, Callable[[], object]] = {
        "usual features": lambda: run_stage(path),
        "extended": lambda: run_stage(path, extended=True),
        "bare extended": lambda: run_bare(batches, EXTENDED_MAX_N, betas),
    }
    series = bench.alternate(runs)
    seconds = {name: median(times) for name, times in series.items()}
    cost, bare = (
        seconds["extended"] / seconds[name] for name in ("usual features", "bare extended")
    )
    verdict = bench.report.require(cost, TARGETS["extended"], "cost of extended", at_most=True)
    click.echo(f"extended        {n_events / seconds['extended']:8.0f} events/s")
    click.echo(f"time over that of the usual features   x {cost:.2f} ({verdict})")
    click.echo(f"and over bare fastjet with the same taus x {bare:.2f}")
    ratios = {"over_usual_features": cost, "over_bare": bare}
    bench.report.add("extended", series, events=n_events, **ratios)


def compare_workers(bench: Bench, n_events: int) -> None:
    """Two workers against one; the start-up is what a run over next to nothing takes."""
    path, little = bench.tiler.file(n_events), bench.tiler.file(20)
    runs: dict[str, Callable[[], object]] = {}
    for workers in (1, 2):
        options = {"executor": "processes", "workers": workers}
        runs[f"start_up_{workers}"] = partial(run_stage, little, **options, chunk=10)
        runs[f"workers_{workers}"] = partial(run_stage, path, **options)
    runs["start_up_2"]()
    series = bench.alternate(runs)
    start_up = {workers: median(series[f"start_up_{workers}"]) for workers in (1, 2)}
    whole = {workers: median(series[f"workers_{workers}"]) for workers in (1, 2)}
    ratio = (whole[1] - start_up[1]) / (whole[2] - start_up[2])
    verdict = bench.report.require(ratio, TARGETS["workers"], "two workers against one")
    for workers in (1, 2):
        rate = n_events / (whole[workers] - start_up[workers])
        click.echo(
            f"{workers} worker(s)     {rate:8.0f} events/s + {start_up[workers]:.1f} s start-up"
        )
    click.echo(f"two against one  x {ratio:.2f} ({verdict})")
    ceiling = _ceiling_of_machine(bench, path)
    click.echo(f"bare fastjet     x {ceiling:.2f}: two processes at once, nothing shared")
    numbers = {"ratio": ratio, "whole_ratio": whole[1] / whole[2], "ceiling": ceiling}
    bench.report.add("workers", series, events=n_events, **numbers)


def _ceiling_of_machine(bench: Bench, path: Path) -> float:
    """By how much two processes that share nothing are faster than one, with bare fastjet."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(bench.repeats):
        for processes, taken in seconds.items():
            wait_until_idle(bench.patience)
            taken.append(seconds_in_processes(path, bench.events_ceiling, processes))
    return 2 * statistics.median(seconds[1]) / statistics.median(seconds[2])


def compare_with_usual(bench: Bench, n_events: int) -> None:
    """One worker against the usual script, which must find the same features."""
    path = bench.tiler.file(n_events)

    def run_usual() -> None:
        usual_script.features_of_file(path, n_events).to_parquet(path.with_suffix(".parquet"))

    n_compared = _check_agreement(bench.tiler.file(BATCH))
    series = bench.alternate({"usual": run_usual, "end_to_end": lambda: run_stage(path)})
    rates = {name: n_events / median(times) for name, times in series.items()}
    ratio = rates["end_to_end"] / rates["usual"]
    verdict = bench.report.require(ratio, TARGETS["usual"], "against the usual script")
    click.echo(f"usual script    {rates['usual']:8.0f} events/s, {n_compared} features agree")
    click.echo(f"end to end      {rates['end_to_end']:8.0f} events/s, x {ratio:.2f} ({verdict})")
    bench.report.add("usual", series, events=n_events, events_per_second=rates, ratio=ratio)


def _check_agreement(path: Path) -> int:
    """Holds the package's features against the script's; returns how many were compared."""
    events, frame = run_stage(path), usual_script.features_of_file(path, BATCH)
    names = [name for name in FEATURES if name in frame]
    for name in names:
        np.testing.assert_allclose(
            events.column(name),
            frame[name].to_numpy(dtype=float),
            rtol=1e-6,
            atol=1e-4,
            equal_nan=True,
            err_msg=name,
        )
    return len(names)


def measure_memory(bench: Bench, sizes: tuple[int, ...]) -> None:
    """Peak PSS of the command and its workers for few and many events."""
    peaks: dict[int, int] = {}
    program = "from hepllm.cli import main; main()"
    for n_events in sizes:
        path = bench.tiler.file(n_events)
        output = path.with_suffix("")
        command = [sys.executable, "-c", program, "preprocess", str(path), "-q"]
        peaks[n_events] = peak_pss([*command, "--output", str(output), "--workers", "2"])
        shutil.rmtree(output)
        path.unlink()
        click.echo(f"peak memory     {peaks[n_events] / 2**20:8.0f} MiB for {n_events} events")
    largest, growth = max(peaks.values()) / 2**30, max(peaks.values()) / min(peaks.values())
    verdict = bench.report.require(largest, TARGETS["pss_gib"], "peak PSS, GiB", at_most=True)
    same = bench.report.require(growth, TARGETS["pss_growth"], "growth of the PSS", at_most=True)
    click.echo(f"largest         {largest:8.2f} GiB ({verdict})")
    click.echo(f"largest/smallest x {growth:.3f} ({same})")
    bench.report.results["memory"] = {"workers": 2, "peak_pss_bytes": peaks, "growth": growth}


def table_stages(bench: Bench, n_events: int) -> None:
    """Seconds per million events of each stage on one worker, medians."""
    path = bench.tiler.file(n_events)
    rounds: list[dict[str, float]] = []
    for _ in range(bench.repeats):
        wait_until_idle(bench.patience)
        with timed_stages(STAGES) as watch:
            total = clock(lambda: run_stage(path)).seconds
        found = dict(watch.seconds)
        rounds.append({**found, "everything else": total - sum(found.values()), "total": total})
    medians = {
        stage: statistics.median(one[stage] for one in rounds) * 1e6 / n_events
        for stage in rounds[0]
    }
    bench.report.results["stages"] = {"events": n_events, "seconds_per_million": medians}
    click.echo("stage             s per million events   share")
    for stage, seconds in sorted(medians.items(), key=lambda item: -item[1]):
        click.echo(f"  {stage:18s} {seconds:12.1f} {seconds / medians['total']:12.1%}")


def _machine() -> dict[str, Any]:
    packages = ("awkward", "fastjet", "h5py", "hdf5plugin", "numpy", "pandas", "pyarrow")
    return {
        "cores": usable_cores(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "load_average_before": os.getloadavg(),
        "packages": {name: version(name) for name in packages},
    }


PARTS = ("bare", "extended", "usual", "workers", "memory", "stages")


@click.command()
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="Measure this; repeatable.")
@click.option("--events", default=10_000, show_default=True, help="For bare, extended and stages.")
@click.option("--events-workers", default=50_000, show_default=True)
@click.option("--events-usual", default=5_000, show_default=True)
@click.option(
    "--events-memory", multiple=True, type=int, default=(20_000, 200_000), show_default=True
)
@click.option("--repeats", default=3, show_default=True, help="Of each time; medians count.")
@click.option(
    "--patience", default=0.0, show_default=True, help="Seconds to wait for an idle machine."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all numbers.")
@click.option("--check", is_flag=True, help="Exit with 1 if a target is missed.")
def main(only: tuple[str, ...], json_file: Path | None, check: bool, **sizes: Any) -> None:
    """Measures the speed and the memory of preprocessing."""
    configure_logging(-1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder goes away
    fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)
    with tempfile.TemporaryDirectory(prefix="bench_preprocess_") as name:
        batch, sample = load_events(Path(name))
        report = Report(sample, _machine())
        click.echo(f"events: {sample}")
        tiler = Tiler(batch, Path(name))
        ceiling = min(sizes["events"], sizes["events_workers"])
        bench = Bench(report, tiler, sizes["repeats"], sizes["patience"], ceiling)
        measures: dict[str, Callable[[], None]] = {
            "bare": lambda: compare_with_bare(bench, sizes["events"]),
            "extended": lambda: compare_extended(bench, sizes["events"]),
            "usual": lambda: compare_with_usual(bench, sizes["events_usual"]),
            "workers": lambda: compare_workers(bench, sizes["events_workers"]),
            "memory": lambda: measure_memory(bench, sizes["events_memory"]),
            "stages": lambda: table_stages(bench, sizes["events"]),
        }
        for part in only or PARTS:
            click.echo(f"\n{part}")
            measures[part]()
    for shortfall in report.shortfalls:
        click.echo(f"missed: {shortfall}", err=True)
    if json_file is not None:
        json_file.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    if check and report.shortfalls:
        sys.exit(1)


if __name__ == "__main__":
    main()
