"""Memory and speed of each card's recipe on a GPU, under hard caps, against the printed budget.

    python tools/bench/bench_gpu.py                          # Mistral-7B, cards of 8, 12, 24 GB
    python tools/bench/bench_gpu.py --cards 8 --scan         # every micro-batch there
    python tools/bench/bench_gpu.py --backbone smollm2 --cards 8

Mistral-7B has its real architecture and tokenizer and random weights, on whose values neither
memory nor speed depend; they are made once (14.5 GB in --folder) and loaded as any other model.
The tokenizer needs mistral-common's file: see tools/bench/prompt_tokens.py. Of a card, 1.5 GiB are
left to the CUDA context and a desktop; torch refuses to take more than the rest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
from memory_table import TAKEN, recipe
from random_mistral import random_mistral
from train_variants import made_up

from hepllm.config import Config, load_config
from hepllm.learning.budget import Budget, MemoryChoice
from hepllm.learning.capacity import cap_gpu_memory
from hepllm.learning.memory import training_budget
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.steps import Trainer, TrainingData
from hepllm.logs import configure_logging
from hepllm.model.backbone import set_checkpointing
from hepllm.model.classifier import EventClassifier
from hepllm.model.devices import choose_device, choose_dtype
from hepllm.model.scoring import score_events
from hepllm.model.sources import cache_folder
from hepllm.runs.folder import make_classifier

GIB = 2**30
MISTRAL = "mistral-7b"
_PASSES = 4
"""Operations for each weight and token in a step: a product and a sum forward, and as many
backward, for frozen weights have no gradient; what checkpointing computes again is not counted.
"""


@dataclass(frozen=True)
class Measured:
    """One way to train, or to score.

    Attributes:
        what: the setting.
        micro_batch: events in memory at once.
        checkpointing: whether activations are computed twice.
        predicted: GiB by the budget.
        reserved: GiB that torch held at most; None on a CPU, or where memory ran out.
        events: a second; None where memory ran out.
        tokens: a second.
        share: of the measured matrix peak.
    """

    what: str
    micro_batch: int
    checkpointing: bool
    predicted: float
    reserved: float | None
    events: float | None
    tokens: float | None
    share: float | None


@dataclass(frozen=True)
class Bench:
    """A loaded classifier with events, and the device's peak in operations a second."""

    trainer: Trainer
    budget: Budget
    peak: float
    n_weights: int

    def measure(
        self,
        what: str,
        setting: MemoryChoice,
        n_events: int,
        passes: int,
        work: Callable[[], object],
    ) -> Measured:
        """Does the work once to warm up and once for the clock, and looks at the memory."""
        device = self.trainer.classifier.device
        predicted = self.budget.total(setting) / GIB
        kind = (what, setting.micro_batch, setting.checkpointing, predicted)
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        try:
            work()
            _wait(device)
            started = time.perf_counter()
            work()
            _wait(device)
        except torch.cuda.OutOfMemoryError:
            return Measured(*kind, None, None, None, None)
        rate = n_events / (time.perf_counter() - started)
        tokens = rate * self.budget.batch.n_tokens
        share = tokens * passes * self.n_weights / self.peak
        return Measured(*kind, _reserved(device), rate, tokens, share)

    def train(self, setting: MemoryChoice, n_steps: int) -> Measured:
        """Optimizer steps."""
        trainer = self.trainer
        set_checkpointing(trainer.classifier.language_model, enabled=setting.checkpointing)
        with_setting = replace(trainer, plan=replace(trainer.plan, setting=setting))

        def steps() -> None:
            for step in range(n_steps):
                with_setting.step(step, measure=False)

        return self.measure("train", setting, n_steps * trainer.batch_size, _PASSES, steps)

    def score(self, setting: MemoryChoice, batch_size: int) -> Measured:
        """Scoring of all events."""
        trainer = self.trainer
        inputs = trainer.data.inputs

        def score() -> None:
            score_events(trainer.classifier, trainer.encoder, inputs, batch_size=batch_size)

        return self.measure(f"score {batch_size}", setting, len(inputs), 2, score)


def prepare(config: Config, n_events: int) -> Bench:
    """Loads a classifier as ``hepllm train`` does."""
    device = choose_device(config.backbone.device)
    peak = matrix_peak(device, choose_dtype(config.backbone.dtype, device))
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    cap_gpu_memory(device, config.train.memory_limit_gib)
    classifier, encoder = make_classifier(config)
    events = made_up(n_events, 1)
    data = TrainingData(events, events)
    plan = TrainingPlan.of(config)
    budget = training_budget(classifier, encoder, data, plan)
    trainer = Trainer.fresh(classifier, encoder, data, plan)
    return Bench(trainer, budget, peak, adapted_weights(classifier))


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second in a large product of matrices, the best of ten.

    Args:
        device: that computes.
        dtype: in which the model computes; a GPU may be slow in another.
    """
    size = 8192 if device.type == "cuda" else 1024
    matrix = torch.randn(size, size, dtype=dtype, device=device)
    seconds = []
    for _ in range(10):
        _wait(device)
        started = time.perf_counter()
        matrix @ matrix
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)


def adapted_weights(classifier: EventClassifier) -> int:
    """Weights of all linear layers that LoRA adapts, which is all that every token meets."""
    sizes = classifier.lora_parameters()
    inputs = {name: weight.shape[1] for name, weight in sizes.items() if "lora_A" in name}
    return sum(n * sizes[name.replace("lora_A", "lora_B")].shape[0] for name, n in inputs.items())


def run_card(config: Config, *, scan: bool, n_steps: int) -> dict[str, Any]:
    """Everything about one card, in this process."""
    bench = prepare(config, n_steps * config.train.batch_size)
    device = bench.trainer.classifier.device
    loaded = _reserved(device)
    chosen, _ = bench.budget.choose(None, "auto")
    settings = bench.budget.settings(None, "auto") if scan else [chosen]
    found = [bench.train(setting, n_steps) for setting in settings]
    found.append(bench.score(chosen, config.evaluation.batch_size))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {
        "device": name,
        "limit": config.train.memory_limit_gib,
        "peak": bench.peak,
        "loaded": loaded,
        "tokens": bench.budget.batch.n_tokens,
        "chosen": asdict(chosen),
        "budget": bench.budget.table(chosen),
        "measured": [asdict(one) for one in found],
    }


def table(card: float, result: dict[str, Any]) -> str:
    """One card's figures as Markdown."""
    chosen = result["chosen"]
    head = (
        f"{card:g} GB ({result['device']}, {result['limit']:g} GiB allowed, "
        f"{result['tokens']} tokens, {result['peak'] / 1e12:.2f} Tflop/s in a product of matrices, "
        f"{_shown(result['loaded'], '.2f')} GiB at most while loading):\n"
    )
    names = (
        "micro-batch | checkpointing | predicted GiB | reserved GiB | events/s | tokens/s | share"
    )
    lines = [head, f"| | {names} |", "|---|---|---|---|---|---|---|---|"]
    for one in result["measured"]:
        is_chosen = (one["micro_batch"], one["checkpointing"]) == tuple(chosen.values())
        lines.append(
            f"| {one['what']}{' (chosen)' if is_chosen and one['what'] == 'train' else ''} | "
            f"{one['micro_batch']} | {'yes' if one['checkpointing'] else 'no'} | "
            f"{one['predicted']:.2f} | {_shown(one['reserved'], '.2f')} | "
            f"{_shown(one['events'], '.1f')} | {_shown(one['tokens'], '.0f')} | "
            f"{_shown(one['share'], '.0%')} |"
        )
    return "\n".join(lines)


@click.command()
@click.option("--backbone", default=MISTRAL, help=f"{MISTRAL}, or any backbone.name.")
@click.option("--folder", type=click.Path(path_type=Path), help="For the random weights.")
@click.option("--cards", type=float, multiple=True, default=(8, 12, 24), help="GB; repeatable.")
@click.option("--scan", is_flag=True, help="Measure every setting.")
@click.option("--steps", type=int, default=10, help="Of a measurement.")
@click.option("--taken", type=float, default=TAKEN, help="GB of context and desktop.")
@click.option("--set", "overrides", multiple=True, help="section.key=value")
@click.option("--output", type=click.Path(path_type=Path), help="Write all numbers as JSON.")
@click.option("--process", type=click.Path(path_type=Path), hidden=True)
def main(
    *,
    backbone: str,
    folder: Path | None,
    cards: Sequence[float],
    scan: bool,
    steps: int,
    taken: float,
    overrides: Sequence[str],
    output: Path | None,
    process: Path | None,
) -> None:
    """Measures memory and speed of training and scoring under hard caps of memory."""
    if process is not None:
        configure_logging()
        config = load_config(recipe(*cards), overrides)
        process.write_text(json.dumps(run_card(config, scan=scan, n_steps=steps)), "utf-8")
        return
    if backbone == MISTRAL:
        backbone = str(random_mistral(folder or cache_folder() / "random-mistral-7b"))
    results = {}
    for card in cards:
        limit = f"train.memory_limit_gib={card - taken}"
        settings = [f"backbone.name={backbone}", limit, *overrides]
        with tempfile.TemporaryDirectory() as name:  # a process of its own, for its own peaks
            result = Path(name, "result.json")
            command = [sys.executable, __file__, "--process", str(result), "--steps", str(steps)]
            command += ["--cards", str(card)]
            command += [word for setting in settings for word in ("--set", setting)]
            subprocess.run([*command, *(["--scan"] if scan else [])], check=True)  # noqa: S603
            results[f"{card:g}"] = json.loads(result.read_text("utf-8"))
        click.echo(table(card, results[f"{card:g}"]) + "\n")
        if output is not None:
            output.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _reserved(device: torch.device) -> float | None:
    return torch.cuda.max_memory_reserved(device) / GIB if device.type == "cuda" else None


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


if __name__ == "__main__":
    main()
