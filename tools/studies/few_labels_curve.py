"""Follows a language model that is trained on few labels, on events that no training saw.

    python tools/studies/few_labels_curve.py DATASET... [--labels 512] [--seed 1] [--set PATH=VALUE]

The training is that of ``few_labels.py --method model``. Prints the AUC of the adapter alone, then,
by steps of both, AUC and cross-entropy on 1,000 events of the training split, half of them signal,
which are neither labelled nor in the pool, and the mean loss of the last 8 steps.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
from few_labels import STEPS, Events, begin, draw
from sklearn.metrics import roc_auc_score

from hepllm.arrays import Floats
from hepllm.config import Config
from hepllm.data.dataset import EventTable
from hepllm.learning.inputs import model_inputs
from hepllm.model.scoring import score_events

LOOKS, N_EVENTS, RECENT = (0, 15, 30, 60, STEPS), 1000, 8


def unseen(events: EventTable, seed: int) -> EventTable:
    """The last events of each class in the order from which ``draw`` takes the first."""
    random = np.random.default_rng([seed, 11])
    classes = [random.permutation(np.flatnonzero(events.label == one)) for one in (0, 1)]
    return events.take(np.concatenate([rows[-N_EVENTS // 2 :] for rows in classes]))


def line(step: str, score: Floats, table: EventTable, loss: float) -> str:
    """A row of the table."""
    entropy = np.logaddexp(0.0, np.where(table.label == 1, -score, score)).mean()
    return f"| {step} | {roc_auc_score(table.label, score):.3f} | {entropy:.2f} | {loss:.3f} |"


def main() -> None:
    """Trains, and prints a row per look."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--labels", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="Setting of the training.")
    given = parser.parse_args()
    logging.getLogger("hepllm").setLevel(logging.ERROR)
    events = Events.read(given.datasets, Config().train.feature_names())
    drawn = draw(events, None, given.labels, given.seed)
    trainer, alone = begin(drawn, given.seed, "smollm2", given.set)
    table = unseen(events.train, given.seed)
    inputs = model_inputs(table)
    print("| steps of both | AUC | cross-entropy | training loss |\n|---|---|---|---|")
    print(line("adapter alone", alone.score(inputs), table, np.nan), flush=True)
    losses: list[float] = []
    for step in range(trainer.total_steps + 1):
        if step in LOOKS or step == trainer.total_steps:
            score = score_events(trainer.classifier, trainer.encoder, inputs, batch_size=None)
            recent = float(np.mean(losses[-RECENT:])) if losses else np.nan
            print(line(str(step), score, table, recent), flush=True)
        if step < trainer.total_steps:
            losses.append(trainer.step(step, measure=False).loss)


if __name__ == "__main__":
    main()
