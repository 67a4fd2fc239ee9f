"""Measures training and scoring against the usual recipe: speed, and the AUC after equal events.

    python tools/bench/bench_train.py                                    # speed, made-up events
    python tools/bench/bench_train.py --events 8 --batch 8 --repeats 1   # quick
    python tools/bench/bench_train.py --part auc --dataset build/demo/data/processed/rnd
    python tools/bench/bench_train.py --part question --backbone smollm2 --clock cpu

Variants take turns on the same events in one process, on one thread, so that other load hits all
of them; rates are medians, and a ratio is the median over the rounds, with the smallest and the
largest. Each variant of a ladder adds one thing to the one above it. Targets: at least 2.5 times
the usual recipe in training and 3 times in scoring at the same prompt, 20 times with all.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads, as the package does

import click
import numpy as np
import torch
from measuring import wait_until_idle
from numpy.typing import NDArray
from train_variants import (
    COMPACT,
    FULL,
    LAYOUTS,
    SLOW,
    Variant,
    backbone_folder,
    load_events,
    ours,
    usual,
)
from transformers.utils import logging as transformers_logging
from usual_recipe import parse

from hepllm.config import TrainConfig
from hepllm.evaluation.bootstrap import bootstrap, interval
from hepllm.evaluation.metrics import auc
from hepllm.evaluation.scores import scored_events
from hepllm.learning.steps import TrainingData
from hepllm.logs import configure_logging
from hepllm.model.packing import EVENTS_PER_QUESTION
from hepllm.model.sources import SMOLLM2, locate_model

TARGETS = {"train": 2.5, "score": 3.0, "everything": 20.0}
QUESTION_TARGETS = {"train": 4.0, "score": 6.0}
_BATCH, _SCORED = TrainConfig().batch_size, EVENTS_PER_QUESTION
"""Events of a step and of a scoring pass by default."""


@dataclass
class Report:
    """Everything that was measured, as it goes into the JSON."""

    settings: dict[str, Any]
    results: dict[str, Any] = field(default_factory=dict)
    shortfalls: list[str] = field(default_factory=list)

    def require(self, value: float, target: float, what: str) -> None:
        """Notes whether a target is met, and says so."""
        verdict = "yes" if value >= target else "NO"
        click.echo(f"  {what}: x {value:.1f} (at least {target:g}: {verdict})")
        if value < target:
            self.shortfalls.append(f"{what}: {value:.2f}, must be at least {target:g}")


@dataclass(frozen=True)
class Bench:
    """What all parts need.

    Attributes:
        report: takes the results.
        data: events to train on and to score.
        batch: events a step.
        repeats: rounds; medians count.
        patience: seconds to wait for an idle machine before each measurement.
        clock: that of the wall, or the seconds of CPU that this process has used.
    """

    report: Report
    data: TrainingData
    batch: int
    repeats: int
    patience: float
    clock: Callable[[], float]

    def ladder(self, title: str, variants: Sequence[Variant]) -> dict[str, float]:
        """Times variants in turn, prints them, and returns the last one's ratios to the first."""
        found = {}
        for what in ("train", "score"):
            runs = {variant.name: self._run(variant, what) for variant in variants}
            seconds = self._alternate(runs)
            click.echo(f"\n{title}: {what}")
            click.echo(f"  {'':24}{'tokens':>7}{'events/s':>10}   to the one above   to the first")
            for i, variant in enumerate(variants):
                above = variants[max(i - 1, 0)].name
                step = _ratio(seconds[above], seconds[variant.name])
                whole = _ratio(seconds[variants[0].name], seconds[variant.name])
                rate = self._n_events(what) / statistics.median(seconds[variant.name])
                click.echo(
                    f"  {variant.name:24}{variant.n_tokens:7}{rate:10.2f}   {step}   {whole}"
                )
            first, last = seconds[variants[0].name], seconds[variants[-1].name]
            found[what] = _ratio(first, last).median
            self.report.results[f"{title}: {what}"] = {
                "events": self._n_events(what),
                "tokens": {variant.name: variant.n_tokens for variant in variants},
                "seconds": seconds,
                "ratio": asdict(_ratio(first, last)),
            }
        return found

    def _n_events(self, what: str) -> int:
        return len(self.data.train if what == "train" else self.data.validation)

    def _run(self, variant: Variant, what: str) -> Callable[[], object]:
        return variant.train if what == "train" else lambda: variant.score(self.data.validation)

    def _alternate(self, runs: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
        """Seconds of each run by round; a first round, which warms up, is not counted."""
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(self.repeats + 1):
            for name, run in runs.items():
                wait_until_idle(self.patience)
                started = self.clock()
                run()
                seconds[name].append(self.clock() - started)
        return {name: values[1:] for name, values in seconds.items()}


@dataclass(frozen=True)
class Ratio:
    """How many times faster, over the rounds."""

    median: float
    smallest: float
    largest: float

    def __str__(self) -> str:
        return f"x {self.median:5.2f} [{self.smallest:.2f}, {self.largest:.2f}]"


def _ratio(slow: Sequence[float], fast: Sequence[float]) -> Ratio:
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def engineering(bench: Bench, backbone: str, folder: str) -> None:
    """The same prompt, one switch after the other."""
    data, batch = bench.data, bench.batch
    for prompt, overrides in (("full", FULL), ("compact", COMPACT)):
        title = f"{backbone}, {prompt} prompt"
        variants = [
            usual(folder, data, batch, *overrides).variant(),
            ours("last position, no mask", folder, data, batch, *overrides, *SLOW, share=False),
            ours("+ own precision", folder, data, batch, *overrides, share=False),
            ours("+ shared prefix", folder, data, batch, *overrides),
        ]
        ratios = bench.ladder(title, variants)
        for what, ratio in ratios.items():
            bench.report.require(ratio, TARGETS[what], f"{title}, {what}")


def prompts(bench: Bench, backbone: str, folder: str) -> None:
    """From the usual recipe's prompt to the shortest one."""
    data, batch = bench.data, bench.batch
    variants = [usual(folder, data, batch, *FULL).variant()]
    variants += [ours(name, folder, data, batch, *chosen) for name, chosen in LAYOUTS.items()]
    for what, ratio in bench.ladder(f"{backbone}, everything", variants).items():
        bench.report.require(ratio, TARGETS["everything"], f"{backbone}, everything, {what}")


def questions(bench: Bench, backbone: str, folder: str) -> None:
    """Many events behind one question against a prompt of six tokens for each event.

    The latter is scored with LoRA as PEFT computes it, as it was before there was the former. Each
    in the batches that its defaults are or were; of Mistral's architecture a quarter of them.
    """
    share = 1 if backbone == SMOLLM2 else 4
    data = load_events(None, 2 * _BATCH // share, _SCORED // share)
    for dtype in ("float32", "bfloat16"):
        variants = [
            ours(
                name,
                folder,
                data,
                batch,
                f"prompt.layout={name}",
                f"backbone.dtype={dtype}",
                fused=name == "question",
                scored=scored,
            )
            for name, batch, scored in (("minimal", 32, 128), ("question", _BATCH, _SCORED))
        ]
        title = f"{backbone}, question, {dtype}"
        for what, ratio in replace(bench, data=data).ladder(title, variants).items():
            bench.report.require(ratio, QUESTION_TARGETS[what], f"{title}, {what}")


def areas(bench: Bench, folder: str, layouts: Sequence[str], with_usual: bool) -> None:
    """AUC of each recipe after the same training events, on the same validation events."""
    data, found, notes = bench.data, {}, {}
    if with_usual:
        recipe = usual(folder, data, bench.batch, *FULL)
        started = time.perf_counter()
        recipe.train()
        notes["usual recipe"] = f"{time.perf_counter() - started:.0f} s"
        found["usual recipe"] = recipe.probe(data.validation)
        labels = [parse(answer) for answer in recipe.answers(data.validation)]
        right = sum(a == b for a, b in zip(labels, data.validation.label.tolist(), strict=True))
        unread, n_events = labels.count(None), len(labels)
        notes["usual recipe"] += (
            f"; {unread} of {n_events} generated answers name no class, {right} are right"
        )
    for name in layouts:
        # The package's own batch size: events, not steps, are what is equal.
        batch = _BATCH if name == "question" else 32
        variant = ours(name, folder, data, batch, *LAYOUTS[name])
        started = time.perf_counter()
        variant.train()
        notes[name] = f"{time.perf_counter() - started:.0f} s, {variant.n_tokens} tokens"
        found[name] = variant.score(data.validation)
    _tabulate_areas(bench, found, notes)


def _tabulate_areas(
    bench: Bench, found: Mapping[str, NDArray[np.float64]], notes: Mapping[str, str]
) -> None:
    table, n_train = bench.data.validation, len(bench.data.train)
    samples = {name: scored_events(scores, table.label) for name, scores in found.items()}
    replicas = bootstrap(samples, dict.fromkeys(samples, ()), (), 1000, 1)
    n_signal = int(table.label.sum())
    n_background = len(table) - n_signal
    click.echo(
        f"\nAUC after {n_train} training events, on {n_signal} signal, {n_background} background"
    )
    first = next(iter(samples))
    rows = {}
    for name, events in samples.items():
        own = interval(replicas[name].auc, 0.95, 0.1)
        paired = interval(replicas[name].auc - replicas[first].auc, 0.95, 0.1)
        value, base = auc(events).value, auc(samples[first]).value
        if value is None or base is None:
            sys.exit("the validation events are all of one class")
        low, high = own.pair or (np.nan, np.nan)
        below, above = paired.pair or (np.nan, np.nan)
        rows[name] = {
            "auc": value,
            "interval": (low, high),
            "difference": value - base,
            "difference_interval": (below, above),
            "note": notes[name],
        }
        click.echo(
            f"  {name:22} {value:.3f} [{low:.3f}, {high:.3f}]   minus {first}: "
            f"{value - base:+.3f} [{below:+.3f}, {above:+.3f}]   {notes[name]}"
        )
    counts = {"train": n_train, "signal": n_signal, "background": n_background}
    bench.report.results["auc"] = {"events": counts, "recipes": rows}


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
PARTS = ("engineering", "prompts", "question", "auc")


@click.command()
@click.option("--part", multiple=True, type=click.Choice(PARTS), help="Repeatable.")
@click.option("--backbone", multiple=True, type=click.Choice(["smollm2", "mistral"]))
@click.option("--dataset", type=click.Path(path_type=Path), help="Needed for the AUC.")
@click.option("--events", default=16, show_default=True, help="A measurement of speed.")
@click.option("--batch", default=16, show_default=True, help="Events a step.")
@click.option("--repeats", default=3, show_default=True, help="Rounds; medians count.")
@click.option("--patience", default=0.0, show_default=True, help="Seconds to wait for idleness.")
@click.option("--auc-events", default=1500, show_default=True, help="To train on.")
@click.option("--auc-validation", default=1000, show_default=True, help="At most.")
@click.option("--auc-layout", multiple=True, type=click.Choice(list(LAYOUTS)), help="Repeatable.")
@click.option("--auc-usual/--no-auc-usual", default=True, help="The usual recipe takes longest.")
@click.option("--threads", default=1, show_default=True)
@click.option(
    "--clock",
    type=click.Choice(["wall", "cpu"]),
    default="wall",
    show_default=True,
    help="The seconds of CPU on one thread depend less on other load.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Write all numbers as JSON.")
@click.option("--check", is_flag=True, help="Exit with 1 if a target is missed.")
def main(
    part: tuple[str, ...], backbone: tuple[str, ...], dataset: Path | None, **options: Any
) -> None:
    """Measures training and scoring against the usual recipe."""
    configure_logging(-1)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(options["threads"])
    chosen = part or (PARTS if dataset is not None else PARTS[:3])
    if "auc" in chosen and dataset is None:
        raise click.UsageError("an AUC needs real events: give --dataset")
    if options["clock"] == "cpu" and options["threads"] != 1:
        raise click.UsageError("--clock cpu adds up what several threads use: give --threads 1")
    packages = {name: version(name) for name in ("torch", "transformers", "peft")}
    shown = {name: value for name, value in options.items() if name not in ("output", "check")}
    report = Report({**shown, "dataset": str(dataset), "packages": packages})
    click.echo(f"{shown}, {packages}")
    data = load_events(dataset, options["events"], options["events"])
    clock = CLOCKS[options["clock"]]
    bench = Bench(report, data, options["batch"], options["repeats"], options["patience"], clock)
    speed = {"engineering": engineering, "prompts": prompts, "question": questions}
    for name in backbone or ("smollm2", "mistral"):
        with backbone_folder(name) as folder:
            for measured in (one for one in speed if one in chosen):
                speed[measured](bench, name, folder)
    if "auc" in chosen:
        data = load_events(dataset, options["auc_events"], options["auc_validation"])
        layouts = options["auc_layout"] or list(LAYOUTS)
        areas(replace(bench, data=data), locate_model(SMOLLM2), layouts, options["auc_usual"])
    finish(report, options["output"], check=options["check"])


def finish(report: Report, output: Path | None, *, check: bool) -> None:
    """Writes the numbers and tells of missed targets."""
    for shortfall in report.shortfalls:
        click.echo(f"missed: {shortfall}", err=True)
    if output is not None:
        output.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    if check and report.shortfalls:
        sys.exit(1)


if __name__ == "__main__":
    main()
