"""What K labelled events of a new signal say to a model that was trained to read them.

For each signal of a dataset, K events (half of them signal) stand before events to classify, whose
AUC is compared with that of the same model without them, with the hypothesis in words, and with
classifiers that are trained on these K events alone. Events of the training are left out; the
signals should be others than its own.

python tools/studies/labelled_examples.py --signal DATASET --background DATASET --run runs/reads \
    --output study.json
python tools/studies/labelled_examples.py --table study.json     # the table again
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hepllm.arrays import Floats, Ints
from hepllm.config import HypothesesConfig
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable, concatenate
from hepllm.data.signal_truth import signal_truth
from hepllm.evaluation.metrics import auc
from hepllm.evaluation.paired_tests import mean_interval
from hepllm.evaluation.scores import scored_events
from hepllm.hypotheses.hypothesis import OPEN, parse_hypothesis
from hepllm.hypotheses.phrases import EXACT, phrase
from hepllm.hypotheses.signal import Signal
from hepllm.labelling.local import run_model
from hepllm.labelling.predictions import Context, Request
from hepllm.learning.inputs import model_inputs
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.scoring import score_events
from hepllm.runs.averaged import averaged_run
from hepllm.runs.folder import Run, open_run
from hepllm.runs.questions import fill
from hepllm.schema import BACKGROUND, SIGNAL

Made = tuple[EventClassifier, PromptEncoder]

FEWEST_FOR_TREES = 16
"""Examples below which trees with three events in a leaf cannot be grown."""


@dataclass(frozen=True, eq=False)
class Case:
    """Events of one signal, with as much background: first examples, then targets.

    Attributes:
        signal: the signal.
        number: its number.
        table: the events.
        n_examples: how many of them are examples; each two of them have both classes.
    """

    signal: Signal
    number: int
    table: EventTable
    n_examples: int


def cases(
    folders: tuple[Path, Path], run: Run, n_examples: int, n_targets: int, seed: int
) -> Iterator[Case]:
    """Draws events of each signal, and as much background; no event is in two cases."""
    names, used = run.config.train.feature_names(), run.used_events()
    dataset, other = (read_dataset(folder) for folder in folders)
    signal, background = dataset.load(names), other.load(names)
    signal, background = (
        table.take(np.flatnonzero((table.label == label) & ~np.isin(table.event_digest, used)))
        for table, label in ((signal, SIGNAL), (background, BACKGROUND))
    )
    truth = signal_truth(dataset, signal)
    random = np.random.default_rng([seed, 97])
    mixed = random.permutation(len(background))
    n_each = (n_examples + n_targets) // 2
    for number, known in enumerate(truth.signals):
        mine = random.permutation(np.flatnonzero(truth.place == number))[:n_each]
        theirs = mixed[number * n_each : (number + 1) * n_each]
        pairs = np.arange(2 * n_each).reshape(2, n_each).T.ravel()
        whole = concatenate([signal.take(mine), background.take(theirs)]).take(pairs)
        yield Case(known, number, whole, n_examples)


def area(scores: Floats, labels: Any) -> float:
    """AUC."""
    found = auc(scored_events(scores, labels)).value
    if found is None:
        raise SystemExit("targets of one class")
    return found


def measure(
    case: Case, run: Run, made: Made, counts: Sequence[int], *, masses: int, wrong: float, seed: int
) -> list[dict[str, Any]]:
    """AUC of the targets of a signal after K examples, and of what K events alone teach."""
    names, first = run.config.train.feature_names(), case.n_examples
    inputs = model_inputs(case.table, names)
    inputs = replace(inputs, hypothesis=fill(OPEN, len(inputs)))
    words = ("background", "signal")
    model = run_model(*made, inputs, words, names, serial=False, name=str(run.folder))
    average = averaged_run(run, made, inputs, HypothesesConfig(masses=masses))
    targets, truth = tuple(range(first, len(case.table))), case.table.label[first:]
    asked = parse_hypothesis(phrase(case.signal, np.random.default_rng(seed), vagueness=EXACT))
    told = replace(inputs.take(slice(first, None)), hypothesis=fill(asked, len(targets)))
    stated = score_events(*made, told, batch_size=None)
    rows = [{"count": 0, "method": "hypothesis in words", "auc": area(stated, truth)}]
    random = np.random.default_rng([seed, case.number])
    for count in counts:
        chosen = random.permutation(count)  # pairs of both classes, in a random order
        flipped = random.random(count) < wrong
        labels = np.where(flipped, 1 - case.table.label[chosen], case.table.label[chosen])
        context = Context(tuple(chosen.tolist()), tuple(labels.tolist()))
        (odds,) = model.log_odds([Request(context, targets)])
        rows.append({"count": count, "method": "in context", "auc": area(odds, truth)})
        (odds,) = average.log_odds([Request(context, targets)])
        rows.append({"count": count, "method": "averaged", "auc": area(odds, truth)})
        rows += [
            {"count": count, "method": name, "auc": area(scores, truth)}
            for name, scores in _taught(case.table, chosen, labels.astype(np.int8), first)
        ]
    return [{"signal": case.number, "masses": str(case.signal.masses), **row} for row in rows]


def _taught(
    table: EventTable, chosen: Ints, labels: Any, first: int
) -> Iterator[tuple[str, Floats]]:
    """Scores of targets by classifiers that are trained on the examples alone."""
    if not len(chosen):
        return
    if len(set(labels.tolist())) < 2:
        return
    linear = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(C=0.1))
    trees = HistGradientBoostingClassifier(min_samples_leaf=3, max_iter=50, random_state=1)
    for name, model in (("logistic", linear), ("boosting", trees)):
        if name == "logistic" or len(chosen) >= FEWEST_FOR_TREES:
            model.fit(table.features[chosen], labels)
            yield name, np.asarray(model.predict_proba(table.features[first:])[:, 1])


def table_of(rows: Sequence[dict[str, Any]]) -> str:
    """Mean AUC over the signals by method and number of examples, and its gain over none.

    The gain has Student's 95 % interval for other signals.
    """
    alone = {
        row["signal"]: row["auc"]
        for row in rows
        if row["method"] == "in context" and not row["count"]
    }
    lines = [
        "| method | examples | mean AUC over signals | minus the same model without | above it |",
        "|---|---|---|---|---|",
    ]
    for method, count in dict.fromkeys((row["method"], row["count"]) for row in rows):
        mine = {
            row["signal"]: row["auc"]
            for row in rows
            if (row["method"], row["count"]) == (method, count)
        }
        gain = np.array([area - alone[signal] for signal, area in mine.items()])
        ends = mean_interval(gain, 0.95)
        interval = "" if ends is None else f" [{ends[0]:+.3f}, {ends[1]:+.3f}]"
        lines.append(
            f"| {method} | {count} | {np.mean([*mine.values()]):.3f} | {gain.mean():+.3f}"
            f"{interval} | {(gain > 0).sum()} of {len(gain)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs the study and writes its rows, or prints the table of rows that are written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, help="rows to print; nothing is run")
    parser.add_argument("--signal", type=Path)
    parser.add_argument("--background", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[0, 4, 8, 16, 32])
    parser.add_argument("--targets", type=int, default=400)
    parser.add_argument("--masses", type=int, default=12, help="of X and Y, to average over")
    parser.add_argument("--wrong", type=float, default=0.0, help="share of wrong labels")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.table:
        print(table_of(json.loads(options.table.read_text(encoding="utf-8"))))
        return
    if None in (options.signal, options.background, options.run, options.output):
        parser.error("--signal, --background, --run and --output are needed, or --table")
    if any(count % 2 for count in options.counts):
        parser.error("--counts: even numbers, for as many examples of each class")
    torch.set_num_threads(1)
    run, rows = open_run(options.run), list[dict[str, Any]]()
    made = run.load_classifier()
    folders = options.signal, options.background
    for case in cases(folders, run, max(options.counts), options.targets, options.seed):
        rows += measure(
            case,
            run,
            made,
            options.counts,
            masses=options.masses,
            wrong=options.wrong,
            seed=options.seed,
        )
        options.output.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(table_of(rows))


if __name__ == "__main__":
    main()
