"""What maps of a training are worth: wrong labels that they find, and trainings that go by them.

hepllm preprocess .../cathode/innerdata_*.npy --output build/cathode --config configs/cathode.yaml
python tools/studies/cartography.py labels --dataset build/cathode --output build/cartography
python tools/studies/cartography.py train --dataset build/cathode --output build/cartography
python tools/studies/cartography.py table --output build/cartography >> docs/results/cartography.md

Both draw training events of both classes for each seed, exchange 5 % of their labels, and train the
adapter alone, for CPU reasons. `labels` ranks the events by what one training believed; with
--cleanlab (pip install cleanlab) the label quality of cleanlab is a peer. `train` trains as it is,
which also makes the map, and in the ways of `train.filter` and `train.by_map`, each in as many
steps; and it joins trainings as `hepllm ensemble` does: five of other seeds, and the one as it is
with a boosting. All are judged on the test split, whose labels are right. They keep one file per
seed and go on where they were stopped. `table` writes both tables.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from torch.nn import Module

from hepllm.baselines.boosting import fit_boosting
from hepllm.baselines.scorer import TrainingSample
from hepllm.cartography.dynamics import Dynamics, PartDynamics
from hepllm.cartography.event_map import map_events
from hepllm.cartography.measures import measure
from hepllm.config import Config, load_config
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable
from hepllm.evaluation.averaging import combine
from hepllm.evaluation.calibration_choice import choose_calibration
from hepllm.evaluation.metrics import auc, roc, sic_at
from hepllm.evaluation.paired_tests import holm, mean_interval, paired_p_value
from hepllm.evaluation.scores import ScoredEvents, scored_events
from hepllm.learning.adapter_alone import train_adapter_alone
from hepllm.learning.dynamics import DynamicsRecorder
from hepllm.learning.inputs import model_inputs
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.steps import Trainer, TrainingData
from hepllm.model.classifier import EventClassifier
from hepllm.model.encoding import PromptEncoder
from hepllm.model.inputs import ModelInputs
from hepllm.runs.folder import make_classifier
from hepllm.runs.used_map import Guidance, guide, use_map

Floats = NDArray[np.float64]

FLIPPED = 0.05
FOLDS = 5
CONFIDENCE = 0.95
EFFICIENCY, LEAST_BACKGROUND = 0.5, 10
MEMBERS, VALIDATION, PRIOR = 5, 6_000, 0.5

STRATEGIES: Mapping[str, Sequence[str]] = {
    "filtered: least margin 5 %": ("train.filter=[{least_margin: 0.05}]",),
    "filtered: hard dropped": ("train.filter=[{drop: [hard]}]",),
    "smoothed, factor 0.6": ("train.by_map.smoothing=0.6",),
    "weighted, power 1": ("train.by_map.weight_power=1",),
    "curriculum, easy first": ("train.by_map.curriculum=easy_first",),
    "curriculum, ambiguous first": ("train.by_map.curriculum=ambiguous_first",),
    "filtered and smoothed": (
        "train.filter=[{least_margin: 0.05}]",
        "train.by_map.smoothing=0.6",
    ),
}
"""Settings of each way to train by the map, fixed before any result was seen."""

REFERENCES = ("boosting", "plain, right labels")
"""Rows that are no way to train on wrong labels, and are not tested."""

_SETTINGS = (
    *("backbone.name=tiny-random", "backbone.device=cpu", "backbone.dtype=float32"),
    *("train.features=cathode", "train.threads=1", "train.dynamics=true"),
    *("fusion.hidden_size=64", "train.hypothesis.enabled=false"),
)


@dataclass(frozen=True)
class Size:
    """Events, epochs and batch of a training."""

    n_events: int
    epochs: int
    batch: int

    @property
    def n_steps(self) -> int:
        """Steps on all events, which trainings on fewer events do as well."""
        return self.epochs * (self.n_events // self.batch)


OF_LABELS, OF_TRAININGS = Size(30_000, 10, 512), Size(15_000, 4, 256)


@dataclass(frozen=True, eq=False)
class Bench:
    """A training sample with wrong labels, and the events that all are judged on.

    The validation events, which calibrate the members of an ensemble, have as many wrong labels.
    """

    size: Size
    train: EventTable
    is_flipped: NDArray[np.bool_]
    validation: EventTable
    test: EventTable
    seed: int


def draw(folder: Path, seed: int, size: Size) -> Bench:
    """Draws training events of both classes, and exchanges the labels of some."""
    config = config_of(seed)
    dataset = read_dataset(folder)
    names = config.train.feature_names()
    random = np.random.default_rng([seed, 5])
    train, is_flipped = _with_wrong_labels(dataset.load(names, "train"), size.n_events, random)
    validation = _with_wrong_labels(dataset.load(names, "val"), VALIDATION, random)[0]
    return Bench(size, train, is_flipped, validation, dataset.load(names, "test"), seed)


def _with_wrong_labels(
    whole: EventTable, n_events: int, random: np.random.Generator
) -> tuple[EventTable, NDArray[np.bool_]]:
    """Draws as many events of each class, and tells whose labels it exchanged."""
    chosen = np.concatenate(
        [
            random.choice(np.flatnonzero(whole.label == one), n_events // 2, replace=False)
            for one in (0, 1)
        ]
    )
    drawn = whole.take(np.sort(chosen))
    is_flipped = np.zeros(len(drawn), dtype=np.bool_)
    is_flipped[random.choice(len(drawn), round(FLIPPED * len(drawn)), replace=False)] = True
    label = np.where(is_flipped, 1 - drawn.label, drawn.label).astype(np.int8)
    return replace(drawn, label=label), is_flipped


def config_of(seed: int, *settings: str) -> Config:
    """The settings of a training of the adapter alone."""
    return load_config(None, [*_SETTINGS, f"seed={seed}", *settings])


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained adapter with its head, and what it believed on the way."""

    nfa: Module
    head: Module
    recorder: DynamicsRecorder

    def score(self, events: EventTable) -> Floats:
        """Logits of N events, shape (N,)."""
        with torch.inference_mode():
            parts = [self.head(self.nfa(part)) for part in _parts(model_inputs(events))]
        return torch.cat(parts).double().numpy()


def train(bench: Bench, config: Config, data: TrainingData, *, passes: int = 1) -> Trained:
    """Trains the adapter alone, in as many steps as all events take, or so many times as many."""
    size = bench.size
    epochs = passes * size.n_steps / (len(data.train) // size.batch)
    alone = config.train.nfa_alone.model_copy(update={"epochs": epochs, "batch_size": size.batch})
    settings = config.train.model_copy(update={"nfa_alone": alone})
    plan = TrainingPlan.of(config.model_copy(update={"train": settings}))
    # All trainings of a seed begin with the same weights.
    trainer = Trainer.fresh(*copy.deepcopy(_made(config.seed)), data, plan)
    recorder = DynamicsRecorder(data.train, plan)
    head, nfa = train_adapter_alone(trainer, recorder), trainer.classifier.nfa
    if head is None or nfa is None:
        raise ValueError("the study trains the adapter alone, so it needs one")
    nfa.eval()
    return Trained(nfa, head, recorder)


@functools.cache
def _made(seed: int) -> tuple[EventClassifier, PromptEncoder]:
    return make_classifier(config_of(seed))


def _parts(inputs: ModelInputs) -> list[ModelInputs]:
    return [inputs.take(slice(start, start + 4096)) for start in range(0, len(inputs), 4096)]


def judge(bench: Bench, score: Floats) -> dict[str, float]:
    """AUC and SIC on the test events, whose labels are right."""
    events = scored_events(score, bench.test.label)
    found = {
        "auc": auc(events).value,
        "sic": sic_at(roc(events), EFFICIENCY, LEAST_BACKGROUND).sic,
    }
    return {name: float("nan") if value is None else value for name, value in found.items()}


def rankings(bench: Bench, record: PartDynamics, *, cleanlab: bool) -> dict[str, Floats]:
    """How suspicious each training event is, by method; larger for more."""
    measures, half = measure(record), record.n_epochs // 2
    # The last epoch that showed an event: one smaller batch of each epoch is left out.
    last = np.full(len(bench.train), np.nan)
    for column in record.margin.T.astype(np.float64):
        last = np.where(np.isnan(column), last, column)
    found = {
        "area under the margin": -measures.area_under_margin,
        "confidence": -measures.confidence,
        "variability": measures.variability,
        "forgetting": measures.forgetting + 1e3 * (measures.correctness == 0),
        "area under the margin, skip 1": -measure(record, skip=1).area_under_margin,
        "area under the margin, second half": -measure(record, skip=half).area_under_margin,
        "loss of the last epoch": -last,
    }
    boosting = HistGradientBoostingClassifier(random_state=bench.seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=bench.seed)
    train = bench.train
    probability = cross_val_predict(
        boosting, train.features, train.label, cv=folds, method="predict_proba"
    )
    truth = probability[np.arange(len(train)), train.label]
    found["loss of a boosting, 5 folds"] = -truth
    if cleanlab:
        from cleanlab.rank import get_label_quality_scores  # noqa: PLC0415 (an optional peer)

        for name in ("self_confidence", "normalized_margin"):
            quality = get_label_quality_scores(
                train.label.astype(int), probability, method=name, adjust_pred_probs=False
            )
            found[f"cleanlab {name}, boosting in 5 folds"] = -quality
        adjusted = get_label_quality_scores(
            train.label.astype(int), probability, method="self_confidence", adjust_pred_probs=True
        )
        found["cleanlab self_confidence, adjusted"] = -adjusted
    return found


def find_wrong(bench: Bench, found: Mapping[str, Floats]) -> dict[str, dict[str, float]]:
    """AUROC of wrong labels, and the share of wrong ones at the top 5 % of each ranking."""
    n_top = round(FLIPPED * len(bench.train))
    return {
        name: {
            "auroc": float(roc_auc_score(bench.is_flipped, values)),
            "precision": float(bench.is_flipped[np.argsort(-values, kind="stable")[:n_top]].mean()),
        }
        for name, values in found.items()
    }


def average(bench: Bench, members: Mapping[str, Callable[[EventTable], Floats]]) -> Floats:
    """The mean logit of test events over calibrated members, as `hepllm ensemble` has it."""
    known, logits = bench.validation, {}
    for name, score in members.items():
        own = ScoredEvents(score(known), known.label, np.ones(len(known)))
        logits[name] = choose_calibration(own, "auto", PRIOR).logits(score(bench.test))
    return combine(logits)[0]


def join(bench: Bench, plain: Trained, config: Config) -> dict[str, Floats]:
    """Scores of the ensembles, and of what they are to be compared with.

    The ensemble of trainings has none of the seed of the bench, so that it has no part in the
    training that it is compared with; it takes as many steps as that which is trained longer.
    """
    data, table = _data(bench, bench.train), bench.train
    members = {
        str(one): train(bench, config_of(100 * bench.seed + one, *_epochs(bench)), data).score
        for one in range(1, MEMBERS + 1)
    }
    names = tuple(str(place) for place in range(table.features.shape[1]))
    boosting = fit_boosting(TrainingSample(table.features, names, table.label, seed=bench.seed))

    def boosted(events: EventTable) -> Floats:
        return boosting.score(events.features)

    longer = train(bench, config, data, passes=MEMBERS)
    return {
        f"trained {MEMBERS} times as long": longer.score(bench.test),
        f"ensemble of {MEMBERS} seeds": average(bench, members),
        "ensemble with a boosting": average(bench, {"plain": plain.score, "boosting": boosted}),
        "boosting": boosted(bench.test),
    }


def plain_of(bench: Bench) -> tuple[Config, Trained]:
    """Settings of the training as it is, and the training."""
    config = config_of(bench.seed, *_epochs(bench))
    return config, train(bench, config, _data(bench, bench.train))


def _epochs(bench: Bench) -> tuple[str, ...]:
    return (f"train.nfa_alone.epochs={bench.size.epochs}",)


def _data(bench: Bench, events: EventTable, by_map: Guidance | None = None) -> TrainingData:
    few = bench.test.take(np.arange(64))  # nothing is validated
    if by_map is None:
        return TrainingData(events, few)
    return TrainingData(
        replace(events, weight=by_map.weight),
        few,
        soft_targets=by_map.soft_targets,
        rank=by_map.rank,
    )


def study_labels(folder: Path, seed: int, *, cleanlab: bool) -> dict[str, dict[str, float]]:
    """How well each ranking finds the wrong labels."""
    bench = draw(folder, seed, OF_LABELS)
    record = plain_of(bench)[1].recorder.dynamics.parts["adapter"]
    return find_wrong(bench, rankings(bench, record, cleanlab=cleanlab))


def study_trainings(folder: Path, seed: int, output: Path) -> dict[str, object]:
    """What the trainings of one seed reach."""
    bench = draw(folder, seed, OF_TRAININGS)
    config, plain = plain_of(bench)
    table, record = bench.train, plain.recorder.dynamics.parts["adapter"]
    dynamics = Dynamics(table.event_digest, table.label, {"adapter": record})
    file = output / f"map-{seed}.parquet"
    map_events(dynamics, "adapter", config.cartography).write(file, "")
    scores = {"plain": plain.score(bench.test)}
    for name, settings in STRATEGIES.items():
        by_map = config_of(seed, f"train.map={file}", *_epochs(bench), *settings)
        used = use_map(table, by_map.train)
        events = table.take(used.kept)
        data = _data(bench, events, guide(used, events, by_map.train.by_map))
        scores[name] = train(bench, by_map, data).score(bench.test)
    scores |= join(bench, plain, config)
    right = np.where(bench.is_flipped, 1 - table.label, table.label).astype(np.int8)
    clean = _data(bench, replace(table, label=right))
    scores["plain, right labels"] = train(bench, config, clean).score(bench.test)
    trained = {name: judge(bench, score) for name, score in scores.items()}
    click.echo(f"seed {seed}: {trained}", err=True)
    n_test = [int((bench.test.label == one).sum()) for one in (1, 0)]
    return {"trained": trained, "n_test": n_test}


@click.group()
def main() -> None:
    """Studies maps of trainings."""


def _common(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--seeds", type=int, default=5),
        click.option("--output", type=click.Path(path_type=Path), required=True),
        click.option("--dataset", type=click.Path(path_type=Path), required=True),
    ):
        command = option(command)
    return command


def _for_each(
    name: str, seeds: int, output: Path, study: Callable[[int], Mapping[str, object]]
) -> None:
    """Writes a file for each seed that has none."""
    torch.set_num_threads(1)
    output.mkdir(parents=True, exist_ok=True)
    for seed in range(1, seeds + 1):
        file = output / f"{name}-{seed}.json"
        if not file.exists():
            file.write_text(json.dumps(study(seed), indent=1))


@main.command("labels")
@_common
@click.option("--cleanlab", is_flag=True, help="Compare with cleanlab, which must be installed.")
def labels_command(dataset: Path, output: Path, seeds: int, *, cleanlab: bool) -> None:
    """Ranks events by how wrong their labels look."""
    _for_each("labels", seeds, output, lambda one: study_labels(dataset, one, cleanlab=cleanlab))


@main.command("train")
@_common
def train_command(dataset: Path, output: Path, seeds: int) -> None:
    """Trains by maps."""
    _for_each("seed", seeds, output, lambda one: study_trainings(dataset, one, output))


def _cell(values: Floats, digits: int, sign: str = "") -> str:
    form = f"{{:{sign}.{digits}f}}"
    between = mean_interval(values, CONFIDENCE)
    ends = "-" if between is None else ", ".join(map(form.format, between))
    return f"{form.format(values.mean())} [{ends}]"


@main.command()
@click.option("--output", type=click.Path(path_type=Path), required=True)
def table(output: Path) -> None:
    """Writes both tables."""
    found = [json.loads(file.read_text()) for file in sorted(output.glob("seed-*.json"))]
    ranked = [json.loads(file.read_text()) for file in sorted(output.glob("labels-*.json"))]
    click.echo(f"{len(ranked)} seeds, {OF_LABELS}\n")
    click.echo("| ranking | AUROC | precision at 5 % | AUROC minus that of the last loss |")
    click.echo("|---|---|---|---|")
    last = "loss of the last epoch"
    reference = np.array([one[last]["auroc"] for one in ranked])
    for name in ranked[0]:
        auroc, precision = (
            np.array([one[name][key] for one in ranked]) for key in ("auroc", "precision")
        )
        difference = "-" if name == last else _cell(auroc - reference, 4, "+")
        click.echo(f"| {name} | {_cell(auroc, 4)} | {_cell(precision, 3)} | {difference} |")

    def column(name: str, key: str) -> Floats:
        return np.array([one["trained"][name][key] for one in found])

    click.echo(f"\n{len(found)} seeds, {OF_TRAININGS}; N_s, N_b of the test: {found[0]['n_test']}")
    ways = [name for name in found[0]["trained"] if name != "plain"]
    differences = {
        (name, key): column(name, key) - column("plain", key)
        for key in ("auc", "sic")
        for name in ways
    }
    tested = [key for key in differences if key[0] not in REFERENCES]
    p_values = dict(
        zip(
            tested,
            holm([paired_p_value(differences[key]) or 0.0 for key in tested]),
            strict=True,
        )
    )
    click.echo("\n| training | AUC | minus plain | p | SIC(0.5) | minus plain | p |")
    click.echo("|---|---|---|---|---|---|---|")
    for name in ("plain", *ways):
        cells = [name]
        for key, digits in (("auc", 4), ("sic", 2)):
            cells.append(_cell(column(name, key), digits))
            given = differences.get((name, key))
            cells.append("-" if given is None else _cell(given, digits, "+"))
            p_value = p_values.get((name, key))
            cells.append("-" if p_value is None else f"{p_value:.2g}")
        click.echo(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
