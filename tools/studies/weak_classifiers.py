"""Compares classifiers without labels: boosting, MLP, the adapter alone, the language model.

python tools/studies/weak_classifiers.py run --background DATASET --signal DATASET \
    --test-background DATASET --output FOLDER --classifier boosting --classifier adapter
python tools/studies/weak_classifiers.py table FOLDER...     # the table of docs/results/weak.md

Each box is drawn from the datasets, and has trainings of its own: data of one region against both
sidebands, in folds. Labels only mix the boxes, and measure. Events of the region that are not in
the box are the test; each is scored by the classifier of one fold, drawn at random, as the share of
the fold's test background that it exceeds, so that folds are joined at equal background efficiency.
A line is written for each classifier of a box, so that a study that was stopped goes on.

``adapter`` is the numeric adapter with a linear layer in place of the language model; ARGOS on the
validation events of a fold chooses its epochs. ``model`` is ``hepllm train --weak signal-region``,
in a folder beside the lines.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from weak_search import PATH, Line, Lines, band, drawn

from hepllm.config import Config, load_config, override_config
from hepllm.data.dataset import Dataset, read_dataset
from hepllm.data.event_table import EventTable, concatenate
from hepllm.data.manifest import CutFlowStep, SourceFile
from hepllm.data.writer import DatasetWriter, make_table
from hepllm.evaluation.metrics import auc, max_sic_in_sample, roc
from hepllm.evaluation.scores import ScoredEvents
from hepllm.files import write_aside
from hepllm.learning.adapter_alone import fit_alone
from hepllm.learning.inputs import model_inputs
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.steps import Trainer, TrainingData
from hepllm.model.scoring import score_events
from hepllm.runs.folder import make_classifier
from hepllm.runs.weak_box import WeakInputs, open_weak_inputs
from hepllm.runs.weak_datasets import write_fold_dataset
from hepllm.schema import BACKGROUND, SIGNAL
from hepllm.stages.weak_training import FoldModels, model_config
from hepllm.weak.ensemble import fit_ensemble
from hepllm.weak.folds import FoldTask, at_equal_efficiency
from hepllm.weak.scan import find_excess
from hepllm.weak.selection import weighted_argos
from hepllm.weak.templates import training_sample

LOG = logging.getLogger("hepllm.weak_classifiers")
Floats = NDArray[np.float64]
Score = Callable[[EventTable], Floats]

LINES = "lines.jsonl"
KEYS = ("classifier", "fraction", "seed")
EPOCHS = (2, 5, 15)
"""Passes of the adapter alone, of which the validation events of a fold choose."""

LEVELS = (1e-2, 1e-3)
QUANTITIES = ("sic_0.001", "sic_0.01", "max_sic", "local_sigma", "p_value")

NEEDED = 10
"""Background events that pass where a maximum of the SIC is quoted."""


@click.group()
def main() -> None:
    """Compares classifiers without labels."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


@dataclass(frozen=True, eq=False)
class Boxes:
    """Events that boxes and tests are made of: background, a signal, and further background."""

    background: EventTable
    signal: EventTable
    further: EventTable
    dataset: Dataset

    def draw(self, size: int, fraction: float, seed: int) -> tuple[EventTable, EventTable]:
        """A box of some events, and all others as its test."""
        random = np.random.default_rng([seed, 71])
        n_signal = round(fraction * size)
        tables, numbers = (self.background, self.signal), (size - n_signal, n_signal)
        picked = [
            drawn(len(one), number, random) for one, number in zip(tables, numbers, strict=True)
        ]
        box = concatenate([one.take(mask) for one, mask in zip(tables, picked, strict=True)])
        others = [one.take(~mask) for one, mask in zip(tables, picked, strict=True)]
        order = random.permutation(len(box))
        return box.take(order), concatenate([*others, self.further])

    def write(self, box: EventTable, folder: Path) -> None:
        """Writes a box as a dataset without labels."""
        if (folder / "manifest.json").is_file():
            return
        rows = {
            "event_id": np.arange(len(box)),
            "event_digest": box.event_digest,
            "label_raw": np.full(len(box), -1, np.int16),
            "weight": np.ones(len(box)),
        }
        split = np.zeros(len(box), np.int8)
        table = make_table(rows, box.columns(), (0, ["box"]), split)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with write_aside(folder) as aside:
            aside.mkdir()
            writer = DatasetWriter(aside)
            writer.write(table)
            source = SourceFile(name="box", file="drawn", size=0, sha256="", events=len(box))
            steps = [CutFlowStep(name="drawn", events=len(box))]
            writer.finish(self.dataset.manifest.config, [source], steps, box.names)


def read_boxes(background: Path, signal: Path, further: Path, names: Sequence[str]) -> Boxes:
    """Reads the pools, with features, mass and the masses of the jets."""
    columns = tuple(dict.fromkeys((*names, "m_jj", "jet_mass_light", "jet_mass_delta")))
    tables = []
    for folder, label in ((background, BACKGROUND), (signal, SIGNAL), (further, BACKGROUND)):
        table = read_dataset(folder).load(columns)
        tables.append(table.take(table.label == label))
    return Boxes(*tables, read_dataset(background))


def by_trees_or_network(inputs: WeakInputs, task: FoldTask) -> Score:
    """Boostings or small networks, as ``hepllm search --weak`` trains them."""
    training, around = inputs.training, inputs.data.take(inputs.fold != task.fold)
    seed = training.seed_of(task)
    template = training.maker.make(around, task.region, None, seed)
    sample = training_sample(around, task.region, template, training.maker.names, seed)
    ensemble = fit_ensemble(sample, training.classifier, training.members)
    return lambda table: ensemble.score(features_of(table, training.maker.names))


def features_of(table: EventTable, names: Sequence[str]) -> Floats:
    """Some features of a table, in this order."""
    return np.column_stack([table.column(name) for name in names])


def by_adapter(inputs: WeakInputs, task: FoldTask, config: Config, folder: Path) -> Score:
    """The adapter alone, on the dataset of ``hepllm train --weak``; ARGOS chooses the epochs."""
    data = folder / "data" / f"fold-{task.fold}"
    write_fold_dataset(inputs, task, data)
    names = inputs.training.maker.names
    train, validation = (read_dataset(data).load(names, split) for split in ("train", "val"))
    best, kept = -np.inf, None
    for epochs in EPOCHS:
        changes = ["backbone.name=tiny-random", f"train.nfa_alone.epochs={epochs}"]
        plan = TrainingPlan.of(override_config(config, changes))
        made = make_classifier(override_config(config, changes))
        trainer = Trainer.fresh(*made, TrainingData(train, validation), plan)
        nfa = trainer.classifier.nfa
        if nfa is None:
            raise RuntimeError("the configuration has no adapter")
        nfa.fit(model_inputs(train))
        model = fit_alone(nfa, trainer)
        score, is_data = model.score(model_inputs(validation)), validation.label == SIGNAL
        found = weighted_argos((score[is_data], score[~is_data]), validation.weight[~is_data])
        LOG.info("fold %d, %d epochs: ARGOS %.4f", task.fold, epochs, found)
        if found > best:
            best, kept = found, model
    if kept is None:
        raise RuntimeError("no number of epochs")
    return lambda table: kept.score(model_inputs(table, names))


def by_model(inputs: WeakInputs, task: FoldTask, config: Config, folder: Path) -> Score:
    """The language model of ``hepllm train --weak signal-region``, trained or gone on with."""
    run = FoldModels(folder, config).trained(inputs, task)
    classifier, encoder = run.load_classifier()
    names = run.config.train.feature_names()
    return lambda table: score_events(
        classifier, encoder, model_inputs(table, names), batch_size=None
    )


def measure(inputs: WeakInputs, test: EventTable, fit: Callable[[FoldTask], Score]) -> Line:
    """SIC of all folds on events of the region that are not in the box, and the search in the box.

    The p-value takes the scores as given, as that of a search; with a fraction of 0, boxes that are
    each trained for say how often it is small by chance.
    """
    region, n_folds = inputs.regions[0], inputs.config.evaluation.search.weak.folds
    test = test.take(region.signal(test.column("m_jj")))
    random = np.random.default_rng([inputs.config.seed, 74])
    part = random.integers(n_folds, size=len(test))
    share, in_box = np.empty(len(test)), np.empty(len(inputs.data))
    for task in inputs.tasks:
        score = fit(task)
        mine = np.flatnonzero(part == task.fold)
        raw, is_background = score(test.take(mine)), test.label[mine] == BACKGROUND
        known = np.sort(raw[is_background])
        low, high = (np.searchsorted(known, raw, side=side) for side in ("left", "right"))
        # Trees give equal scores to many events, whose order is drawn.
        in_box[inputs.fold == task.fold] = score(inputs.table.take(inputs.fold == task.fold))
        share[mine] = (low + (high - low) * random.random(len(mine))) / len(known)
    events = ScoredEvents(share, test.label, np.ones(len(test)))
    curve = roc(events)
    found: Line = {
        "auc": auc(events).value,
        "n_signal": events.n_signal,
        "n_background": events.n_background,
        "max_sic": max_sic_in_sample(curve, NEEDED).sic,
    }
    for level in LEVELS:
        found[f"sic_{level:g}"] = sic_at_background(events, level)
    return found | hunt(inputs, in_box)


def hunt(inputs: WeakInputs, scores: Floats) -> Line:
    """The search in the box with the scores of all folds."""
    seed = inputs.config.seed
    joined = at_equal_efficiency(scores, inputs.fold, seed)
    events = inputs.events.take(inputs.in_range)
    found = find_excess(events, joined, inputs.regions[0], inputs.config.evaluation.search, seed)
    return {"p_value": found.p_value.value, "local_sigma": float(norm.isf(found.bump.local_p))}


def sic_at_background(events: ScoredEvents, eps_b: float) -> float:
    """eps_S / sqrt(eps_B) at the cut that keeps this share of the background."""
    background = np.sort(events.score[~events.is_signal])
    kept = max(1, round(eps_b * len(background)))
    passes = events.score[events.is_signal] >= background[-kept]
    return float(passes.mean() / np.sqrt(kept / len(background)))


@main.command()
@click.option("--background", type=PATH, required=True)
@click.option("--signal", type=PATH, required=True)
@click.option("--test-background", type=PATH, required=True)
@click.option("--classifier", "classifiers", multiple=True, required=True)
@click.option("--fraction", "fractions", type=float, multiple=True, default=(0.01, 0.005))
@click.option("--size", default=60_000, show_default=True, help="Events of a box.")
@click.option("--number", default=4, show_default=True, help="Boxes for each fraction.")
@click.option("--seed", default=1001, show_default=True)
@click.option("--set", "settings", multiple=True, help="Any setting: key=value.")
@click.option("--output", type=click.Path(path_type=Path), required=True)
def run(
    background: Path,
    signal: Path,
    test_background: Path,
    classifiers: Sequence[str],
    fractions: Sequence[float],
    *,
    size: int,
    number: int,
    seed: int,
    settings: Sequence[str],
    output: Path,
) -> None:
    """Trains classifiers on boxes, and measures them."""
    weak = "evaluation.search.weak"
    own = [f"{weak}.region=[3300,3700]", f"{weak}.folds=3", f"{weak}.members=2"]
    own += ["evaluation.search.toys=1000", "evaluation.search.max_toys=1000"]
    config = load_config(None, ["backbone.device=cpu", *own, *settings])
    pools = read_boxes(background, signal, test_background, config.train.feature_names())
    output.mkdir(parents=True, exist_ok=True)
    lines = Lines(output / LINES, KEYS)
    wanted = [
        {"classifier": name, "fraction": fraction, "seed": seed + place}
        for place in range(number)
        for fraction in fractions
        for name in classifiers
    ]
    for line in lines.missing(wanted):
        started = time.process_time()
        found = compare(pools, config, line, size, output)
        seconds = round(time.process_time() - started, 1)
        lines.add({**line, "seconds": seconds, "size": size, **found})


def compare(pools: Boxes, config: Config, line: Line, size: int, output: Path) -> Line:
    """Trains one kind of classifier on one box."""
    name, fraction, seed = (line[key] for key in KEYS)
    box, test = pools.draw(size, fraction, seed)
    folder = output / f"box-{fraction:g}-{seed}"
    pools.write(box, folder / "box")
    is_tree = name in ("boosting", "mlp")
    changes = [f"seed={seed}"]
    if is_tree:
        changes.append(f"evaluation.search.weak.classifier={name}")
    config = override_config(config, changes)
    if not is_tree:
        config = model_config(config)
    inputs = open_weak_inputs(folder / "box", config, all_columns=True)
    fits: dict[str, Callable[[FoldTask], Score]] = {
        "boosting": lambda task: by_trees_or_network(inputs, task),
        "mlp": lambda task: by_trees_or_network(inputs, task),
        "adapter": lambda task: by_adapter(inputs, task, config, folder / "adapter"),
        "model": lambda task: by_model(inputs, task, config, folder / "model"),
    }
    return measure(inputs, test, fits[name])


@main.command()
@click.argument("folders", nargs=-1, required=True, type=PATH)
def table(folders: Sequence[Path]) -> None:
    """Prints medians and 16-84 % bands, then differences to other classifiers in the same boxes."""
    groups: dict[tuple[float, str], dict[int, Line]] = defaultdict(dict)
    for folder in folders:
        for line in Lines(folder / LINES).read():
            groups[line["fraction"], line["classifier"]][line["seed"]] = line
    for (fraction, name), group in sorted(groups.items(), key=lambda one: (-one[0][0], one[0][1])):
        cells = [band([one[what] for one in group.values()]) for what in QUANTITIES]
        cells.append(band([one["seconds"] for one in group.values()]))
        click.echo(f"| {fraction:.1%} | {name} | {len(group)} | {' | '.join(cells)} |")
    for (fraction, name), group in sorted(groups.items(), key=lambda one: (-one[0][0], one[0][1])):
        for other in ("boosting", "adapter"):
            beside = groups.get((fraction, other), {})
            seeds = sorted(group.keys() & beside.keys())
            if name == other or len(seeds) < 2:
                continue
            for what in ("sic_0.001", "sic_0.01", "local_sigma"):
                less = np.array([beside[seed][what] - group[seed][what] for seed in seeds])
                error = less.std(ddof=1) / np.sqrt(len(less))
                click.echo(
                    f"{fraction:.1%}, {what}: {other} minus {name} {less.mean():+.2f} ± "
                    f"{error:.2f}, above 0 in {(less > 0).sum()} of {len(less)}"
                )


if __name__ == "__main__":
    main()
