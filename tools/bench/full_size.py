"""Takes Mistral-7B in its full size through training and scoring on a CPU, and measures memory.

    python tools/bench/full_size.py build/full-size           # 19 GB of disk, removed at the end
    python tools/bench/full_size.py build/small --small       # the same with a tiny architecture

The model has the real architecture, the real tokenizer and random weights (random_mistral.py). Each
start is a process of its own, as a user would start it: simulated events, a training that quantises
and is killed with `kill -9` in its third step, its continuation from the quantised copy, and two
scorings. The tool ends with an error unless the continued training repeats the loss of the killed
one to the bit, and a fresh process the scores of the trained one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
from memory_table import CONFIG
from random_mistral import random_mistral
from transformers import MistralConfig

from hepllm.config import Config, load_config
from hepllm.data.dataset import read_dataset
from hepllm.learning.inputs import model_inputs
from hepllm.runs.folder import training_events
from hepllm.runs.predictor import load_predictor

GIB = 2**30
EVENTS = CONFIG.with_name("tiny.yaml")
"""Of the simulation."""
N_STEPS, LAST_SAVED = 3, 2
SETTINGS = (
    "backbone.device=cpu",
    "train.memory_limit_gib=null",
    "train.lora_optimizer=auto",
    "train.validations_per_epoch=1",
    "train.log_every=1",
    f"train.checkpoint_every={LAST_SAVED}",
    "evaluation.min_background=1",
)


@dataclass
class Start:
    """One process.

    Attributes:
        name: what it does.
        seconds: by the clock.
        cpu: seconds of all its threads.
        loading: most GiB that it allocated until its training wrote ``memory.json``.
        peak: most GiB that it allocated after that, or at all.
        resident: most GiB that it had in memory, with the pages of files that the system keeps.
    """

    name: str
    seconds: float = 0.0
    cpu: float = 0.0
    loading: float | None = None
    peak: float = 0.0
    resident: float = 0.0


@dataclass
class Tour:
    """The folder of all files, and what was measured.

    Attributes:
        folder: holds the model, its copy in 4 bits, events, a run and a log of each process.
        config: of the training.
        starts: what was measured.
    """

    folder: Path
    config: Config
    starts: list[Start] = field(default_factory=list)

    @property
    def run(self) -> Path:
        """The run folder."""
        return self.folder / "run"

    def start(
        self, name: str, command: Sequence[str | Path], until: Callable[[], bool] | None = None
    ) -> None:
        """Starts a process and measures it; kills it as soon as ``until`` says so.

        Raises:
            click.ClickException: it fails, or ends before it is killed.
        """
        click.echo(f"{name} ...", err=True)
        environment = {**os.environ, "HEPLLM_CACHE": str(self.folder / "cache")}
        log, done, began = self.folder / f"{name}.log", Start(name), time.perf_counter()
        budget, earlier = self.run / "memory.json", _written(self.run / "memory.json")
        killed = False
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(  # noqa: S603 (our own program, no shell)
                [sys.executable, *map(str, command)],
                stdout=file,
                stderr=file,
                env=environment,
            )
            while process.poll() is None:
                anonymous, resident = _memory(process.pid)
                if done.loading is None and _written(budget) != earlier:
                    done.loading, done.peak = done.peak, 0.0
                done.peak = max(done.peak, anonymous)
                done.resident = max(done.resident, resident)
                done.cpu = max(done.cpu, _cpu_seconds(process.pid))
                if until is not None and until():
                    process.kill()
                    process.wait()
                    killed = True
                time.sleep(0.05)
        done.seconds = time.perf_counter() - began
        if killed != (until is not None) or (process.returncode and not killed):
            end = "".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-20:])
            raise click.ClickException(f"{name} ended with exit code {process.returncode}:\n{end}")
        self.starts.append(done)

    def losses(self) -> dict[int, float]:
        """Losses of the steps done so far."""
        history = self.run / "history.jsonl"
        if not history.exists():
            return {}
        lines = history.read_text(encoding="utf-8").splitlines(keepends=True)
        records = [json.loads(line) for line in lines if line.endswith("\n")]
        return {one["step"]: one["train/loss"] for one in records if "train/loss" in one}


def take(folder: Path, config: Config) -> Tour:
    """Does everything, with a model in ``folder / "model"``.

    Raises:
        click.ClickException: a process fails, or a number is not repeated.
    """
    tour = Tour(folder, config)
    raw, dataset, hepllm = folder / "raw", folder / "rnd", ("-m", "hepllm")
    simulate = (*hepllm, "simulate", "--config", EVENTS, "--rnd", "60", "--output", raw)
    tour.start("simulate", simulate)
    preprocess = (*hepllm, "preprocess", raw / "rnd.h5", "--config", EVENTS, "--output", dataset)
    tour.start("preprocess", preprocess)
    n_events = len(training_events(read_dataset(dataset), config.train, config.seed))
    epochs = N_STEPS / (n_events // config.train.batch_size)
    overrides = [*SETTINGS, f"backbone.name={folder / 'model'}", f"train.epochs={epochs}"]
    overrides.append(f"train.batch_size={config.train.batch_size}")
    settings = [word for one in overrides for word in ("--set", one)]
    train = (*hepllm, "train", dataset, "--output", tour.run, "--config", CONFIG, *settings)
    tour.start("quantise and train", train, until=lambda: N_STEPS in tour.losses())
    before = tour.losses()
    tour.start("resume", (*hepllm, "train", dataset, "--resume", "--output", tour.run))
    after = tour.losses()
    if before != after:
        raise click.ClickException(f"losses before the kill and after: {before}, {after}")
    scores = folder / "scores.parquet"
    tour.start("predict", (*hepllm, "predict", tour.run, raw / "rnd.h5", "--output", scores))
    tour.start("reload", (__file__, folder, "--reload"))
    return tour


def reload(run: Path) -> None:
    """Scores the validation events of a run again, and compares with what its training wrote.

    Raises:
        click.ClickException: a score differs.
    """
    predictor = load_predictor(run)
    table = predictor.run.dataset().load(predictor.names, "val")
    events = table.take(predictor.run.validation_rows(table))
    scores, expected = predictor.score(model_inputs(events)), predictor.run.validation_scores()
    if not np.array_equal(scores, expected):
        largest = float(np.abs(scores - expected).max())
        raise click.ClickException(f"{run}: scores differ by up to {largest} after reloading")
    click.echo(f"{len(scores)} scores are the same")


def table(tour: Tour) -> str:
    """What was measured, as Markdown."""
    memory = json.loads((tour.run / "memory.json").read_text(encoding="utf-8"))
    predicted = memory["predicted_bytes"]["total"] / GIB
    steps = f"{memory['micro_batch_size']} of {tour.config.train.batch_size} events at once"
    again = "with" if memory["checkpointing"] else "without"
    lines = [
        f"Budget {predicted:.2f} GiB, {steps} {again} gradient checkpointing; losses "
        + ", ".join(f"{loss:.4f}" for loss in tour.losses().values())
        + ", of which the last was computed twice, and was the same.\n",
        "| process | seconds | CPU seconds | GiB while loading | GiB after | resident GiB |",
        "|---|---|---|---|---|---|",
    ]
    for one in tour.starts:
        loading = "" if one.loading is None else f"{one.loading:.2f}"
        lines.append(
            f"| {one.name} | {one.seconds:.0f} | {one.cpu:.0f} | {loading} | {one.peak:.2f} | "
            f"{one.resident:.2f} |"
        )
    return "\n".join(lines)


def _memory(pid: int) -> tuple[float, float]:
    """GiB that a process has allocated now, and the most that it had in memory."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0, 0.0
    found = dict(line.split(":", 1) for line in lines)
    kibibytes = (found.get(name, "0").split()[0] for name in ("RssAnon", "VmHWM"))
    anonymous, resident = (int(one) * 1024 / GIB for one in kibibytes)
    return anonymous, resident


def _cpu_seconds(pid: int) -> float:
    """CPU seconds of a process, and of its children that have ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return 0.0
    ticks = text.rpartition(")")[2].split()[11:15]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _written(file: Path) -> int | None:
    return file.stat().st_mtime_ns if file.exists() else None


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--small", is_flag=True, help="Two layers of width 64.")
@click.option("--batch-size", type=int, default=2, help="Events a step.")
@click.option("--keep", is_flag=True, help="Do not remove FOLDER.")
@click.option("--reload", "reloads", is_flag=True, hidden=True)
def main(*, folder: Path, small: bool, batch_size: int, keep: bool, reloads: bool) -> None:
    """Trains and scores with Mistral-7B's architecture in FOLDER, which is removed at the end."""
    if reloads:
        reload(folder / "run")
        return
    folder = folder.absolute()
    if (folder / "run").exists():
        raise click.ClickException(f"{folder}: has a run already; remove it")
    folder.mkdir(parents=True, exist_ok=True)
    small_shape = MistralConfig(
        vocab_size=32768,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        sliding_window=None,
        tie_word_embeddings=False,
    )
    began = time.perf_counter()
    random_mistral(folder / "model", small_shape if small else None)
    click.echo(f"the model took {time.perf_counter() - began:.0f} s")
    tour = take(folder, load_config(CONFIG, [*SETTINGS, f"train.batch_size={batch_size}"]))
    click.echo(table(tour))
    if not keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
