"""What a stated hypothesis brings at masses and decays that no training had.

python tools/studies/hypotheses.py --train DATASET --held DATASET --output FOLDER --peers-only
python tools/studies/hypotheses.py --train DATASET --held DATASET --output FOLDER \
    --run RUN1 --run RUN2 --run RUN3

python tools/studies/hypotheses.py --train DATASET --box BOX1 --box BOX2 --output FOLDER --run RUN

DATASET of --train has signals of a grid and background; all classifiers are trained on its training
split in the balance of the runs, and tested on its background test split. That of --held has other
signals of the same grid ('hepllm simulate --grid'), of which the first 1,500 events each train
"dedicated", a boosting that knows one signal alone, and the others are tested. Classifiers:

boosting, mlp      without the hypothesis
..._hypothesis     with the stated masses and decays as numbers
..._differences    also with the log ratios of jet masses to stated masses
llm                the language model of the runs, under the hypothesis in words

With --box, the signals are those of labelled boxes, each on its own background; --signal states the
signal of a box that does not know it. No boosting is then trained on a signal alone. --against
names trainings of another recipe, with the seeds of --run in the same order.

And what each is asked: "own", the true hypothesis; "rephrased", the same in a phrasing that no
training has; "wrong", that of the signal half of all signals further on in mass; "masses", only the
masses of the true one; "open", none. Intervals of 95 % come from replicas of all events, paired
between classifiers, and from the scatter of the trainings. A last table compares what each training
says when it is asked otherwise with what it says under the true hypothesis, and pairs of trainings
of one seed with one another; its AUC means nothing where --keep or --rephrase leave events out.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from case_means import METRICS, Floats, Mean, Measured, Scored, measure
from hypothesis_cases import (
    Cascade,
    Case,
    Classifier,
    RunClassifier,
    Training,
    canonical,
    case_of_box,
    cases_of,
    fit_dedicated,
    fit_peer,
    rephrased,
    wrong_place,
)

from hepllm.baselines.fitting import reads_hypotheses
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable
from hepllm.hypotheses.hypothesis import OPEN, Hypothesis, parse_hypothesis
from hepllm.hypotheses.phrases import describe
from hepllm.logs import configure_logging
from hepllm.runs.folder import open_run
from hepllm.schema import BACKGROUND, feature_names

LOG = logging.getLogger("hepllm.hypotheses")

PEERS = (
    "boosting",
    "boosting_hypothesis",
    "boosting_differences",
    "mlp",
    "mlp_hypothesis",
    "mlp_differences",
)
DEDICATED, MODEL, AGAINST = "dedicated", "llm", "against"

ASKED: dict[str, Callable[[Sequence[Case], int], Hypothesis]] = {
    "own": lambda cases, place: canonical(cases[place].signal),
    "rephrased": lambda cases, place: rephrased(cases[place].signal, place),
    "wrong": lambda cases, place: canonical(cases[wrong_place(place, len(cases))].signal),
    "masses": lambda cases, place: canonical(cases[place].signal, decays=False),
    "open": lambda _, __: OPEN,
}
"""The hypothesis under which a case is scored."""


@dataclass(frozen=True)
class Study:
    """Cases, and the scores of their events by label: for each training those of each case."""

    cases: list[Case]
    scored: dict[str, list[list[Scored]]]

    @property
    def background(self) -> EventTable:
        """That of the first case."""
        return self.cases[0].background

    def add(self, name: str, classifier: Classifier, asked: Sequence[str]) -> None:
        """Scores all cases by another training of a classifier, each time asked otherwise."""
        for what in asked:
            known: dict[tuple[Any, int], Floats] = {}
            found = []
            for place, case in enumerate(self.cases):
                hypothesis = ASKED[what](self.cases, place)
                key = hypothesis.pieces, id(case.background)
                if key not in known:
                    known[key] = classifier(case.background, hypothesis)
                found.append(Scored(classifier(case.events, hypothesis), known[key]))
            label = name if what == "own" else f"{name} {what}"
            self.scored.setdefault(label, []).append(found)


@click.command()
@click.option("--train", "train_folder", type=Path, required=True)
@click.option("--held", type=Path)
@click.option("--box", "boxes", type=Path, multiple=True)
@click.option("--signal", help="hypothesis that is true of boxes without truth")
@click.option("--run", "runs", type=Path, multiple=True, help="trainings of one recipe")
@click.option("--against", type=Path, multiple=True, help="trainings of another recipe")
@click.option(
    "--keep",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="share of the background that boosting_differences leaves to the language model",
)
@click.option(
    "--rephrase",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="share of the background, best under the true hypothesis, scored in another phrasing",
)
@click.option("--peers-only", is_flag=True, help="no language model")
@click.option("--peer", "peers", multiple=True, default=PEERS, show_default=True)
@click.option("--asked", multiple=True, default=("own", "rephrased", "wrong", "open"))
@click.option("--balance", default="1:1", show_default=True, help="of the training events")
@click.option("--features", default="search", show_default=True)
@click.option("--own", default=1500, show_default=True, help="events that train 'dedicated'; 0: no")
@click.option("--split", default="test", show_default=True, help="val to choose settings")
@click.option("--test-background", default=75_000, show_default=True, help="at most")
@click.option("--open-share", default=0.2, show_default=True)
@click.option("--seeds", default=3, show_default=True, help="trainings of each peer; 0: no peers")
@click.option("--replicas", default=300, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--output", type=Path, required=True)
def main(
    *,
    train_folder: Path,
    held: Path | None,
    boxes: Sequence[Path],
    signal: str | None,
    runs: Sequence[Path],
    against: Sequence[Path],
    keep: float,
    rephrase: float,
    peers_only: bool,
    peers: Sequence[str],
    asked: Sequence[str],
    balance: str,
    features: Any,
    own: int,
    split: str,
    test_background: int,
    open_share: float,
    seeds: int,
    replicas: int,
    seed: int,
    output: Path,
) -> None:
    """Measures classifiers under hypotheses of signals that no training had."""
    configure_logging(0)
    _check(held, boxes, runs, against, peers_only=peers_only)
    dataset, names = read_dataset(train_folder), feature_names(features)
    if held is not None:
        test = dataset.load(names, split)
        test = test.take(np.flatnonzero(test.label == BACKGROUND)[:test_background])
        cases = cases_of(held, test, own)
    else:
        stated = None if signal is None else parse_hypothesis(signal).signal
        cases, own = [case_of_box(box, names, stated) for box in boxes], 0
    study = Study(cases, {})
    training = Training.of(dataset, names, balance, seed)
    for number in range(seed, seed + seeds):
        LOG.info("peers of seed %d", number)
        if own:
            study.scored.setdefault(DEDICATED, []).append(_dedicated(study.cases, training, number))
        for peer in peers:
            of_peer = [what for what in asked if what != "rephrased"]
            of_peer = of_peer if reads_hypotheses(peer) else ["own"]
            study.add(peer, fit_peer(peer, training, number, open_share), of_peer)
    compared = [(MODEL, folder) for folder in runs] + [(AGAINST, folder) for folder in against]
    for name, folder in () if peers_only else compared:
        LOG.info("scoring by %s", folder)
        model: Classifier = RunClassifier(open_run(folder), output / "scores" / folder.name)
        if keep < 1:
            quick = fit_peer("boosting_differences", training, seed, open_share)
            model = Cascade(quick, model, keep, study.background)
        elif rephrase < 1:
            phrased = Cascade(partial(_in_plain_words, model), model, rephrase, study.background)
            study.add(name, phrased, [what for what in asked if what == "rephrased"])
        rest = [what for what in asked if what != "rephrased" or keep < 1 or rephrase == 1]
        study.add(name, model, rest)
    _write(study, output, replicas, seed)


def _check(
    held: Path | None,
    boxes: Sequence[Path],
    runs: Sequence[Path],
    against: Sequence[Path],
    *,
    peers_only: bool,
) -> None:
    if (held is None) == (not boxes):
        raise click.UsageError("name the signals by either --held or --box")
    if not runs and not peers_only:
        raise click.UsageError("name the runs with --run, or give --peers-only")
    if against and len(against) != len(runs):
        raise click.UsageError("give as many trainings with --against as with --run")


def _in_plain_words(model: Classifier, events: EventTable, hypothesis: Hypothesis) -> Floats:
    return model(events, canonical(hypothesis.signal))


def _dedicated(cases: Sequence[Case], training: Training, seed: int) -> list[Scored]:
    found = []
    for case in cases:
        classifier = fit_dedicated(case, training, seed)
        found.append(Scored(classifier(case.events, OPEN), classifier(case.background, OPEN)))
    return found


def _write(study: Study, output: Path, replicas: int, seed: int) -> None:
    LOG.info("measuring")
    values, means = measure(study.scored, replicas, seed)
    found = {
        label: {key: Mean.of(one, seed + i) for key, one in by_metric.items()}
        for i, (label, by_metric) in enumerate(means.items())
    }
    key = METRICS[0]
    ratios = {
        label: one[key].over(found[DEDICATED][key])
        for label, one in found.items()
        if DEDICATED in found
    }
    tree = {
        "signals": [describe(case.signal) for case in study.cases],
        "n_signal": [len(case.events) for case in study.cases],
        "n_background": [len(case.background) for case in study.cases],
        "metrics": METRICS,
        "classifiers": {
            label: {
                "trainings": len(study.scored[label]),
                "mean": {key: [one.value, *one.interval] for key, one in by_metric.items()},
                "ratio_to_dedicated": [ratios[label].value, *ratios[label].interval]
                if ratios
                else None,
                "by_training_and_signal": values[label].tolist(),
            }
            for label, by_metric in found.items()
        },
    }
    output.mkdir(parents=True, exist_ok=True)
    (output / "hypotheses.json").write_text(json.dumps(tree, indent=1), encoding="utf-8")
    table = _table(study, found, ratios, values) + _asked_table(means, seed)
    (output / "hypotheses.md").write_text(table, encoding="utf-8")
    sys.stdout.write(table)


def _table(
    study: Study,
    found: dict[str, dict[str, Mean]],
    ratios: dict[str, Mean],
    values: dict[str, Floats],
) -> str:
    head = "trainings", "SIC at eps_B = 1e-3", "over dedicated", "SIC at eps_S = 0.5", "AUC"
    lines = [f"| classifier | {' | '.join(head)} |", "|---" * (1 + len(head)) + "|"]
    for label, by_metric in found.items():
        tight, half, area = (by_metric[key] for key in METRICS)
        ratio = _cell(ratios[label], 2) if ratios else ""
        shown = _cell(tight, 1), ratio, _cell(half, 1), _cell(area, 4)
        lines.append(f"| {label} | {len(study.scored[label])} | {' | '.join(shown)} |")
    names = [f"{one.signal.masses[0]:g}/{one.signal.masses[1]:g}" for one in study.cases]
    lines += ["", f"| SIC at eps_B = 1e-3 | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for label, value in values.items():
        cells = " | ".join(f"{one:.1f}" for one in value[..., 0].mean(axis=0))
        lines.append(f"| {label} | {cells} |")
    return "\n".join([*lines, ""])


def _asked_table(means: dict[str, Measured], seed: int) -> str:
    """Each training asked otherwise, against itself under the true hypotheses; and its pair."""
    head = "SIC at eps_B = 1e-3, ratio", "SIC at eps_S = 0.5, ratio", "AUC, difference"
    lines = [
        "",
        f"| classifier, asked | over | {' | '.join(head)} |",
        "|---" * (2 + len(head)) + "|",
    ]
    tight, half, area = METRICS
    pairs = [(label, label.rpartition(" ")[0]) for label in means]
    pairs += [(label, label.replace(MODEL, AGAINST)) for label in means if MODEL in label]
    for label, other in pairs:
        if other not in means:
            continue
        one, two = means[label], means[other]
        cells = [
            *(_cell(Mean.ratio(one[key], two[key], seed), 3) for key in (tight, half)),
            _cell(Mean.difference(one[area], two[area], seed), 4),
        ]
        lines.append(f"| {label} | {other} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""]) if len(lines) > 3 else ""


def _cell(mean: Mean, digits: int) -> str:
    low, high = mean.interval
    return f"{mean.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


if __name__ == "__main__":
    main()
