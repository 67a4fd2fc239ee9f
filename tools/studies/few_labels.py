"""Measures what classifiers learn from few labels and many events without.

    hepllm simulate ...; hepllm preprocess ...     # or any labelled datasets
    python tools/studies/few_labels.py DATASET... --output build/few-labels [--other DATASET...]

The datasets together have events of both classes in all splits. For each number of labels (half of
them signal) and each seed, classifiers are trained on the same events and tested on the test split:
boosting, MLP, the adapter of hepllm with a linear layer in place of the language model (supervised,
with the risk of unlabelled events, and self-trained), and the language model with it, which
takes long and comes last (``--method model``: it alone). The unlabelled events have 10 % signal.
``--other`` names datasets of another detector or simulation: unlabelled events from there, and
tests there. Results are appended to results.jsonl, from which a call that is repeated goes on;
few_labels_tables.py makes tables and the picture of them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score, roc_curve

from hepllm.arrays import Floats
from hepllm.baselines.boosting import Boosting, fit_boosting
from hepllm.baselines.mlp import fit_network
from hepllm.baselines.scorer import TrainingSample
from hepllm.config import Config, SelfTrainingConfig, load_config
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable, concatenate
from hepllm.errors import InputError
from hepllm.evaluation.calibration import expit, fit_calibration
from hepllm.evaluation.scores import scored_events
from hepllm.learning.adapter_alone import AdapterAlone, fit_alone, train_adapter_alone
from hepllm.learning.inputs import model_inputs
from hepllm.learning.plan import TrainingPlan
from hepllm.learning.pseudo_labels import choose_pseudo_labels, with_noise
from hepllm.learning.steps import Trainer, TrainingData
from hepllm.learning.unsupervised_risk import (
    Kind,
    NoMixtureError,
    estimate,
    labelled_hinge_risk,
)
from hepllm.model.scoring import score_events
from hepllm.runs.folder import make_classifier
from hepllm.schema import BACKGROUND, SIGNAL

PRIOR, POOL, STEPS = 0.1, 20_000, 120
LABELS = (8, 32, 128, 512, 2048)
WEIGHTS = (0.1, 10.0, 100.0, 500.0)
"""Weights beside 1 of the unlabelled term."""

FEW = 32
"""Labels with which weights and priors are compared."""

SMALL = ("fusion.hidden_size=64", "fusion.n_frequencies=8", "fusion.embedding_size=8")
"""Sizes of the adapter, which few labels need small."""

RISKS = ("mixture", "split", "posterior")
HEAVY, HEAVY_WEIGHT, HEAVY_LABELS = "posterior-heavy", 100.0, 128
HEAVY_PRIORS = (PRIOR / 2, 2 * PRIOR, 4 * PRIOR)
"""The posterior penalty with a weight that makes it outweigh the labels, and wrong priors of it."""

METHODS = (
    "supervised",
    "mixture",
    "self-confident",
    "boosting",
    "mlp",
    "posterior",
    "self-middle",
    HEAVY,
)
SHIFTED_LABELS = (128, 2048)
SHIFTED_METHODS = (
    "supervised",
    "mixture",
    "self-confident",
    "boosting",
    "posterior",
    "split",
    HEAVY,
)
N_CORE = 5
"""First methods, whose trainings come first."""

MODEL, MODEL_FIRST, MODEL_TEST = "model", (32, 512), 6000
"""The language model: its name, labels whose trainings come first, and events of its test."""

MODEL_HEAVY, MODEL_HEAVY_LABELS = "model-heavy", (128, 512)
"""The same with the heavy penalty: its name, and the labels of its trainings."""

FEWEST_OF_PROJECT = 40
"""Labels from which the project's boosting and MLP train, which refuse 20 of a class."""


@dataclass(frozen=True, eq=False)
class Events:
    """Events of one simulation: to train on, and to test on."""

    train: EventTable
    test: EventTable

    @classmethod
    def read(cls, folders: Sequence[Path], names: tuple[str, ...]) -> Events:
        """Reads labelled datasets."""
        return cls(
            *(
                concatenate([read_dataset(one).load(names, split) for one in folders])
                for split in ("train", "test")
            )
        )


@dataclass(frozen=True, eq=False)
class Draw:
    """Events of one number of labels and one seed: labelled, for calibration, and the pool."""

    labelled: EventTable
    validation: EventTable
    pool: EventTable
    test: EventTable


def draw(events: Events, other: Events | None, n_labels: int, seed: int) -> Draw:
    """Draws disjoint events; those without labels and of the test are of ``other``, if given."""
    random = np.random.default_rng([seed, 11])
    classes = [random.permutation(np.flatnonzero(events.train.label == one)) for one in (0, 1)]
    half, parts = n_labels // 2, []
    for start in (0, half):
        rows = np.concatenate([rows[start : start + half] for rows in classes])
        parts.append(events.train.take(random.permutation(rows)))
    where = events if other is None else other
    first = n_labels if other is None else 0
    left = [np.flatnonzero(where.train.label == one) for one in (BACKGROUND, SIGNAL)]
    left = (
        [rows[first:] for rows in classes]
        if other is None
        else [random.permutation(rows) for rows in left]
    )
    n_pool = int(min(POOL, len(left[SIGNAL]) / PRIOR))
    sizes = (round((1 - PRIOR) * n_pool), round(PRIOR * n_pool))
    rows = np.concatenate([part[:size] for part, size in zip(left, sizes, strict=True)])
    return Draw(*parts, where.train.take(random.permutation(rows)), where.test)


def area(score: Floats, table: EventTable) -> float:
    """AUC of the test."""
    return float(roc_auc_score(table.label, score))


def background_at_half(score: Floats, table: EventTable) -> float:
    """Share of background that is kept with half of the signal; ties are interpolated."""
    eps_b, eps_s, _ = roc_curve(table.label == SIGNAL, score, drop_intermediate=False)
    return float(np.interp(0.5, eps_s, eps_b))


def sample_of(table: EventTable, seed: int) -> TrainingSample:
    """The labelled events as baselines take them."""
    return TrainingSample(table.features, table.names, table.label, seed=seed)


def boosted(given: Draw, seed: int) -> Floats:
    """Scores of the test by boosting; with few labels the same trees without early stopping."""
    if len(given.labelled) >= FEWEST_OF_PROJECT:
        return fit_boosting(sample_of(given.labelled, seed)).score(given.test.features)
    trees = HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=100,
        max_leaf_nodes=15,
        min_samples_leaf=2,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )
    columns = np.flatnonzero(~np.isnan(given.labelled.features).all(axis=0))
    trees.fit(given.labelled.features[:, columns], given.labelled.label)
    return Boosting(trees, columns).score(given.test.features)


def network(given: Draw, seed: int) -> Floats:
    """Scores of the test by the MLP."""
    return fit_network(sample_of(given.labelled, seed)).score(given.test.features)


def adapter(
    given: Draw,
    seed: int,
    *settings: str,
    train: EventTable | None = None,
    targets: Floats | None = None,
) -> AdapterAlone:
    """Trains the adapter alone; its scales are always those of the unlabelled events."""
    train = given.labelled if train is None else train
    epochs = STEPS / (len(train) // min(128, len(train)))
    config = load_config(
        None,
        [
            f"seed={seed}",
            "backbone.name=tiny-random",
            "backbone.device=cpu",
            *SMALL,
            f"train.nfa_alone.epochs={epochs}",
            *settings,
        ],
    )
    data = TrainingData(train, given.validation, soft_targets=targets, unlabelled=given.pool)
    trainer = Trainer.fresh(*make_classifier(config), data, TrainingPlan.of(config))
    nfa = trainer.classifier.nfa
    if nfa is None:
        raise RuntimeError("the default configuration has an adapter")
    nfa.fit(model_inputs(given.pool))
    return fit_alone(nfa, trainer)


def language_model(
    given: Draw, seed: int, name: str, settings: Sequence[str] = ()
) -> dict[str, float]:
    """Trains adapter and language model on the labelled events, and tests on part of the test.

    The adapter does its steps alone first, then both as many; the last weights are taken, since
    no validation events are to be had. Scales are those of the unlabelled events.

    Returns:
        What the test says, and as ``auc_alone`` what the adapter has on the same events before the
        language model joins, with its linear layer.
    """
    trainer, before = begin(given, seed, name, settings)
    given = replace(given, test=part_of(given.test))
    inputs = model_inputs(given.test)
    alone = found_on(before.score(inputs), given)
    for step in range(trainer.total_steps):
        trainer.step(step, measure=False)
    score = score_events(trainer.classifier, trainer.encoder, inputs, batch_size=None)
    return found_on(score, given) | {f"{what}_alone": value for what, value in alone.items()}


def begin(
    given: Draw, seed: int, name: str, settings: Sequence[str] = ()
) -> tuple[Trainer, AdapterAlone]:
    """Makes a language model whose adapter has done its steps alone, and that adapter."""
    epochs = STEPS / (len(given.labelled) // min(128, len(given.labelled)))
    chosen = [f"seed={seed}", f"backbone.name={name}", "backbone.device=cpu", *SMALL]
    chosen += [f"train.nfa_alone.epochs={epochs}", f"train.epochs={epochs}", *settings]
    config = load_config(None, chosen)
    data = TrainingData(given.labelled, given.validation, unlabelled=given.pool)
    trainer = Trainer.fresh(*make_classifier(config), data, TrainingPlan.of(config))
    nfa = trainer.classifier.nfa
    if nfa is None:
        raise RuntimeError("the default configuration has an adapter")
    nfa.fit(model_inputs(given.pool))
    head = train_adapter_alone(trainer)
    if head is None:
        raise RuntimeError("the adapter has steps alone")
    alone = AdapterAlone(nfa)
    alone.head = head
    return trainer, alone


def part_of(test: EventTable) -> EventTable:
    """The events of the test that the language model scores, the same in all trainings."""
    random = np.random.default_rng(13)
    rows = [
        random.permutation(np.flatnonzero(test.label == one))[: MODEL_TEST // 2]
        for one in (BACKGROUND, SIGNAL)
    ]
    return test.take(np.concatenate(rows))


def with_risk(
    given: Draw, seed: int, kind: Kind, weight: float = 1.0, prior: float = PRIOR
) -> AdapterAlone:
    """The adapter with a term on the unlabelled events."""
    return adapter(given, seed, *risk_settings(kind, weight, prior))


def risk_settings(kind: Kind, weight: float, prior: float, events: int = 600) -> tuple[str, ...]:
    """Settings of the term; 600 events have 30 of signal at the least prior here."""
    return (
        f"train.unsupervised.weight={weight}",
        f"train.unsupervised.prior={prior}",
        f"train.unsupervised.kind={kind}",
        f"train.unsupervised.events={events}",
    )


def self_trained(
    given: Draw, seed: int, config: SelfTrainingConfig, first: AdapterAlone
) -> AdapterAlone:
    """Rounds of self-training from a supervised adapter, calibrated on as many other labels."""
    model = first
    for number in range(config.rounds):
        score = model.score(model_inputs(given.pool))
        held = scored_events(model.score(model_inputs(given.validation)), given.validation.label)
        try:
            target = fit_calibration(held, "temperature", 0.5).probabilities(score)
        except InputError:  # so few labels are in the wrong order
            target = expit(score)
        half = len(given.labelled) / 2
        chosen = choose_pseudo_labels(score, target, (half, half), PRIOR, config)
        extra = given.pool.take(chosen.events)
        extra = replace(
            extra,
            label=chosen.is_signal.astype(np.int8),
            weight=chosen.weight,
            features=with_noise(extra.features, chosen.is_signal, config.noise, seed, number),
        )
        labelled = given.labelled.take(np.tile(np.arange(len(given.labelled)), chosen.repeats))
        both = concatenate([labelled, extra])
        targets = np.concatenate([labelled.label.astype(np.float64), chosen.target])
        model = adapter(given, seed + 100 * (number + 1), train=both, targets=targets)
    return model


@dataclass(frozen=True)
class Job:
    """One training to be done.

    Attributes:
        part: which question it belongs to.
        method: name of the classifier.
        n_labels: labelled events.
        seed: seed.
        weight: weight of the unlabelled term.
        prior: stated share of signal.
        shifted: whether the unlabelled events and the test are of the other simulation.
    """

    part: str
    method: str
    n_labels: int
    seed: int
    weight: float = 1.0
    prior: float = PRIOR
    shifted: bool = False

    def run(self, given: Draw) -> dict[str, float]:
        """Trains, and returns what the test says."""
        if self.method == MODEL:
            return language_model(given, self.seed, "smollm2")
        if self.method == MODEL_HEAVY:
            # As few events as an estimate may have, since the language model reads them all.
            term = risk_settings("posterior", HEAVY_WEIGHT, self.prior, events=300)
            return language_model(given, self.seed, "smollm2", term)
        if self.method in ("boosting", "mlp"):
            score = (boosted if self.method == "boosting" else network)(given, self.seed)
            return found_on(score, given)
        if self.method == "supervised":
            model = adapter(given, self.seed)
        elif self.method == HEAVY:
            model = with_risk(given, self.seed, "posterior", HEAVY_WEIGHT, self.prior)
        elif self.method in RISKS:
            kind: Kind = self.method  # type: ignore[assignment]
            model = with_risk(given, self.seed, kind, self.weight, self.prior)
        else:
            band = self.method.removeprefix("self-")
            config = SelfTrainingConfig(rounds=1, band=band)  # type: ignore[arg-type]
            model = self_trained(given, self.seed, config, adapter(given, self.seed))
        found = found_on(model.score(model_inputs(given.test)), given)
        return found | risks_on(model.score(model_inputs(given.pool)), given.pool)


def found_on(score: Floats, given: Draw) -> dict[str, float]:
    """AUC, and the background that is kept with half of the signal."""
    return {"auc": area(score, given.test), "eps_b": background_at_half(score, given.test)}


def risks_on(score: Floats, pool: EventTable) -> dict[str, float]:
    """The labelled risk of the pool at the odds of the prior, and those without labels over it."""
    shifted = score + np.log(PRIOR / (1 - PRIOR))
    expected = labelled_hinge_risk(shifted, pool.label == SIGNAL, PRIOR)
    found = {"risk": expected, "called": float((shifted > 0).mean())}
    for kind in ("mixture", "split"):
        try:
            found[f"risk_{kind}"] = estimate(shifted, PRIOR, kind).value / expected  # type: ignore[arg-type]
        except NoMixtureError:
            continue
    return found


def jobs(seeds: int, has_other: bool) -> list[Job]:
    """All trainings, the most telling first: a study that is stopped has these."""
    ordered = []
    for seed in range(1, seeds + 1):
        for n_labels, (place, method) in itertools.product(LABELS, enumerate(METHODS)):
            if method != "mlp" or n_labels >= FEWEST_OF_PROJECT:
                later = 10 * (place >= N_CORE) + (seed > 3)
                ordered.append((later, Job("labels", method, n_labels, seed)))
        for place, method in enumerate(RISKS):
            others = [Job("prior", method, FEW, seed, prior=one) for one in (PRIOR / 2, 2 * PRIOR)]
            others += [Job("weight", method, FEW, seed, weight=one) for one in WEIGHTS]
            ordered += [(seed + 10 * place, one) for one in others]
        heavy = [Job("prior", HEAVY, HEAVY_LABELS, seed, prior=one) for one in HEAVY_PRIORS]
        ordered += [(seed + 30, one) for one in heavy]
        if has_other:
            for n_labels, (place, method) in itertools.product(
                SHIFTED_LABELS, enumerate(SHIFTED_METHODS)
            ):
                job = Job("shift", method, n_labels, seed, shifted=True)
                ordered.append((seed + 10 * (place >= N_CORE), job))
    ordered += [
        (100 + seed + 100 * (n_labels not in MODEL_FIRST), Job("labels", MODEL, n_labels, seed))
        for seed in range(1, seeds + 1)
        for n_labels in LABELS
    ]
    ordered += [
        (300 + seed, Job("labels", MODEL_HEAVY, n_labels, seed))
        for seed in range(1, seeds + 1)
        for n_labels in MODEL_HEAVY_LABELS
    ]
    return [job for _, job in sorted(ordered, key=lambda one: one[0])]


def main() -> None:
    """Trains what is missing, and prints tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--other", nargs="*", type=Path, default=[])
    parser.add_argument("--output", type=Path, default=Path("build/few-labels"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--method", help="Only this classifier, such as model.")
    given = parser.parse_args()
    logging.getLogger("hepllm").setLevel(logging.ERROR)
    given.output.mkdir(parents=True, exist_ok=True)
    results = given.output / "results.jsonl"
    done = (
        [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    )
    names = Config().train.feature_names()
    here = Events.read(given.datasets, names)
    there = Events.read(given.other, names) if given.other else None
    for job in jobs(given.seeds, there is not None):
        if any(one["job"] == vars(job) for one in done) or given.method not in (None, job.method):
            continue
        started = time.process_time()
        found = job.run(draw(here, there if job.shifted else None, job.n_labels, job.seed))
        seconds = time.process_time() - started
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"job": vars(job), "seconds": round(seconds, 2), **found}) + "\n")
        print(job, {name: round(value, 4) for name, value in found.items()}, flush=True)


if __name__ == "__main__":
    main()
