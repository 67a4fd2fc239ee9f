"""How often intervals of a difference between two classifiers cover, with few trainings of each.

python tools/studies/seed_intervals.py > table.md    # docs/results/seeds.md

Each trial draws a truth: events of two classes in 8 features, and two recipes, each of which gives
linear classifiers whose weights scatter from training to training. The AUC and the SIC of a linear
classifier are known exactly, and so is the mean over trainings. The trial then draws n trainings of
each recipe and one test sample, on which all are measured.

"paired": the two classifiers come from the same runs, as the model and a baseline of each seed.
"two groups": the runs of two recipes. The intervals, all from the same replicas of the events:

one training    the first run of each recipe, with the variance of events: what a single run tells
events          mean over the runs, with the variance of events alone
resampled       hierarchical bootstrap: runs and events drawn with replacement
widened         the same, with the scatter of the runs times sqrt(n / (n - 1))
Welch           normal, with Student's quantile for the degrees of freedom of the sum of variances
hepllm          replicas of the events plus Student's t for each recipe, as `hepllm eval` has it
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from hepllm.evaluation.bootstrap import bootstrap
from hepllm.evaluation.efficiency import clopper_pearson
from hepllm.evaluation.metrics import auc, roc, sic_at
from hepllm.evaluation.scores import ScoredEvents
from hepllm.evaluation.seed_intervals import OverRuns, estimate_mean

Floats = NDArray[np.float64]
Ends = tuple[float, float]

CONFIDENCE = 0.95
N_MIN = 10
N_FEATURES = 8
EPS_S = 0.3
SAMPLES = ((300, 3000), (800, 3000), (100, 5000))
"""Signal and background events of a test sample."""
REFERENCE = 20_000
"""Trainings whose mean is the truth."""


@dataclass(frozen=True)
class Truth:
    """Two recipes and the events that they are measured on.

    Attributes:
        shift: distance of the classes along the first feature.
        weights: (2, 8) mean weights of each recipe.
        scatter: standard deviation of the weights of each recipe from training to training.
        n_signal: signal events.
        n_background: background events.
    """

    shift: float
    weights: Floats
    scatter: Floats
    n_signal: int
    n_background: int

    def train(self, recipe: int, n_runs: int, generator: np.random.Generator) -> Floats:
        """Weights of trainings, shape (n_runs, 8), of length 1."""
        drawn = self.weights[recipe] + self.scatter[recipe] * generator.normal(
            size=(n_runs, N_FEATURES)
        )
        return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))

    def difference(self, generator: np.random.Generator) -> dict[str, float]:
        """Difference of the mean AUC and of the mean SIC over many trainings."""
        ours, theirs = (
            self.shift * self.train(recipe, REFERENCE, generator)[:, 0] for recipe in (0, 1)
        )
        return {
            "AUC": float(_auc(ours).mean() - _auc(theirs).mean()),
            "SIC(0.3)": float(_sic(ours).mean() - _sic(theirs).mean()),
        }


def _auc(distance: Floats) -> Floats:
    """AUC of two normal distributions of width 1 at a distance."""
    return np.asarray(norm.cdf(distance / np.sqrt(2)))


def _sic(distance: Floats) -> Floats:
    """SIC at a signal efficiency of two normal distributions at a distance."""
    return np.asarray(EPS_S / np.sqrt(norm.sf(distance + norm.isf(EPS_S))))


def draw_truth(generator: np.random.Generator) -> Truth:
    """A truth: scatter from negligible beside the events to dominant."""
    weights = np.zeros((2, N_FEATURES))
    weights[:, 0] = 1
    weights[1, 1] = generator.uniform(0, 0.4)
    scatter = 10 ** generator.uniform(-2, -0.3, size=2)
    n_signal, n_background = SAMPLES[generator.integers(len(SAMPLES))]
    return Truth(generator.uniform(1.6, 2.6), weights, scatter, n_signal, n_background)


def measure(
    truth: Truth, n_runs: int, n_replicas: int, seed: int, generator: np.random.Generator
) -> dict[str, list[OverRuns]]:
    """Both recipes by metric; a metric with too little background in a run is left out."""
    n_events = truth.n_signal + truth.n_background
    label = np.repeat([1, 0], [truth.n_signal, truth.n_background])
    features = generator.normal(size=(n_events, N_FEATURES))
    features[:, 0] += truth.shift * label
    weights = [truth.train(recipe, n_runs, generator) for recipe in (0, 1)]
    events = {
        f"{recipe} {run}": ScoredEvents(features @ weights[recipe][run], label, np.ones(n_events))
        for recipe in (0, 1)
        for run in range(n_runs)
    }
    drawn = bootstrap(events, dict.fromkeys(events, ()), (EPS_S,), n_replicas, seed)
    curves = {name: roc(one) for name, one in events.items()}
    values = {
        "AUC": {name: auc(one).value for name, one in events.items()},
        "SIC(0.3)": {name: sic_at(one, EPS_S, N_MIN).sic for name, one in curves.items()},
    }
    draws = {
        "AUC": {name: one.auc for name, one in drawn.items()},
        "SIC(0.3)": {name: one.sic_at()[:, 0] for name, one in drawn.items()},
    }
    return {
        metric: [
            OverRuns(
                np.array([of[f"{recipe} {run}"] for run in range(n_runs)], dtype=np.float64),
                np.column_stack([draws[metric][f"{recipe} {run}"] for run in range(n_runs)]),
            )
            for recipe in (0, 1)
        ]
        for metric, of in values.items()
        if None not in of.values()
    }


def intervals(
    ours: OverRuns, theirs: OverRuns, *, paired: bool, generator: np.random.Generator
) -> dict[str, Ends]:
    """All intervals of the difference of two means."""
    terms = [ours.minus(theirs)] if paired else [ours, _negative(theirs)]
    value = sum(float(one.values.mean()) for one in terms)
    of_events = sum((one.draws.mean(axis=1) for one in terms), np.zeros(len(ours.draws)))
    resampled = [_resample(one, generator) for one in terms]
    n_runs = len(ours.values)
    widened = np.sqrt(n_runs / (n_runs - 1))
    found = estimate_mean(
        *((terms[0], None) if paired else (ours, theirs)), CONFIDENCE, 1.0, generator=generator
    )
    return {
        "one training": _percentiles(ours.draws[:, 0] - theirs.draws[:, 0]),
        "events": _percentiles(of_events),
        "resampled": _percentiles(of_events + sum(resampled)),
        "widened": _percentiles(of_events + widened * sum(resampled)),
        "Welch": _welch(value, of_events, terms),
        "hepllm": found.interval or (np.nan, np.nan),
    }


def _negative(one: OverRuns) -> OverRuns:
    return OverRuns(-one.values, -one.draws)


def _resample(one: OverRuns, generator: np.random.Generator) -> Floats:
    """The mean over drawn runs minus that over all, in each replica of the events."""
    chosen = generator.integers(len(one.values), size=one.draws.shape)
    drawn = np.take_along_axis(one.draws, chosen, axis=1)
    return np.asarray(drawn.mean(axis=1) - one.draws.mean(axis=1))


def _percentiles(draws: Floats) -> Ends:
    low, high = np.nanquantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _welch(value: float, of_events: Floats, terms: Sequence[OverRuns]) -> Ends:
    squares = [one.values.var(ddof=1) / len(one.values) for one in terms]
    total = float(np.nanvar(of_events, ddof=1) + sum(squares))
    spent = sum(one**2 / (len(term.values) - 1) for one, term in zip(squares, terms, strict=True))
    half = float(t.ppf((1 + CONFIDENCE) / 2, total**2 / spent) * np.sqrt(total))
    return value - half, value + half


def study(
    n_runs: int, n_trials: int, n_replicas: int, seed: int, *, paired: bool
) -> dict[str, dict[str, list[tuple[bool, float]]]]:
    """Whether each interval covers, and its width, by metric and interval."""
    found: dict[str, dict[str, list[tuple[bool, float]]]] = {}
    for trial in range(n_trials):
        generator = np.random.default_rng([seed, trial, n_runs, paired])
        truth = draw_truth(generator)
        true = truth.difference(generator)
        for metric, (ours, theirs) in measure(truth, n_runs, n_replicas, trial, generator).items():
            ends = intervals(ours, theirs, paired=paired, generator=generator)
            for name, (low, high) in ends.items():
                one = (bool(low <= true[metric] <= high), high - low)
                found.setdefault(metric, {}).setdefault(name, []).append(one)
    return found


def rows(title: str, found: Mapping[str, Mapping[str, Sequence[tuple[bool, float]]]]) -> list[str]:
    """Rows of the table: coverage with its Clopper-Pearson interval, and the median width."""
    lines = []
    for metric, by_name in found.items():
        cells = []
        for trials in by_name.values():
            n_covered, n = sum(covered for covered, _ in trials), len(trials)
            low, high = clopper_pearson(n_covered, n)
            cells.append(f"{n_covered / n:.3f} [{low:.3f}, {high:.3f}]")
        reference = np.median([width for _, width in by_name["hepllm"]])
        widths = [np.median([width for _, width in by_name[name]]) for name in by_name]
        shown = "; ".join(f"{width / reference:.2f}" for width in widths)
        n_trials = len(by_name["hepllm"])
        lines.append(f"| {title} | {metric} | {n_trials} | {' | '.join(cells)} | {shown} |")
    return lines


@click.command()
@click.option("--trials", type=click.IntRange(1), default=500, show_default=True)
@click.option("--runs", type=click.IntRange(2), multiple=True, default=(3, 5, 10))
@click.option("--replicas", type=click.IntRange(20), default=200, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
def main(trials: int, runs: tuple[int, ...], replicas: int, seed: int) -> None:
    """Prints the coverage of each interval as a Markdown table."""
    names = ("one training", "events", "resampled", "widened", "Welch", "hepllm")
    click.echo(f"| runs | metric | trials | {' | '.join(names)} | widths over that of hepllm |")
    click.echo("|---|---|---" + "|---" * (len(names) + 1) + "|")
    for paired in (True, False):
        for n_runs in runs:
            found = study(n_runs, trials, replicas, seed, paired=paired)
            title = f"{n_runs}, {'paired' if paired else 'two groups'}"
            for line in rows(title, found):
                click.echo(line)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
