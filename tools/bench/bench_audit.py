"""Time and memory of a map, flags, clusters and an audit of 100,000 events, and equal bytes.

hepllm simulate --rnd 100000 --blackbox 0 --signal-fraction 0.24 --output build/raw
hepllm preprocess build/raw/rnd.h5 --output build/events --set preprocess.particles_per_jet=40
python tools/bench/bench_audit.py build/events --output build/bench-audit

A training of the adapter alone, with a few steps of a tiny language model, records what it
believed; that, and the pass of `hepllm embed` over the events, are the scoring, which is told
apart. Each step is a command of its own, whose time, CPU seconds and peak memory (sum of the
proportional set sizes of its processes) are told. Steps that are done are not repeated.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from measuring import clock, peak_pss

from hepllm.data.dataset import read_dataset

_GIB = 2**30
_SAME = ("audit.parquet", "audit.csv", "review.parquet", "review.csv", "review.txt")

_TRAINING = (
    *("backbone.name=tiny-random", "backbone.device=cpu", "backbone.dtype=float32"),
    *("train.dynamics=true", "train.balance=natural", "train.hypothesis.enabled=false"),
    *("train.nfa_alone.epochs=4", "train.nfa_alone.batch_size=512", "train.epochs=0.01"),
    *("train.validation_events=200", "train.final_validation_events=2000", "train.threads=2"),
)


def measured(name: str, words: Sequence[str | Path], made: Path, output: Path) -> dict[str, float]:
    """Runs a command whose result is not there yet, and keeps what it took."""
    file = output / f"{name}.json"
    if file.is_file() and made.exists():
        found: dict[str, float] = json.loads(file.read_text())
        return found
    peaks: list[int] = []
    before = _cpu()
    command = [sys.executable, "-m", "hepllm", *map(str, words), "-q"]
    timed = clock(lambda: peaks.append(peak_pss(command)))
    found = {
        "seconds": timed.seconds,
        "others": timed.others,
        "cpu": _cpu() - before,
        "gib": peaks[0] / _GIB,
    }
    file.write_text(json.dumps(found))
    return found


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@click.command()
@click.argument("dataset", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True)
def main(dataset: Path, output: Path) -> None:
    """Trains on a DATASET, maps, embeds, and audits with one worker and with two."""
    run = output / "run"
    output.mkdir(parents=True, exist_ok=True)
    click.echo(f"{read_dataset(dataset).n_events} events")
    settings = [word for one in _TRAINING for word in ("--set", one)]
    steps = {
        "train": (
            ["train", dataset, "--output", run, "--overwrite", *settings],
            run / "validation.parquet",
        ),
        "map": (["map", run], run / "map" / "map.json"),
        "embed": (
            ["embed", run, dataset],
            run / "embed" / dataset.resolve().name / "clusters.json",
        ),
        **{
            f"audit, {workers} workers": (
                [
                    *("audit", dataset, "--run", run, "--workers", str(workers)),
                    *("--output", output / f"audit-{workers}"),
                ],
                output / f"audit-{workers}" / "overlap.json",
            )
            for workers in (1, 2)
        },
    }
    for name, (words, made) in steps.items():
        found = measured(name, words, made, output)
        click.echo(
            f"{name}: {found['seconds']:.0f} s, {found['cpu']:.0f} CPU s, peak "
            f"{found['gib']:.2f} GiB (others took {found['others']:.1f} cores)"
        )
    for file in _SAME:
        one, two = ((output / f"audit-{workers}" / file).read_bytes() for workers in (1, 2))
        if one != two:
            sys.exit(f"{file}: differs between one worker and two")
    click.echo(f"equal bytes with one worker and two: {', '.join(_SAME)}")


if __name__ == "__main__":
    main()
