"""What labellings without labels reach: accuracy, predictions and seeds, by method.

Each seed draws a pool of signal and background events of two datasets. All methods have the
same budget of predictions, and are compared with labels that they never see.

python tools/studies/label_elicitation.py --signal DATASET --background DATASET \
    --backend runs/demo --seeds 10 --output study.json
python tools/studies/label_elicitation.py --table study.json     # the table again
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pool_coverage import pool_interval

from hepllm.arrays import Floats
from hepllm.config import Config, LabelConfig, load_config
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable, concatenate
from hepllm.data.signal_truth import signal_truth
from hepllm.hypotheses.hypothesis import OPEN
from hepllm.labelling.local import backbone_model, run_model
from hepllm.labelling.methods import label_pool
from hepllm.labelling.pool import Pool, make_pool
from hepllm.labelling.predictions import Context, Key, LabelModel, Predictions, Request
from hepllm.labelling.records import compare_with_truth, is_collapsed
from hepllm.labelling.wording import printed_features, write_items
from hepllm.learning.inputs import model_inputs
from hepllm.model.inputs import ModelInputs
from hepllm.runs.averaged import averaged_run
from hepllm.runs.folder import open_run
from hepllm.schema import SIGNAL

METHODS = ("zero-shot", "k-means", "soft", "icm", "iterated", "few-shot")


@dataclass(frozen=True, eq=False)
class Part:
    """The items of one pool in a model that knows those of all pools."""

    model: LabelModel
    first: int

    def log_odds(self, requests: Sequence[Request]) -> list[Floats]:
        """Asks with the places that the items have among all."""
        return self.model.log_odds(
            [
                Request(
                    Context(tuple(self.first + one for one in context.items), context.labels),
                    tuple(self.first + one for one in targets),
                )
                for context, targets in requests
            ]
        )

    def check_fit(self, size: int) -> None:
        """As the model."""
        self.model.check_fit(size)


@dataclass(frozen=True)
class Draw:
    """How pools are drawn.

    Attributes:
        folders: a dataset of signals, and one of background.
        n_events: events of a pool.
        seeds: of the pools.
        one_signal: whether the signal of a pool is one signal of the dataset, the next one for each
            seed; else it is of all signals.
        share: share of signal in a pool.
    """

    folders: tuple[Path, Path]
    n_events: int
    seeds: Sequence[int]
    one_signal: bool = False
    share: float = 0.5

    @property
    def sizes(self) -> tuple[int, int]:
        """Events of signal and of background in a pool."""
        n_signal = round(self.share * self.n_events)
        return n_signal, self.n_events - n_signal


def draw_pools(
    draw: Draw, names: Sequence[str], used: NDArray[np.uint64] | None = None
) -> list[EventTable]:
    """Pools with events of both datasets; no event is in two pools.

    Those that a training has ``used`` (their digests) are left out.
    """
    halves = []
    for place, folder in enumerate(draw.folders):
        dataset = read_dataset(folder)
        table = dataset.load(names)
        wanted = table.label == (SIGNAL, 0)[place]
        if used is not None:
            wanted &= ~np.isin(table.event_digest, used)
        table = table.take(np.flatnonzero(wanted))
        order = np.random.default_rng([99, place]).permutation(len(table))
        kind = np.zeros(len(table), dtype=np.int64)
        if draw.one_signal and place == 0:
            kind = signal_truth(dataset, table).place
        halves.append((table, order, kind[order]))
    pools = []
    for number, seed in enumerate(draw.seeds):
        parts = []
        for (table, order, kind), size in zip(halves, draw.sizes, strict=True):
            n_kinds = int(kind.max()) + 1
            mine = order[kind == number % n_kinds]
            first = number // n_kinds * size
            parts.append(table.take(mine[first : first + size]))
        whole = concatenate(parts)
        pools.append(whole.take(np.random.default_rng([98, seed]).permutation(len(whole))))
    return pools


def open_backend(backend: str, config: Config, draw: Draw) -> tuple[list[Pool], LabelModel]:
    """The pools of all seeds, and the model that reads their items one after another."""
    settings, seeds = config.label, draw.seeds
    if backend == "local":
        names = printed_features(settings)
        tables = draw_pools(draw, names)
        pools = _pools(tables, names, settings, seeds)
        numbers = np.concatenate([pool.inputs.numbers for pool in pools])
        wording = write_items(numbers, names, settings, OPEN)
        return pools, backbone_model(config.backbone, wording, seed=config.seed, serial=False)
    run = open_run(Path(backend))
    names = run.config.train.feature_names()
    tables = draw_pools(draw, names, run.used_events())
    pools = _pools(tables, names, settings, seeds)
    classifier, encoder = run.load_classifier()
    items = ModelInputs.concatenate([pool.inputs for pool in pools])
    if settings.hypotheses.masses:
        return pools, averaged_run(run, (classifier, encoder), items, settings.hypotheses)
    model = run_model(classifier, encoder, items, settings.names, names, serial=False, name=backend)
    return pools, model


def _pools(
    tables: Sequence[EventTable], names: Sequence[str], settings: LabelConfig, seeds: Sequence[int]
) -> list[Pool]:
    return [
        make_pool(table, model_inputs(table, names), settings.views, seed)
        for table, seed in zip(tables, seeds, strict=True)
    ]


def measure(
    pool: Pool,
    model: LabelModel,
    config: Config,
    *,
    method: str,
    known: dict[Key, float],
    seed: int,
) -> dict[str, Any]:
    """Labels a pool by a method; what others have predicted counts, but is not asked again."""
    settings = config.label.model_copy(update={"method": method})
    predictions = Predictions(model, settings.budget, known)
    started = time.process_time()
    found = label_pool(pool, predictions, settings, seed)
    known |= predictions.answers()
    truth = compare_with_truth(found.labels, found.soft, pool.table.label, 0.95)
    if truth is None:
        raise SystemExit(f"{method}: labelled no event; raise label.budget")
    row = {
        "method": method,
        "seed": seed,
        "accuracy": truth.accuracy.value,
        "auc": truth.auc,
        "events": truth.accuracy.n_events,
        "predictions": predictions.n_used,
        "collapsed": is_collapsed(found.labels, settings.collapse),
        "signal_share": float((found.labels == SIGNAL).mean()),
        "mean_log_probability": found.mean_log_probability,
        "inconsistencies": found.inconsistencies,
        "cpu_seconds": time.process_time() - started,
    }
    if found.start_log_odds is not None:
        before = (found.start_log_odds > 0) == (pool.table.label == SIGNAL)
        row |= {"start_accuracy": float(before.mean()), "details": dict(found.details)}
    return row


def table_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Mean, median and range of each method over the pools, as Markdown."""
    head = (
        "| method | mean accuracy [95 %, other pools] | median (range) over pools | median AUC "
        "| median predictions | collapsed |"
    )
    lines = [head, "|---|---|---|---|---|---|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        each = [row["accuracy"] for row in mine]
        right = [round(row["accuracy"] * row["events"]) for row in mine]
        shown = f"{np.mean(each):.3f}"
        if len(mine) > 1:
            low, high = pool_interval(right, mine[0]["events"])
            shown += f" [{low:.3f}, {high:.3f}]"
        areas = [row["auc"] for row in mine if row["auc"] is not None]
        lines.append(
            f"| {method} | {shown} | {np.median(each):.3f} "
            f"({min(each):.3f} to {max(each):.3f}) | {np.median(areas):.3f} | "
            f"{np.median([row['predictions'] for row in mine]):.0f} | "
            f"{sum(row['collapsed'] for row in mine)} of {len(mine)} |"
        )
    for method in dict.fromkeys(row["method"] for row in rows):
        called = [row["signal_share"] for row in rows if row["method"] == method]
        lines.append(f"\n{method} calls {min(called):.2f} to {max(called):.2f} signal")
    soft = [row for row in rows if "start_accuracy" in row]
    if soft:
        above = sum(row["accuracy"] > row["start_accuracy"] for row in soft)
        equal = sum(row["accuracy"] == row["start_accuracy"] for row in soft)
        lines.append(
            f"\nsoft above its start in {above} of {len(soft)} seeds, equal in {equal}; "
            f"median start {np.median([row['start_accuracy'] for row in soft]):.3f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs the study and writes its rows, or prints the table of rows that are written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, help="rows to print; nothing is run")
    parser.add_argument("--signal", type=Path)
    parser.add_argument("--background", type=Path)
    parser.add_argument("--backend", default="local")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--events", type=int, default=64)
    parser.add_argument("--one-signal", action="store_true", help="one signal for each pool")
    parser.add_argument("--share", type=float, default=0.5, help="of signal; see label.prior")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.table:
        print(table_of(json.loads(options.table.read_text(encoding="utf-8"))))
        return
    if None in (options.signal, options.background, options.output):
        parser.error("--signal, --background and --output are needed, or --table")
    torch.set_num_threads(1)
    config = load_config(None, options.overrides)
    seeds = range(options.seeds)
    folders = options.signal, options.background
    draw = Draw(folders, options.events, seeds, options.one_signal, options.share)
    pools, model = open_backend(options.backend, config, draw)
    firsts = np.cumsum([0, *(len(pool.event) for pool in pools[:-1])]).tolist()
    known: list[dict[Key, float]] = [{} for _ in pools]
    rows: list[dict[str, Any]] = []
    for method in options.methods:
        for seed, pool, first, kept in zip(seeds, pools, firsts, known, strict=True):
            part = Part(model, first)
            rows.append(measure(pool, part, config, method=method, known=kept, seed=seed))
            print({key: rows[-1][key] for key in ("method", "seed", "accuracy", "predictions")})
            options.output.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(table_of(rows))


if __name__ == "__main__":
    main()
