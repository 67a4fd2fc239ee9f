"""Measures what the spread of an ensemble tells, on random truth; and joins datasets for one.

python tools/studies/ensembles.py spread --output build/spread --worlds 12
python tools/studies/ensembles.py table --output build/spread >> docs/results/ensembles.md
python tools/studies/ensembles.py merge build/standard build/background --output build/mixed

`spread` draws worlds, in each of which two mixtures of normal distributions in six dimensions are
signal and background, so that the true logit of each event is known. Members are the adapter's
encoder of numbers with a linear head (`fit_network`), trained from many seeds on one sample, and on
a second sample. Disjoint groups of K members are ensembles; their mean logit is compared with the
mean of all others, with that of the second sample, and with the truth. A world is kept as a JSON
file, so that it goes on where it was stopped. `merge` writes the events of several datasets with
the same columns as one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import spearmanr
from scipy.stats import t as student

from hepllm.baselines.mlp import fit_network
from hepllm.baselines.scorer import TrainingSample
from hepllm.config import FusionConfig
from hepllm.data.dataset import read_dataset
from hepllm.data.manifest import CutFlowStep
from hepllm.data.writer import DatasetWriter
from hepllm.evaluation.averaging import combine
from hepllm.evaluation.calibration import expit, fit_calibration
from hepllm.evaluation.calibration_choice import choose_calibration
from hepllm.evaluation.scores import ScoredEvents
from hepllm.files import write_aside

Floats = NDArray[np.float64]

DIMENSIONS, PARTS, PRIOR = 6, 3, 0.5
TRAIN, VALIDATION, TEST = 2_000, 2_000, 20_000
MEMBERS, OF_OTHER_SAMPLE = 15, 6
LEVELS = {"68": 0.6827, "95": 0.9545}
SIZES = (3, 5)
FUSION = FusionConfig(hidden_size=64, n_frequencies=8, embedding_size=8)


@dataclass(frozen=True, eq=False)
class World:
    """Two classes, each a mixture of normal distributions of diagonal covariance.

    Attributes:
        means: shape (2, PARTS, DIMENSIONS), background first.
        widths: the same.
    """

    means: Floats
    widths: Floats

    @classmethod
    def of(cls, seed: int) -> World:
        """Draws a world."""
        random = np.random.default_rng([seed, 1])
        shape = (2, PARTS, DIMENSIONS)
        return cls(random.normal(0, 0.8, shape), np.exp(random.normal(0, 0.25, shape)))

    def draw(self, n_events: int, random: np.random.Generator) -> tuple[Floats, NDArray[np.int8]]:
        """Draws events of both classes in equal numbers."""
        label = (np.arange(n_events) % 2).astype(np.int8)
        part = random.integers(0, PARTS, n_events)
        noise = random.normal(size=(n_events, DIMENSIONS))
        return self.means[label, part] + self.widths[label, part] * noise, label

    def logit(self, events: Floats) -> Floats:
        """The true logit of N events, shape (N,)."""
        pulls = (events[:, None, None, :] - self.means) / self.widths
        densities = logsumexp(
            -0.5 * np.square(pulls).sum(axis=-1) - np.log(self.widths).sum(axis=-1), axis=-1
        )
        return densities[:, 1] - densities[:, 0]


def train_members(world: World, stream: int, n_members: int, seed: int, test: Floats) -> Floats:
    """Calibrated logits of the test events by members of one training sample, shape (M, N)."""
    random = np.random.default_rng([seed, stream])
    events, label = world.draw(TRAIN, random)
    known, of_known = world.draw(VALIDATION, random)
    names = tuple(f"x{place}" for place in range(DIMENSIONS))
    logits = []
    for member in range(n_members):
        sample = TrainingSample(events, names, label, seed=1000 * stream + member, fusion=FUSION)
        network = fit_network(sample)
        own = ScoredEvents(network.score(known), of_known, np.ones(len(known)))
        logits.append(choose_calibration(own, "auto", PRIOR).logits(network.score(test)))
    return np.stack(logits)


def measure(seed: int) -> dict[str, float]:
    """All numbers of one world."""
    world = World.of(seed)
    test, label = world.draw(TEST, np.random.default_rng([seed, 2]))
    truth = world.logit(test)
    members = train_members(world, 3, MEMBERS, seed, test)
    others = train_members(world, 4, OF_OTHER_SAMPLE, seed, test).mean(axis=0)
    found: dict[str, list[float]] = {}
    for size in SIZES:
        for start in range(0, MEMBERS - size + 1, size):
            chosen = (np.arange(MEMBERS) >= start) & (np.arange(MEMBERS) < start + size)
            named = {str(place): logits for place, logits in enumerate(members[chosen])}
            mean, spread = combine(named)
            rest, n_rest = members[~chosen].mean(axis=0), int((~chosen).sum())
            _differences(found, f"seeds-{size}", mean - rest, spread, (size, n_rest))
            _differences(found, f"sample-{size}", mean - others, spread, (size, OF_OTHER_SAMPLE))
            _differences(found, f"truth-{size}", mean - truth, spread, (size, np.inf))
            _reliability(found, f"mean-{size}", mean, label, truth)
            known = ScoredEvents(mean[:VALIDATION], label[:VALIDATION], np.ones(VALIDATION))
            again = choose_calibration(known, "auto", PRIOR).logits(mean)
            after = slice(VALIDATION, None)
            name = f"mean calibrated-{size}"
            _reliability(found, name, again[after], label[after], truth[after])
    for logits in members:
        _reliability(found, "one member", logits, label, truth)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _differences(
    found: dict[str, list[float]],
    key: str,
    difference: Floats,
    spread: Floats,
    sizes: tuple[float, float],
) -> None:
    """What the spread tells of a difference of two means over so many members."""
    told = spread * np.sqrt(1 / sizes[0] + 1 / sizes[1])
    for level, share in LEVELS.items():
        reach = student.ppf(0.5 + share / 2, sizes[0] - 1) * told
        covered = float(np.mean(np.abs(difference) <= reach))
        found.setdefault(f"coverage-{level}-{key}", []).append(covered)
    rank = float(spearmanr(spread, np.abs(difference)).statistic)
    found.setdefault(f"rank-{key}", []).append(rank)
    ratio = float(np.sqrt(np.mean(difference**2) / np.mean(told**2)))
    found.setdefault(f"ratio-{key}", []).append(ratio)
    quarters = np.digitize(spread, np.quantile(spread, (0.25, 0.5, 0.75)))
    for quarter in range(4):
        rms = float(np.sqrt(np.mean(difference[quarters == quarter] ** 2)))
        found.setdefault(f"rms-{quarter + 1}-{key}", []).append(rms)


def _reliability(
    found: dict[str, list[float]], name: str, logits: Floats, label: NDArray[np.int8], truth: Floats
) -> None:
    """Slope of a logistic regression of the labels on the logits, and divergence from the truth."""
    events = ScoredEvents(logits, label, np.ones(len(label)))
    found.setdefault(f"slope-{name}", []).append(fit_calibration(events, "platt", PRIOR).slope)
    p, log_q = expit(truth), -np.logaddexp(0, -logits)
    log_p, log_not_q = -np.logaddexp(0, -truth), -np.logaddexp(0, logits)
    log_not_p = -np.logaddexp(0, truth)
    divergence = np.mean(p * (log_p - log_q) + (1 - p) * (log_not_p - log_not_q))
    found.setdefault(f"divergence-{name}", []).append(float(divergence))


@click.group()
def main() -> None:
    """Measures ensembles on random truth."""


@main.command()
@click.option("--output", type=click.Path(path_type=Path), required=True)
@click.option("--worlds", default=12, show_default=True)
@click.option("--seed", default=1, show_default=True, help="Seed of the first world.")
def spread(output: Path, worlds: int, seed: int) -> None:
    """Trains the members of each world, and keeps its numbers."""
    output.mkdir(parents=True, exist_ok=True)
    for world in range(seed, seed + worlds):
        file = output / f"world-{world}.json"
        if not file.exists():
            found = measure(world)
            with write_aside(file) as aside:
                aside.write_text(json.dumps(found, indent=1))
        click.echo(f"world {world}")


@main.command()
@click.option("--output", type=click.Path(path_type=Path), required=True)
def table(output: Path) -> None:
    """Prints means over worlds, with 95 % intervals of Student's t."""
    worlds = [json.loads(file.read_text()) for file in sorted(output.glob("world-*.json"))]
    click.echo(f"{len(worlds)} worlds.\n")

    def cell(name: str, form: str = ".3f") -> str:
        values = np.array([one[name] for one in worlds])
        half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
        return f"{values.mean():{form}} ± {half:{form}}"

    heads = (
        *("mean of K against", "K", "coverage at 68.3 %", "at 95.4 %"),
        *("rms over what the spread tells", "rank correlation", "rms by quarter of the spread"),
    )
    click.echo(f"| {' | '.join(heads)} |")
    click.echo("|---|---|---|---|---|---|---|")
    for name, title in (
        ("seeds", "the mean of the other seeds"),
        ("sample", "the mean of another training sample"),
        ("truth", "the true logit"),
    ):
        for size in SIZES:
            key = f"{name}-{size}"
            quarters = ", ".join(
                f"{np.mean([one[f'rms-{quarter}-{key}'] for one in worlds]):.2f}"
                for quarter in range(1, 5)
            )
            cells = (
                cell(f"coverage-68-{key}"),
                cell(f"coverage-95-{key}"),
                cell(f"ratio-{key}", ".2f"),
                cell(f"rank-{key}", ".2f"),
                quarters,
            )
            click.echo(f"| {title} | {size} | {' | '.join(cells)} |")
    click.echo("\n| classifier | slope of its logits | divergence from the truth |\n|---|---|---|")
    names = ["one member", *(f"{one}-{k}" for one in ("mean", "mean calibrated") for k in SIZES)]
    for name in names:
        click.echo(f"| {name} | {cell(f'slope-{name}')} | {cell(f'divergence-{name}', '.4f')} |")


@main.command()
@click.argument("datasets", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True)
def merge(datasets: tuple[Path, ...], output: Path) -> None:
    """Writes the events of several DATASETS with the same columns as one."""
    opened = [read_dataset(folder) for folder in datasets]
    features = opened[0].manifest.features
    if any(one.manifest.features != features for one in opened):
        raise click.UsageError("the datasets have other features")
    with write_aside(output) as aside:
        aside.mkdir()
        writer = DatasetWriter(aside)
        for one in opened:
            for file in sorted(one.folder.glob("events-*.parquet")):
                writer.write(pq.read_table(file))
        sources = [source for one in opened for source in one.manifest.sources]
        steps = [CutFlowStep(name="events read", events=sum(one.n_events for one in opened))]
        writer.finish(opened[0].manifest.config, sources, steps, features)


if __name__ == "__main__":
    main()
