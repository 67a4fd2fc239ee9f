"""Compares what a classifier of constituents finds with boostings of 21 and of 75 features.

python tools/studies/particles.py train --signal build/standard --background build/background \
    --test build/background-test --output build/particles
python tools/studies/particles.py table --output build/particles >> docs/results/particles.md

`train` fits every classifier of --cases for every seed to the same events, and keeps the scores of
the events that it did not train on; it goes on where it was stopped. Classifiers of particles are
the encoder of the adapter with a linear head, as in the baseline `particles`: "particles-scaled"
reads the constituents in one representation, "both-scaled" also the 21 features, and
"both-scaled-extended" the 75; after "-planed" both classes are trained with one m_jj spectrum
(`train.decorrelate: planing`). `table` measures them, and the mean logits of those that --mean
joins, on the split "choice" (val, and unused training events), from which a classifier is chosen,
and on "test", whose background is another file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from scipy.stats import t as student

from hepllm.baselines.boosting import fit_boosting
from hepllm.baselines.particles import fit_adapter
from hepllm.baselines.scorer import TrainingSample
from hepllm.config import FusionConfig, ParticlesConfig
from hepllm.data.dataset import read_dataset
from hepllm.data.event_table import EventTable, concatenate
from hepllm.data.planing import planing_factors
from hepllm.evaluation.sculpting import passes_at, power_of
from hepllm.learning.inputs import model_inputs
from hepllm.schema import feature_names

Floats = NDArray[np.float64]

SEARCH, EXTENDED = feature_names("search"), feature_names("extended")
WINDOW = (3300.0, 3600.0)
"""GeV; region around the signal in which a cut on the score should not pile up background."""
CUT, EPS_B = 0.02, 0.01
REPLICAS = 400
CONFIDENCE = 0.95
BOOSTINGS = {"boosting": SEARCH, "extended": EXTENDED}
MEAN = " + "
PLANED = "-planed"


@dataclass(frozen=True, eq=False)
class Events:
    """Events with labels, from one or two tables."""

    table: EventTable
    label: NDArray[np.int8]
    m_jj: Floats

    def take(self, which: NDArray) -> Events:
        """Some of the events."""
        return Events(self.table.take(which), self.label[which], self.m_jj[which])


def load(folder: Path, label: int, constituents: int) -> Events:
    """All events of a dataset that has particles and extended features, of one label."""
    names = (*EXTENDED, "m_jj")
    table = read_dataset(folder).load(names, particles=constituents)
    return Events(table, np.full(len(table), label, dtype=np.int8), table.column("m_jj"))


def joined(first: Events, second: Events) -> Events:
    """The events of both."""
    return Events(
        concatenate([first.table, second.table]),
        np.concatenate([first.label, second.label]),
        np.concatenate([first.m_jj, second.m_jj]),
    )


def divide(
    signal: Events, background: Events, test: Events, n_background: int, n_choice: int
) -> dict[str, Events]:
    """Training events, and those of "choice" and "test"."""
    of_train = background.table.split == "train"
    order = np.random.default_rng(1).permutation(np.flatnonzero(of_train))
    used, unused = order[:n_background], order[n_background:]
    rest = np.concatenate([np.flatnonzero(~of_train), unused])[:n_choice]
    split = signal.table.split
    return {
        "train": joined(signal.take(split == "train"), background.take(used)),
        "choice": joined(signal.take(split == "val"), background.take(rest)),
        "test": joined(signal.take(split == "test"), test),
    }


def score_case(
    case: str, events: dict[str, Events], seed: int, epochs: int, sizes: ParticlesConfig
) -> dict[str, Floats]:
    """Trains a classifier, and scores the events of the other splits."""
    train, others = events["train"], ("choice", "test")
    weight = np.where(train.label == 1, (train.label == 0).sum() / (train.label == 1).sum(), 1.0)
    kind, planed, _ = case.partition(PLANED)
    if planed:
        weight = weight * planing_factors(train.m_jj, train.label, weight)
    if kind in BOOSTINGS:
        names = BOOSTINGS[kind]
        boosting = fit_boosting(
            TrainingSample(columns(train, names), names, train.label, weight, seed)
        )
        return {name: boosting.score(columns(events[name], names)) for name in others}
    inputs, representation, *options = kind.split("-")
    names = EXTENDED if "extended" in options else SEARCH
    changes = {"representation": representation, "pairwise": "pairs" in options}
    particles = sizes.model_copy(update=changes)
    fusion = FusionConfig(inputs=inputs, particles=particles)
    sample = TrainingSample(columns(train, names), names, train.label, weight, seed, fusion)
    network = fit_adapter(sample, model_inputs(train.table, names), epochs=epochs)
    return {name: network.score(model_inputs(events[name].table, names)) for name in others}


def columns(events: Events, names: tuple[str, ...]) -> Floats:
    """Features by name, shape (N, F)."""
    return model_inputs(events.table, names).numbers


@click.group()
def main() -> None:
    """Classifiers of particles against those of features."""


@main.command()
@click.option("--signal", type=click.Path(path_type=Path), required=True)
@click.option("--background", type=click.Path(path_type=Path), required=True)
@click.option("--test", type=click.Path(path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--cases", default="boosting,extended,particles-scaled,both-scaled")
@click.option("--seed", default=1, help="First of the --seeds seeds.")
@click.option("--seeds", default=3)
@click.option("--background-events", default=7_200, help="Background events of the training.")
@click.option("--choice-events", default=20_000, help="Background events of the choice.")
@click.option("--width", default=ParticlesConfig().width, help="fusion.particles.width")
@click.option("--constituents", default=ParticlesConfig().max_constituents)
@click.option("--epochs", default=8, help="Passes of classifiers of particles.")
def train(
    *,
    signal: Path,
    background: Path,
    test: Path,
    output: Path,
    cases: str,
    seed: int,
    seeds: int,
    background_events: int,
    choice_events: int,
    width: int,
    constituents: int,
    epochs: int,
) -> None:
    """Fits classifiers and keeps their scores, one file each."""
    output.mkdir(parents=True, exist_ok=True)
    missing = [
        (case, one)
        for one in range(seed, seed + seeds)
        for case in cases.split(",")
        if not (output / f"{case}-{one}.npz").exists()
    ]
    if not missing:
        return
    folders = ((signal, 1), (background, 0), (test, 0))
    loaded = (load(folder, label, constituents) for folder, label in folders)
    events = divide(*loaded, background_events, choice_events)
    sizes = ParticlesConfig(width=width, max_constituents=constituents)
    for name in ("choice", "test"):
        truth = {"label": events[name].label, "m_jj": events[name].m_jj}
        np.savez(output / f"{name}.npz", **truth)
    counts = {name: np.bincount(one.label).tolist() for name, one in events.items()}
    record = {"counts": counts, "epochs": epochs, "width": width, "constituents": constituents}
    (output / "record.json").write_text(json.dumps(record), encoding="utf-8")
    for case, one in missing:
        started = time.process_time()
        scores = score_case(case, events, one, epochs, sizes)
        np.savez(output / f"{case}-{one}.npz", **scores)
        click.echo(f"{case} seed {one}: {time.process_time() - started:.0f} s of CPU")


@dataclass(frozen=True, eq=False)
class Scored:
    """Events in falling score of one classifier and one seed.

    Attributes:
        order: positions of the events in falling score.
        is_signal: their classes, in this order.
        in_window: whether m_jj is in the window, in this order.
        score, m_jj: as the events are.
    """

    order: NDArray[np.intp]
    is_signal: NDArray[np.bool_]
    in_window: NDArray[np.bool_]
    score: Floats
    m_jj: Floats

    @classmethod
    def of(cls, score: Floats, label: NDArray[np.int8], m_jj: Floats) -> Scored:
        """Sorts the events once for all replicas."""
        order = np.argsort(-score, kind="stable")
        window = (m_jj > WINDOW[0]) & (m_jj < WINDOW[1])
        return cls(order, (label == 1)[order], window[order], score, m_jj)

    def measure(self, weight: Floats) -> dict[str, float]:
        """What is measured of events with weights: their counts in a replica."""
        in_order = weight[self.order]
        signal = np.cumsum(np.where(self.is_signal, in_order, 0.0))
        background = np.cumsum(np.where(self.is_signal, 0.0, in_order))
        found = {}
        for eps_s in (0.3, 0.5):
            place = np.searchsorted(signal, eps_s * signal[-1])
            passing = float(background[place])
            found[f"passing{eps_s}"] = passing
            found[f"sic{eps_s}"] = eps_s / (max(passing, 1.0) / background[-1]) ** 0.5
        found["auc"] = float(
            1 - np.dot(np.diff(signal, prepend=0), background) / (signal[-1] * background[-1])
        )
        window = np.cumsum(np.where(self.is_signal | ~self.in_window, 0.0, in_order))
        place = np.searchsorted(background, CUT * background[-1])
        found["sculpting"] = (window[place] / background[place]) / (window[-1] / background[-1])
        return found

    def following(self) -> tuple[float, float]:
        """Spearman's coefficient of the background's score and m_jj, and the power of m_jj."""
        background = self.order[~self.is_signal]
        score, m_jj = self.score[background], self.m_jj[background]
        weight = np.ones(len(score))
        passes = passes_at(score, weight, EPS_B)
        power = power_of(m_jj, weight, passes, confidence=CONFIDENCE)
        correlation = float(spearmanr(score, m_jj).statistic)
        return correlation, np.nan if power.value is None else float(power.value)


@dataclass(frozen=True, eq=False)
class OverSeeds:
    """One classifier: measures of each seed, and of each seed in each replica of the events."""

    values: dict[str, Floats]
    draws: dict[str, Floats]
    following: Floats

    def mean(self, name: str) -> tuple[float, Floats]:
        """Mean over the seeds of a measure, and draws that vary by events and by seeds.

        As ``hepllm.evaluation.seed_intervals`` describes. SIC is averaged in its logarithm.
        """
        values, draws = self.values[name], self.draws[name]
        if name.startswith("sic"):
            values, draws = np.log(values), np.log(draws)
        return varied(values, draws)

    def over(self, other: OverSeeds, name: str) -> tuple[float, Floats]:
        """Mean over the seeds of the logarithm of a ratio, and draws of it, in pairs of one seed.

        The trainings of a pair may share one: a mean of logits has the other in it.
        """
        n_seeds = min(len(self.values[name]), len(other.values[name]))
        values, draws = (
            np.log(one[..., :n_seeds]) - np.log(two[..., :n_seeds])
            for one, two in (
                (self.values[name], other.values[name]),
                (self.draws[name], other.draws[name]),
            )
        )
        return varied(values, draws)


def varied(values: Floats, draws: Floats) -> tuple[float, Floats]:
    """Mean over (S,) seeds, and draws of it: (R, S) replicas of events, and Student's of seeds."""
    found = draws.mean(axis=1)
    if len(values) > 1:
        spread = values.std(ddof=1) / len(values) ** 0.5
        random = np.random.default_rng(3)
        found = found + spread * student.rvs(len(values) - 1, size=len(found), random_state=random)
    return float(values.mean()), found


def kept_scores(output: Path, case: str, name: str) -> list[Floats]:
    """Scores of one set by each seed; of "a + b" the mean of the seeds that both have."""
    parts = case.split(MEAN)
    seeds = [
        {file.stem.rpartition("-")[2] for file in output.glob(f"{part}-[0-9]*.npz")}
        for part in parts
    ]
    return [
        np.mean(
            [np.load(output / f"{part}-{seed}.npz", allow_pickle=False)[name] for part in parts],
            axis=0,
        )
        for seed in sorted(set.intersection(*seeds))
    ]


def over_seeds(output: Path, case: str, truth: dict[str, NDArray], name: str) -> OverSeeds:
    """Measures all kept trainings of a classifier on one set; replicas are shared by all."""
    scored = [
        Scored.of(score, truth["label"], truth["m_jj"]) for score in kept_scores(output, case, name)
    ]
    unit = np.ones(len(truth["label"]))
    nominal = [one.measure(unit) for one in scored]
    random = np.random.default_rng(2)
    weights = (random.poisson(1.0, len(unit)).astype(float) for _ in range(REPLICAS))
    replicas = [[one.measure(weight) for one in scored] for weight in weights]
    return OverSeeds(
        {key: np.array([one[key] for one in nominal]) for key in nominal[0]},
        {key: np.array([[one[key] for one in row] for row in replicas]) for key in nominal[0]},
        np.mean([one.following() for one in scored], axis=0),
    )


def ends(draws: Floats) -> str:
    """An interval from draws."""
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return f"[{low:.2f}, {high:.2f}]"


@main.command()
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--mean", "means", multiple=True, help='Mean logits, "particles-scaled + extended".')
@click.option("--sets", default="choice,test", show_default=True)
@click.option("--cases", help="Only these, and the boostings, by commas; all by default.")
def table(output: Path, means: Sequence[str], sets: str, cases: str | None) -> None:
    """Prints a table of each set in Markdown."""
    record = json.loads((output / "record.json").read_text(encoding="utf-8"))
    kept = {file.stem.rpartition("-")[0] for file in output.glob("*-[0-9]*.npz")}
    if cases is not None:
        kept &= {*BOOSTINGS, *cases.split(",")}
    ordered = [*sorted(kept, key=lambda case: (case not in BOOSTINGS, case)), *means]
    for name in sets.split(","):
        truth = dict(np.load(output / f"{name}.npz", allow_pickle=False))
        found = {case: over_seeds(output, case, truth, name) for case in ordered}
        n_background, n_signal = record["counts"][name]
        click.echo(f"\n**{name}**: {n_background:,} background and {n_signal:,} signal events\n")
        click.echo(
            "| classifier | seeds | AUC | SIC at 0.3 | SIC at 0.5 | background passing at 0.5 | "
            "SIC over boosting | SIC over extended | window after a 2 % cut | rank correlation | "
            "power of m_jj |"
        )
        click.echo("|---|---|---|---|---|---|---|---|---|---|---|")
        for case in ordered:
            click.echo(row_of(case, found))


def row_of(case: str, found: dict[str, OverSeeds]) -> str:
    """One row of a table."""
    one = found[case]
    log_sic, draws = one.mean("sic0.5")
    ratios = []
    for other in BOOSTINGS:
        ratio, of_ratio = one.over(found[other], "sic0.5")
        shown = f"{np.exp(ratio):.2f} {ends(np.exp(of_ratio))}"
        ratios.append(shown if case != other else "")
    window, of_window = one.mean("sculpting")
    cells = (
        f"`{case}`",
        len(one.values["auc"]),
        f"{one.values['auc'].mean():.4f}",
        f"{np.exp(one.mean('sic0.3')[0]):.1f} {ends(np.exp(one.mean('sic0.3')[1]))}",
        f"{np.exp(log_sic):.1f} {ends(np.exp(draws))}",
        ", ".join(f"{passing:.0f}" for passing in one.values["passing0.5"]),
        *ratios,
        f"{window:.2f} {ends(of_window)}",
        *(f"{value:.2f}" for value in one.following),
    )
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
