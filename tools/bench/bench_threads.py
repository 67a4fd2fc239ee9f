"""What a second thread is worth in training, and how long waiting threads should spin for it.

    python tools/bench/bench_threads.py build/demo/data/processed/rnd

Cases of threads and of OpenMP's spin count take turns, each in a process of its own; the ratio is
to one thread in the same round. With ``--avx2``, torch may use AVX2 alone, and float32 with it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import click
from measuring import wait_until_idle

CONFIG = Path(__file__).parents[2] / "configs" / "demo.yaml"
CASES = ((1, 0), (2, 0), (2, 1000), (2, 300_000))
"""Threads and spin count; 300,000 is that of OpenMP where nothing is stated."""
_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def measure(dataset: Path, threads: int, spin: int, *, epochs: float, avx2: bool) -> float:
    """Trains for some steps and returns their median rate in events/s."""
    environment = os.environ | {"GOMP_SPINCOUNT": str(spin)} | (_AVX2 if avx2 else {})
    settings = {
        "train.threads": threads,
        "train.epochs": epochs,
        "train.nfa_alone.epochs": 0,
        "train.validation_events": 200,
        "train.final_validation_events": 200,
    }
    changes = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "hepllm", "train", str(dataset), "--config", str(CONFIG)]
        subprocess.run(  # noqa: S603  our own command
            [*command, "--output", str(run), *changes],
            env=environment,
            check=True,
            capture_output=True,
        )
        lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    rates = [line[key] for line in lines if (key := "train/events_per_second") in line]
    return float(statistics.median(rates))


@click.command()
@click.argument("dataset", type=click.Path(exists=True, path_type=Path))
@click.option("--rounds", default=3, show_default=True, help="Turns of all cases.")
@click.option("--epochs", default=0.17, show_default=True, help="Passes over the events of each.")
@click.option("--avx2", is_flag=True, help="As on a processor without AVX512.")
def main(dataset: Path, rounds: int, epochs: float, avx2: bool) -> None:
    """Compares threads and spin counts on the events of DATASET."""
    rates: dict[tuple[int, int], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for case in CASES:
            wait_until_idle(30)
            rates[case].append(measure(dataset, *case, epochs=epochs, avx2=avx2))
    click.echo("threads  spin count  events/s  to one thread")
    for (threads, spin), found in rates.items():
        ratios = [rate / one for rate, one in zip(found, rates[CASES[0]], strict=True)]
        spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
        click.echo(f"{threads:7}  {spin:10}  {statistics.median(found):8.0f}  {spread}")


if __name__ == "__main__":
    main()
