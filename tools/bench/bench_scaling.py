"""What a second process is worth in training, and what it would be worth on GPUs.

python tools/bench/bench_scaling.py             # one process against two, on one thread each
python tools/bench/bench_scaling.py --estimate  # arithmetic for Mistral-7B; nothing is timed
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import torch
from measuring import Timed, clock, wait_until_idle
from peft import LoraConfig, get_peft_model
from transformers import MistralConfig, MistralForCausalLM

from hepllm.config import Config, FusionConfig, dump_config, load_config
from hepllm.data.event_table import EventTable
from hepllm.learning.distributed import Team, join
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.steps import Trainer, TrainingData
from hepllm.logs import configure_logging
from hepllm.model.adapter.fusion import NumericFusionAdapter
from hepllm.runs.folder import make_classifier

_WARM_UP = 3
_LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
_UTILISATION = 0.4
_GPUS = {
    "RTX 3060": (25.6e12, 360e9),
    "RTX 4090": (165e12, 1008e9),
    "A100": (312e12, 2039e9),
    "H100": (989e12, 3350e9),
}
"""Dense bfloat16 operations and bytes of memory a second, by the maker's data sheets."""
_PASSES = 3
"""Through the weights in a step: forward, forward again for checkpointing, and backward."""
_DEQUANTISED = 4.5
"""Bytes a weight and pass: 4 bits are read, 16 are written and read again by the product."""
_LINKS = {"10 Gbit/s Ethernet": 1.1e9, "PCIe 4.0 x8": 12e9, "NVLink 3": 230e9}
"""Bytes a second in each direction that programs may see of 1.25, 16 and 300 GB/s."""
_WITH_NVLINK = ("A100", "H100")


@dataclass(frozen=True)
class Measured:
    """Steps of one process, or of several as the first one saw them.

    Attributes:
        steps: seconds of each step.
        cpu: seconds of computing in each step, which other programs do not lengthen much.
        exchanges: seconds that each spent on summing gradients, waiting for others included.
        n_elements: gradient elements that are summed.
    """

    steps: list[float]
    cpu: list[float]
    exchanges: list[float]
    n_elements: int


def made_up_events(n_events: int, config: Config) -> EventTable:
    """Events of both classes; how long a step takes does not depend on their values."""
    random = np.random.default_rng(1)
    names = config.train.feature_names()
    label = (np.arange(n_events) % 2).astype(np.int8)
    return EventTable(
        features=random.gamma(4.0, 100.0, (n_events, len(names))),
        names=names,
        label=label,
        label_raw=label.astype(np.int16),
        weight=np.ones(n_events),
        event_id=np.arange(n_events),
        source=np.full(n_events, "made", dtype=object),
        event_digest=np.arange(n_events, dtype=np.uint64),
        split=np.full(n_events, "train", dtype=object),
    )


def measure_steps(team: Team, config: Config, n_steps: int) -> Measured:
    """Trains for some steps as ``hepllm train`` does, without validation and checkpoints."""
    torch.set_num_threads(team.threads(config.train.threads))
    table = made_up_events(config.train.batch_size * (n_steps + _WARM_UP), config)
    classifier, encoder = make_classifier(config)
    plan = TrainingPlan.of(config)
    trainer = Trainer.fresh(classifier, encoder, TrainingData(table, table), plan, team)
    exchanges = [0.0]
    with mock.patch.object(Team, "sum_gradients", _timed(Team.sum_gradients, exchanges)):
        steps, cpu = [], []
        for step in range(n_steps + _WARM_UP):
            exchanges.append(0.0)
            team.wait()
            started = time.process_time()
            steps.append(trainer.step(step, measure=False).seconds)
            cpu.append(time.process_time() - started)
    n_elements = sum(weight.numel() for weight in classifier.trained_parameters().values())
    return Measured(steps[_WARM_UP:], cpu[_WARM_UP:], exchanges[_WARM_UP + 1 :], n_elements)


def _timed(function: Callable[..., None], seconds: list[float]) -> Callable[..., None]:
    def timed(*arguments: Any) -> None:
        started = time.perf_counter()
        function(*arguments)
        seconds[-1] += time.perf_counter() - started

    return timed


def run_processes(
    n_processes: int, config: Path, n_steps: int, patience: float
) -> tuple[Measured, Timed]:
    """Starts this file under torchrun; what the first process measured, and the load by others."""
    with tempfile.TemporaryDirectory() as name:
        result = Path(name, "measured.json")
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(n_processes), __file__, "--process", str(result)),
            *("--config", str(config), "--steps", str(n_steps)),
        ]
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
        wait_until_idle(patience)
        timed = clock(lambda: subprocess.run(command, check=True, env=environment))  # noqa: S603
        return Measured(**json.loads(result.read_text(encoding="utf-8"))), timed


def compare(config: Path, batch_size: int, n_steps: int, n_rounds: int, patience: float) -> None:
    """One process and two, in turn, on the same batches."""
    found: dict[int, list[Measured]] = {1: [], 2: []}
    for number in range(1, n_rounds + 1):
        for n_processes, rounds in found.items():
            measured, timed = run_processes(n_processes, config, n_steps, patience)
            rounds.append(measured)
            click.echo(
                f"round {number}, {n_processes} process(es): "
                f"{1e3 * statistics.median(measured.steps):.0f} ms a step, computing "
                f"{1e3 * statistics.median(measured.cpu):.0f} ms "
                f"(others took {timed.others:.1f} cores)"
            )
    seconds = [one / two for one, two in _medians(found, "steps")]
    cpu = [one / two for one, two in _medians(found, "cpu")]
    click.echo(
        f"batch of {batch_size}, two processes over one: {_listed(seconds)} by the clock, "
        f"{_listed(cpu)} by the first one's time of computing"
    )
    last = found[2][-1]
    shares = [part / whole for part, whole in zip(last.exchanges, last.steps, strict=True)]
    click.echo(
        f"summing {4e-6 * last.n_elements:.1f} MB of gradients: "
        f"{100 * statistics.median(shares):.0f} % of a step, waiting for the other included"
    )


def _medians(found: dict[int, list[Measured]], name: str) -> list[tuple[float, float]]:
    """Of one process and of two, for each round."""
    one, two = ([statistics.median(getattr(m, name)) for m in found[n]] for n in (1, 2))
    return list(zip(one, two, strict=True))


def _listed(ratios: list[float]) -> str:
    rounds = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return f"{statistics.median(ratios):.2f} ({rounds})"


def lora_elements() -> tuple[int, int]:
    """LoRA weights with r = 16 on all linear layers of Mistral-7B, and all its weights."""
    with torch.device("meta"):
        shape = MistralConfig(vocab_size=32768, sliding_window=None)
        model = MistralForCausalLM(shape)
        total = sum(weight.numel() for weight in model.parameters())
        wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **_LORA))
    trained = [weight for weight in wrapped.parameters() if weight.requires_grad]
    return sum(weight.numel() for weight in trained), total


def nfa_elements() -> int:
    """Weights of the default adapter on the search set, as wide as Mistral-7B."""
    names = load_config(None).train.feature_names()
    adapter = NumericFusionAdapter(names, 4096, 1.0, FusionConfig())
    return sum(weight.numel() for weight in adapter.parameters())


def estimate(batch_size: int, n_tokens: int) -> None:
    """Speed of two machines or cards over one, by arithmetic."""
    lora, total = lora_elements()
    nfa = nfa_elements()
    n_bytes = 4 * (lora + nfa)
    # 2 operations a weight and token forward, 2 for the gradient of activations; with
    # checkpointing, forward once more. The frozen weights need no gradient.
    operations = 2 * _PASSES * total * batch_size * n_tokens
    click.echo(
        f"LoRA {lora:,} and adapter {nfa:,} weights: {n_bytes / 1e6:.1f} MB of float32 gradients"
        f" a step; {operations / 1e12:.0f} Tflop a step of {batch_size} events of {n_tokens} tokens"
    )
    click.echo(
        "\n| GPU | step on one | link | exchange | two over one, same batch | twice the batch |"
        "\n|---|---|---|---|---|---|"
    )
    for gpu, (peak, bandwidth) in _GPUS.items():
        product = operations / (_UTILISATION * peak)
        weights = _PASSES * _DEQUANTISED * total / bandwidth  # however few the events are
        for link, speed in _LINKS.items():
            if link.startswith("NVLink") and gpu not in _WITH_NVLINK:
                continue
            one, exchange = product + weights, n_bytes / speed
            strong = one / (product / 2 + weights + exchange)
            weak = 2 * one / (one + exchange)
            click.echo(
                f"| {gpu} | {1e3 * one:.0f} ms | {link} | {1e3 * exchange:.1f} ms | "
                f"{strong:.2f} | {weak:.2f} |"
            )


@click.command()
@click.option("--config", type=click.Path(exists=True, path_type=Path), default="configs/demo.yaml")
@click.option("--layout", type=click.Choice(["minimal", "compact"]), default="compact")
@click.option("--batch-size", default=32, show_default=True, help="Of all processes together.")
@click.option("--steps", default=10, show_default=True, help="Timed in each round.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--patience", default=0.0, help="Seconds to wait for an idle machine.")
@click.option("--estimate", "only_estimate", is_flag=True, help="Arithmetic for Mistral-7B.")
@click.option("--tokens", default=46, show_default=True, help="Of a prompt, for the arithmetic.")
@click.option("--process", type=click.Path(path_type=Path), hidden=True)
def main(
    config: Path,
    steps: int,
    *,
    only_estimate: bool,
    tokens: int,
    process: Path | None,
    **options: Any,
) -> None:
    """Compares training in one process and in two on the same batches."""
    configure_logging(-1)
    if only_estimate:
        estimate(16, tokens)
        return
    if process is None:
        changes = [
            *(f"prompt.layout={options['layout']}", f"train.batch_size={options['batch_size']}"),
            *("train.threads=1", "backbone.device=cpu"),
        ]
        with tempfile.TemporaryDirectory() as name:
            file = Path(name, "config.yaml")
            file.write_text(dump_config(load_config(config, changes)), encoding="utf-8")
            sizes = (options["batch_size"], steps, options["rounds"])
            compare(file, *sizes, patience=options["patience"])
        return
    with join("cpu") as team:
        measured = measure_steps(team, load_config(config), steps)
        if team.is_first:
            process.write_text(json.dumps(asdict(measured)), encoding="utf-8")


if __name__ == "__main__":
    main()
