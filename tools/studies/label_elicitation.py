"""What labellings without labels reach: accuracy, predictions and seeds, by method.

Each seed draws a pool of as many signal as background events of two datasets. All methods have the
same budget of predictions, and are compared with labels that they never see.

python tools/studies/label_elicitation.py --signal DATASET --background DATASET \
    --backend runs/demo --seeds 10 --output study.json
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
from scipy.stats import binomtest

from hepllm.arrays import Floats
from hepllm.config import Config, LabelConfig, load_config
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable, concatenate
from hepllm.hypotheses.hypothesis import OPEN
from hepllm.labelling.local import backbone_model, run_model
from hepllm.labelling.methods import label_pool
from hepllm.labelling.pool import Pool, make_pool
from hepllm.labelling.predictions import Context, Key, LabelModel, Predictions, Request
from hepllm.labelling.records import compare_with_truth, is_collapsed
from hepllm.labelling.wording import printed_features, write_items
from hepllm.learning.inputs import model_inputs
from hepllm.model.inputs import ModelInputs
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


def draw_pools(
    folders: tuple[Path, Path], names: Sequence[str], n_events: int, seeds: Sequence[int]
) -> list[EventTable]:
    """Pools with half of their events from each dataset; no event is in two pools."""
    halves = []
    for place, folder in enumerate(folders):
        table = read_dataset(folder).load(names)
        table = table.take(np.flatnonzero(table.label == (SIGNAL, 0)[place]))
        order = np.random.default_rng([99, place]).permutation(len(table))
        halves.append((table, order))
    size, pools = n_events // 2, []
    for seed in seeds:
        parts = [table.take(order[seed * size : (seed + 1) * size]) for table, order in halves]
        whole = concatenate(parts)
        pools.append(whole.take(np.random.default_rng([98, seed]).permutation(len(whole))))
    return pools


def open_backend(
    backend: str, config: Config, folders: tuple[Path, Path], n_events: int, seeds: Sequence[int]
) -> tuple[list[Pool], LabelModel]:
    """The pools of all seeds, and the model that reads their items one after another."""
    settings = config.label
    if backend == "local":
        names = printed_features(settings)
        tables = draw_pools(folders, names, n_events, seeds)
        pools = _pools(tables, names, settings, seeds)
        numbers = np.concatenate([pool.inputs.numbers for pool in pools])
        wording = write_items(numbers, names, settings, OPEN)
        return pools, backbone_model(config.backbone, wording, seed=config.seed, serial=False)
    run = open_run(Path(backend))
    names = run.config.train.feature_names()
    tables = draw_pools(folders, names, n_events, seeds)
    used = run.used_events()
    if any(np.isin(table.event_digest, used).any() for table in tables):
        raise SystemExit(f"{backend}: was trained on some of these events; name other datasets")
    pools = _pools(tables, names, settings, seeds)
    classifier, encoder = run.load_classifier()
    items = ModelInputs.concatenate([pool.inputs for pool in pools])
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
    """Median and range of each method over the seeds, as Markdown."""
    head = (
        "| method | accuracy, all seeds [95 %] | median (range) over seeds | median AUC "
        "| median predictions | collapsed |"
    )
    lines = [head, "|---|---|---|---|---|---|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        each = [row["accuracy"] for row in mine]
        right = sum(round(row["accuracy"] * row["events"]) for row in mine)
        total = sum(row["events"] for row in mine)
        low, high = binomtest(right, total).proportion_ci(method="exact")
        areas = [row["auc"] for row in mine if row["auc"] is not None]
        lines.append(
            f"| {method} | {right / total:.3f} [{low:.3f}, {high:.3f}] | {np.median(each):.3f} "
            f"({min(each):.3f} to {max(each):.3f}) | {np.median(areas):.3f} | "
            f"{np.median([row['predictions'] for row in mine]):.0f} | "
            f"{sum(row['collapsed'] for row in mine)} of {len(mine)} |"
        )
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
    """Runs the study and writes its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--signal", type=Path, required=True)
    parser.add_argument("--background", type=Path, required=True)
    parser.add_argument("--backend", default="local")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--events", type=int, default=64)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(None, options.overrides)
    seeds = range(options.seeds)
    folders = options.signal, options.background
    pools, model = open_backend(options.backend, config, folders, options.events, seeds)
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
